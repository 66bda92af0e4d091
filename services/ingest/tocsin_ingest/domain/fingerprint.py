"""Which alerts are the same one, and which belong together."""

import hashlib
from collections.abc import Iterable, Mapping


def fingerprint(labels: Mapping[str, str], source: str, summary: str) -> str:
    """The dedup key of an alert that brings none: of its labels, else of its source and summary. 64 hex digits."""
    if labels:
        return _digest("labels", *(part for name in sorted(labels) for part in (name, labels[name])))
    return _digest("text", source, summary)


def group_key(policy: str, group_by: Iterable[str], labels: Mapping[str, str]) -> str:
    """The key shared by alerts that agree in the labels `group_by` names; a missing label has the value "".

    The policy is part of it: two rules may group by the same labels for two teams, and an alert that joined the other
    team's incident would page nobody of its own.
    """
    names = sorted(group_by)
    return "g:" + _digest("group", policy, *(part for name in names for part in (name, labels.get(name, ""))))


def single_key(dedup_key: str) -> str:
    """The group key of an alert whose rule groups by nothing: it shares its incident with its own key only."""
    return "k:" + dedup_key


def _digest(*parts: str) -> str:
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()

"""Which alerts are the same one, and which belong together.

Keys are hashes over the whole scope, tenant and integration included: one short column to search, of the same length for every
sender, and no key of one tenant can equal another's. They have the 16 bytes of a UUID, since a column of that type holds them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache


def fingerprint(labels: Mapping[str, str], source: str, summary: str) -> str:
    """The dedup key of an alert without one: a hash of its labels, else of its source and summary. 64 hex digits."""
    if labels:
        return _digest("labels", *(part for name in sorted(labels) for part in (name, labels[name]))).hex()
    return _digest("text", source, summary).hex()


def prometheus_fingerprint(labels: Mapping[str, str]) -> str:
    """Prometheus' and Alertmanager's fingerprint of a label set: FNV-1a of 64 bits, in 16 hex digits.

    So an alert is the same one whether Prometheus sends it or Alertmanager's webhook does.
    https://github.com/prometheus/common/blob/main/model/signature.go
    """
    data = b"".join(part.encode() + b"\xff" for name in sorted(labels) for part in (name, labels[name]))
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def alert_key(org_id: str, integration_id: str, dedup_key: str) -> bytes:
    """Two alerts with the same one are the same alert."""
    return _digest_in(("alert", org_id, integration_id), dedup_key)[:16]


def group_key(
    org_id: str, integration_id: str, dedup_key: str, policy: str, group_by: Sequence[str], labels: Mapping[str, str]
) -> bytes:
    """Two alerts with the same one share an incident: those that agree in the labels `group_by` names.

    A missing label has the value "". Without `group_by` an alert shares its incident with its own dedup key only. The policy is
    part of a group: two rules may group by the same labels for two teams, and an alert that joined the other team's incident
    would page no one of its own team.
    """
    if not group_by:
        return _digest_in(("single", org_id, integration_id), dedup_key)[:16]
    if len(group_by) == 1:
        (name,) = group_by
        return _group_key(org_id, integration_id, policy, name, labels.get(name, ""))
    values = (part for name in sorted(group_by) for part in (name, labels.get(name, "")))
    return _group_key(org_id, integration_id, policy, *values)


@lru_cache(4096)
def _group_key(*parts: str) -> bytes:
    """A storm has few groups, of many alerts each."""
    return _digest("group", *parts)[:16]


def _digest(*parts: str) -> bytes:
    # In one piece: each step of a digest costs as much as its start.
    return hashlib.sha256(b"".join(map(_piece, parts))).digest()


def _digest_in(scope: tuple[str, ...], key: str) -> bytes:
    """The digest of the scope's parts and the key."""
    return hashlib.sha256(_pieces(scope) + _piece(key)).digest()


@lru_cache(4096)
def _pieces(parts: tuple[str, ...]) -> bytes:
    """A batch has few scopes, of many alerts each."""
    return b"".join(map(_piece, parts))


def _piece(part: str) -> bytes:
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    data = part.encode()
    return b"%d:%b" % (len(data), data)

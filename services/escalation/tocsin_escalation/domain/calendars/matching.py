"""Which users an event of an external calendar is about.

The rule: the attendees who have not declined; if none of them is known, the names in the summary. A text is compared, in this
order, with the names that the import defines, the ids of users, and their display names; of an e-mail address the part before the
`@` is compared as well. Case does not matter. In a summary a part in brackets and all up to a colon are left out (`[L2] On call:
Ana`), and several names are divided by `,`, `;`, `/`, `+` or `&`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final


class NotRead(Exception):
    """The calendar cannot be read; the message says why, and contains no part of the URL except its host."""


@dataclass(frozen=True, slots=True)
class Event:
    """Within [start, end), in minutes."""

    start: int
    end: int
    attendees: tuple[str, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The content of a calendar. `cut`: there are more events. `unread`: the summaries of events that cannot be read."""

    events: Sequence[Event]
    cut: bool
    unread: Sequence[str] = ()


_BRACKETS: Final = re.compile(r"\[[^\]]*\]|\([^)]*\)")
_DIVIDED: Final = re.compile(r"[,;/+&]")
MOST_TEXTS: Final = 20
"""Of one event."""


def texts_of(attendees: Iterable[str], summary: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts that may name users, in lower case: the attendees, and the names in the summary."""
    named = _DIVIDED.split(_BRACKETS.sub(" ", summary).rpartition(":")[2])
    return _plain(attendees), _plain((summary, *named))


def candidates(text: str) -> tuple[str, ...]:
    """The forms in which a text is compared."""
    return (text, text.partition("@")[0]) if "@" in text else (text,)


def people_of(attendees: Iterable[str], summary: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """The users, each once, in their order. `known`: users by all their names, in lower case."""
    for texts in texts_of(attendees, summary):
        found = [known[each] for text in texts for each in candidates(text)[: _first(text, known)] if each in known]
        if found:
            return tuple(dict.fromkeys(found))
    return ()


def _first(text: str, known: Mapping[str, str]) -> int:
    """The whole address is compared before the part before its `@`."""
    return 1 if text in known else 2


def _plain(texts: Iterable[str]) -> tuple[str, ...]:
    plain = (" ".join(each.lower().split()) for each in texts)
    return tuple(dict.fromkeys(each for each in plain if each))[:MOST_TEXTS]

"""A calendar feed as text: iCalendar (RFC 5545) with the properties of RFC 7986 that calendar programs refresh by.

Instants are written in UTC, so readers need no zone data, and no change of clocks moves a shift.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tocsin_escalation.domain.calendars.feed import MOST_SCHEDULES, Event
from tocsin_escalation.domain.schedules.clock import time_of

REFRESH: Final = "PT15M"
"""How often calendar programs are asked to read it. Most of them read less often."""
_LINE: Final = 75
"""Octets of a line without its end (RFC 5545 §3.1)."""
_LONGEST: Final = 600
"""Characters of a text; names are at most 255."""
_NO_TEXT: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that a TEXT may not hold, or that some readers take for the end of a line. Tab and line feed are not among it."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", ";": r"\;", ",": r"\,", "\n": r"\n"})
_REASONS: Final[Mapping[str, str]] = {
    "override": "by an override",
    "swap": "by a swap",
    "fixed_period": "in a fixed period",
    "calendar": "by a calendar of others",
    "stand_in": "standing in",
}


@dataclass(frozen=True, slots=True)
class Names:
    """How a feed and what is in it are called. `users` and `schedules` are display names by id."""

    title: str
    users: Mapping[str, str]
    schedules: Mapping[str, str]
    of_user: bool
    """Of one user, whose name the events need not repeat."""
    left_out: bool = False
    """Whether more schedules name the user than a feed shows."""


def document(org_id: str, names: Names, events: Sequence[Event], until: int) -> str:
    """The whole calendar, lines folded and ended as RFC 5545 §3.1 asks. The same arguments give the same text."""
    about = f"On call, from Tocsin. Shifts until {time_of(until):%Y-%m-%d} are shown."
    if names.left_out:
        about += f" Only the first {MOST_SCHEDULES} schedules are shown."
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Tocsin//Who is on call//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        f"NAME:{_text(names.title)}",
        f"X-WR-CALNAME:{_text(names.title)}",
        f"DESCRIPTION:{_text(about)}",
        f"X-WR-CALDESC:{_text(about)}",
        f"REFRESH-INTERVAL;VALUE=DURATION:{REFRESH}",
        f"X-PUBLISHED-TTL:{REFRESH}",
    ]
    for event in events:
        lines += _event(org_id, names, event)
    lines.append("END:VCALENDAR")
    return "".join(f"{part}\r\n" for line in lines for part in _folded(line))


def _event(org_id: str, names: Names, event: Event) -> Iterator[str]:
    shift = event.shift
    schedule = names.schedules.get(shift.schedule) or shift.schedule
    user = names.users.get(shift.user) or shift.user
    why = [f"{user} is on call for schedules/{shift.schedule}"]
    if shift.reason:
        why.append(_REASONS[shift.reason])
    if shift.instead_of:
        why.append(f"instead of {names.users.get(shift.instead_of) or shift.instead_of}")
    yield "BEGIN:VEVENT"
    yield f"UID:{event.uid(org_id)}"
    yield f"SEQUENCE:{event.sequence}"
    yield f"DTSTAMP:{_instant(event.modified)}"
    yield f"LAST-MODIFIED:{_instant(event.modified)}"
    yield f"DTSTART:{_instant(shift.start)}"
    yield f"DTEND:{_instant(shift.end)}"
    yield f"SUMMARY:{_text(f'On call: {schedule}' if names.of_user else f'{user}: {schedule}')}"
    yield f"DESCRIPTION:{_text(' '.join(why))}"
    yield f"STATUS:{'CANCELLED' if event.cancelled else 'CONFIRMED'}"
    # A user who is on call can still be invited to meetings.
    yield "TRANSP:TRANSPARENT"
    yield "END:VEVENT"


def _instant(minute: int) -> str:
    return f"{time_of(minute):%Y%m%dT%H%M%SZ}"


def _text(value: str) -> str:
    """A TEXT (RFC 5545 §3.3.11)."""
    plain = value.replace("\r\n", "\n").replace("\r", "\n")
    return _NO_TEXT.sub(" ", plain)[:_LONGEST].translate(_ESCAPES)


def _folded(line: str) -> Iterator[str]:
    """The line in parts of at most 75 octets, never within a character; each but the first begins with a blank."""
    data = line.encode()
    while len(data) > _LINE:
        cut = _LINE
        while data[cut] & 0xC0 == 0x80:
            cut -= 1
        yield data[:cut].decode()
        data = b" " + data[cut:]
    yield data.decode()

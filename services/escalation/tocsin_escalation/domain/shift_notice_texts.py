"""What notices of shifts say, in plain text and at most `LONGEST_TEXT` characters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY, WEEK, clock, minute_of, wall_of
from tocsin_escalation.domain.schedules.model import ALWAYS, Group
from tocsin_escalation.domain.shift_notices import NoticeKind, Shift

MOST_LISTED: Final = 20
"""Incidents or shifts that a notice lists; it counts the others."""
LONGEST_TEXT: Final = 4096
_LONGEST_NAME: Final = 60
_LONGEST_TITLE: Final = 80
_MOST_PEOPLE: Final = 5
_SEVERITIES: Final = {1: "critical", 2: "error", 3: "warning", 4: "info"}


@dataclass(frozen=True, slots=True)
class Names:
    """What people call schedules and users. A user or schedule that is not in it is called by its id."""

    schedules: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)

    def schedule(self, id_: str) -> str:
        """At most 60 characters."""
        return _cut(self.schedules.get(id_) or id_, _LONGEST_NAME)

    def people(self, ids: Group) -> str:
        """The first five, and how many others."""
        shown = [_cut(self.users.get(id_) or id_, _LONGEST_NAME) for id_ in ids[:_MOST_PEOPLE]]
        return ", ".join(shown) + (f" and {len(ids) - _MOST_PEOPLE} more" if len(ids) > _MOST_PEOPLE else "")


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """One that is not resolved. `schedules`: those that its policy names."""

    title: str
    severity: int
    state: str
    create_time: datetime
    schedules: frozenset[str]


@dataclass(frozen=True, slots=True)
class Text:
    """A title of one line, and what follows."""

    title: str
    body: str


def text_of(kind: NoticeKind, shifts: Sequence[Shift], names: Names, zone: str, now: int) -> Text:
    """What one message says of the user's `shifts`; those of a hand-over go on with `incidents_text`."""
    match kind:
        case NoticeKind.BEFORE:
            return Text(_begins(shifts[0].start, zone, now), _lines(shifts, names, zone))
        case NoticeKind.HAND_OVER:
            listed = ", ".join(names.schedule(each.schedule) for each in shifts[:3])
            more = f" and {len(shifts) - 3} more" if len(shifts) > 3 else ""
            return Text(f"You are on call now: {listed}{more}", _lines(shifts, names, zone))
        case NoticeKind.WEEK:
            count = f"{len(shifts)} shift{'s' * (len(shifts) != 1)}"
            if not shifts:
                return Text(
                    "The coming week: you are not on call", f"No shift of yours begins by {wall(now + WEEK, zone)}."
                )
            return Text(f"The coming week: {count}", _lines(shifts, names, zone, begun=now))


def incidents_text(incidents: Sequence[OpenIncident], schedules: frozenset[str], zone: str, *, cut: bool) -> str:
    """The open incidents of these schedules, the most severe first, then the newest. `cut`: there may be more than were read."""
    mine = sorted(
        (each for each in incidents if each.schedules & schedules),
        key=lambda each: (each.severity or 1, -each.create_time.timestamp()),
    )
    if not mine:
        return "More incidents are open than were looked at." if cut else "No incident is open."
    at_least = "at least " if cut else ""
    many = f"{at_least}{len(mine)} incident{'s' * (len(mine) != 1)} open:".capitalize()
    lines = [many, *(_incident(each, zone) for each in mine[:MOST_LISTED])]
    if len(mine) > MOST_LISTED:
        lines.append(f"… and {at_least}{len(mine) - MOST_LISTED} more")
    return "\n".join(lines)


def _begins(start: int | None, zone: str, now: int) -> str:
    assert start is not None, "no notice is planned before a shift that was under way already"
    begins = wall(start, zone)
    if start > now:
        return f"Your shift begins {begins}, in {_length(start - now)}"
    return f"Your shift began {begins}, {_length(now - start)} ago"


def _lines(shifts: Sequence[Shift], names: Names, zone: str, *, begun: int = ALWAYS) -> str:
    """`begun`: of what has begun by then it does not matter when."""
    lines = [_line(shift, names, zone, begun) for shift in shifts[:MOST_LISTED]]
    if len(shifts) > MOST_LISTED:
        lines.append(f"… and {len(shifts) - MOST_LISTED} more")
    return "\n".join([*lines, f"Times are those of {zone}."])


def _line(shift: Shift, names: Names, zone: str, begun: int) -> str:
    start = "now" if shift.start is None or shift.start <= begun else wall(shift.start, zone)
    end = f"to {wall(shift.end, zone)}" if shift.end is not None else "for more than a week"
    before = f"; you take over from {names.people(shift.hands_over)}" if shift.hands_over else ""
    beside = f"; with {names.people(shift.beside)}" if shift.beside else ""
    return f"{names.schedule(shift.schedule)}: {start} {end}{before}{beside}"


def _incident(incident: OpenIncident, zone: str) -> str:
    since = wall(minute_of(incident.create_time), zone)
    severity = _SEVERITIES.get(incident.severity, "critical")
    return f"- {_cut(incident.title, _LONGEST_TITLE)} ({severity}, {incident.state}, since {since})"


def wall(minute: int, zone: str) -> str:
    """As people read it: `Mon 3 Aug 09:00`."""
    at = wall_of(clock(zone).local(minute))
    return f"{at:%a} {at.day} {at:%b %H:%M}"


def _length(minutes: int) -> str:
    """The two largest units: `1 day 2 hours`."""
    units = (("day", minutes // DAY), ("hour", minutes % DAY // 60), ("minute", minutes % 60))
    told = [f"{count} {unit}{'s' * (count != 1)}" for unit, count in units if count]
    return " ".join(told[:2]) or "less than a minute"


def _cut(text: str, length: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"

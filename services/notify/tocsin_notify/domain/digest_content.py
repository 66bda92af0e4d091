"""What a digest says, in words: the subject, the text of a mail, and the short form for chats and pushes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_notify.domain.digest import Frequency
from tocsin_notify.domain.wall_time import as_wall_time

MOST_OPEN: Final = 1000
"""Open incidents are counted up to here."""
_TITLE: Final = 120
_BRIEF_TITLE: Final = 50
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\s]+")


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """One that is open when the digest is made."""

    title: str
    severity: str
    since: datetime
    in_hand: bool


@dataclass(frozen=True, slots=True)
class Noise:
    """The incidents of one title."""

    title: str
    incidents: int
    alerts: int


@dataclass(frozen=True, slots=True)
class Shift:
    """When the user is on call."""

    schedule: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Content:
    """The figures of one digest. `opened` to `noisiest` are the organisation's, what follows is the user's."""

    frequency: Frequency
    start: datetime
    end: datetime
    time_zone: str
    opened: int = 0
    answer_seconds: float | None = None
    resolved: int = 0
    open: int = 0
    unanswered: int = 0
    open_incidents: tuple[OpenIncident, ...] = ()
    noisiest: tuple[Noise, ...] = ()
    pages: int = 0
    acknowledged: int = 0
    shifts: tuple[Shift, ...] = ()
    shifts_incomplete: bool = False

    @property
    def worth_telling(self) -> bool:
        """Whether it is more than that nothing happened."""
        soon = any(shift.start < self.end + (self.end - self.start) for shift in self.shifts)
        return bool(self.opened or self.resolved or self.open or self.pages or self.acknowledged or soon)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a list: what it is about, and what is said of it. `alarming`: somebody should look at it."""

    head: str
    detail: str
    alarming: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under a heading."""

    heading: str
    lines: tuple[Line, ...]


def subject(content: Content) -> str:
    """One line."""
    day = _day(content.end, content.time_zone)
    when = day if content.frequency is Frequency.DAILY else f"week to {day}"
    return f"[digest] {when}: {headline(content)}"


def headline(content: Content) -> str:
    """What happened, in a few words."""
    if not content.worth_telling:
        return "nothing to tell"
    return f"{content.opened} opened, {content.resolved} resolved, {_open(content)} still open"


def period(content: Content) -> str:
    """Over which time it tells."""
    zone = content.time_zone
    return f"{_moment(content.start, zone)} to {_moment(content.end, zone)} ({zone})"


def figures(content: Content) -> Iterator[tuple[str, str]]:
    """The numbers, each with what it counts."""
    yield "opened", str(content.opened)
    yield "resolved", str(content.resolved)
    yield "still open", _open(content)
    yield "pages for you", str(content.pages)


def remarks(content: Content) -> Iterator[str]:
    """What stands below the numbers."""
    if content.unanswered:
        verb = "is" if content.unanswered == 1 else "are"
        yield f"Of the open incidents, {content.unanswered} {verb} not acknowledged."
    if content.answer_seconds is not None:
        yield f"Incidents were acknowledged after {_span(content.answer_seconds)} on average."
    if content.acknowledged:
        yield f"You acknowledged {_times(content.acknowledged)}."


def sections(content: Content) -> Iterator[Section]:
    """The lists; none of them is empty."""
    zone = content.time_zone
    if content.open_incidents:
        yield Section("Still open, the oldest first", tuple(_open_line(each, zone) for each in content.open_incidents))
    if content.noisiest:
        yield Section("Most alerts", tuple(Line(_line(each.title), _count(each)) for each in content.noisiest))
    if content.shifts:
        lines = tuple(Line(_line(each.schedule), _stretch(each, content.end, zone)) for each in content.shifts)
        yield Section("You are on call", lines)


def notes(content: Content) -> Iterator[str]:
    """What stands at the end."""
    if content.shifts_incomplete:
        yield "Your organisation has more schedules than a digest looks at: shifts of yours may be missing here."
    yield f"You get this {content.frequency} digest because you asked for it. DeleteDigest ends it."


def text(content: Content) -> str:
    """The mail as plain text."""
    lines = [period(content), ""]
    if not content.worth_telling:
        return "\n".join([*lines, _nothing(content)]) + "\n"
    lines += (f"{number:>6}  {name}" for name, number in figures(content))
    if said := list(remarks(content)):
        lines += ["", *said]
    for section in sections(content):
        lines += ["", section.heading]
        for line in section.lines:
            lines += [f"- {line.head}", f"  {line.detail}"]
    return "\n".join([*lines, "", *notes(content)]) + "\n"


def brief(content: Content) -> str:
    """The short form."""
    if not content.worth_telling:
        return _nothing(content)
    parts = [f"{period(content)}: {headline(content)}."]
    if content.pages:
        parts.append(f"{content.pages} {'page' if content.pages == 1 else 'pages'} for you.")
    parts += remarks(content)
    if content.noisiest:
        loudest = content.noisiest[0]
        parts.append(f"Most alerts: {_line(loudest.title, _BRIEF_TITLE)} ({loudest.alerts}).")
    if content.shifts:
        shift = content.shifts[0]
        stretch = _stretch(shift, content.end, content.time_zone)
        parts.append(f"You are on call: {_line(shift.schedule, _BRIEF_TITLE)}, {stretch}.")
    return " ".join(parts)


def _nothing(content: Content) -> str:
    following = "tomorrow" if content.frequency is Frequency.DAILY else "next week"
    return (
        "Nothing to tell: no incident was opened, resolved or is open, no page came for you, and you are not on call until "
        f"{following}'s digest."
    )


def _open(content: Content) -> str:
    return f"{content.open}+" if content.open >= MOST_OPEN else str(content.open)


def _open_line(incident: OpenIncident, zone: str) -> Line:
    state = "acknowledged" if incident.in_hand else "not acknowledged"
    detail = f"{incident.severity}, since {_moment(incident.since, zone)}, {state}"
    return Line(_line(incident.title), detail, alarming=not incident.in_hand)


def _count(noise: Noise) -> str:
    incidents = "1 incident" if noise.incidents == 1 else f"{noise.incidents} incidents"
    return f"{noise.alerts} {'alert' if noise.alerts == 1 else 'alerts'} in {incidents}"


def _stretch(shift: Shift, now: datetime, zone: str) -> str:
    start = "now" if shift.start <= now else _moment(shift.start, zone)
    return f"{start} to {_moment(shift.end, zone)}"


def _line(title: str, length: int = _TITLE) -> str:
    """What others wrote, on one line, and never empty."""
    flat = _UNPRINTABLE.sub(" ", title).strip()
    return (flat if len(flat) <= length else flat[: length - 1].rstrip() + "…") or "(no title)"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(1, round(seconds))} s"
    if minutes < 120:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    return f"{hours} h" if hours < 72 else f"{round(hours / 24)} days"


def _moment(moment: datetime, zone: str) -> str:
    wall = as_wall_time(moment, zone)
    return f"{_WEEKDAYS[wall.weekday()]} {wall.day} {_MONTHS[wall.month - 1]} {wall:%H:%M}"


def _day(moment: datetime, zone: str) -> str:
    wall = as_wall_time(moment, zone)
    return f"{_WEEKDAYS[wall.weekday()]} {wall.day} {_MONTHS[wall.month - 1]}"

"""What a digest says, in words: the subject, the text of a mail, and the short form for chats and pushes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_notify.domain.digest import Frequency
from tocsin_notify.domain.digest_words import DigestWords
from tocsin_notify.domain.wall_time import as_wall_time

MOST_OPEN: Final = 1000
"""Open incidents are counted up to here."""
_TITLE: Final = 120
_BRIEF_TITLE: Final = 50
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
    """A line of a list: what it is about, and what is said of it. `alarming`: it needs a look."""

    head: str
    detail: str
    alarming: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under a heading."""

    heading: str
    lines: tuple[Line, ...]


def subject(content: Content, words: DigestWords) -> str:
    """One line."""
    line = words.subject_daily if content.frequency is Frequency.DAILY else words.subject_weekly
    return line.format(day=_day(content.end, content.time_zone, words), headline=headline(content, words))


def heading(content: Content, words: DigestWords) -> str:
    """What it is."""
    return words.heading_daily if content.frequency is Frequency.DAILY else words.heading_weekly


def headline(content: Content, words: DigestWords) -> str:
    """What happened, in a few words."""
    if not content.worth_telling:
        return words.nothing_in_short
    return words.headline.format(opened=content.opened, resolved=content.resolved, open=_open(content))


def period(content: Content, words: DigestWords) -> str:
    """Over which time it tells."""
    zone = content.time_zone
    start, end = moment(content.start, zone, words), moment(content.end, zone, words)
    return f"{words.until.format(start=start, end=end)} ({zone})"


def figures(content: Content, words: DigestWords) -> Iterator[tuple[str, str]]:
    """The numbers, each with what it counts."""
    yield words.opened, str(content.opened)
    yield words.resolved, str(content.resolved)
    yield words.still_open, _open(content)
    yield words.pages, str(content.pages)


def remarks(content: Content, words: DigestWords) -> Iterator[str]:
    """What stands below the numbers."""
    if content.unanswered:
        yield _counted(words.unanswered, content.unanswered)
    if content.answer_seconds is not None:
        yield words.answered_after.format(span=_span(content.answer_seconds, words))
    if content.acknowledged:
        yield words.acknowledged[min(content.acknowledged, 3) - 1].format(count=content.acknowledged)


def sections(content: Content, words: DigestWords) -> Iterator[Section]:
    """The lists; none of them is empty."""
    zone = content.time_zone
    if content.open_incidents:
        lines = tuple(_open_line(each, zone, words) for each in content.open_incidents)
        yield Section(words.open_heading, lines)
    if content.noisiest:
        lines = tuple(Line(_line(each.title, words), _noise(each, words)) for each in content.noisiest)
        yield Section(words.noise_heading, lines)
    if content.shifts:
        lines = tuple(
            Line(_line(each.schedule, words), _stretch(each, content.end, zone, words)) for each in content.shifts
        )
        yield Section(words.shifts_heading, lines)


def notes(content: Content, words: DigestWords) -> Iterator[str]:
    """What stands at the end, before how it is ended."""
    if content.shifts_incomplete:
        yield words.incomplete
    yield words.asked_daily if content.frequency is Frequency.DAILY else words.asked_weekly


def text(content: Content, words: DigestWords, link: str = "") -> str:
    """The mail as plain text. `link`: where its user ends it; empty: by a call."""
    lines = [period(content, words), ""]
    end = words.ends_by_link.format(link=link) if link else words.ends_by_call
    if not content.worth_telling:
        return "\n".join([*lines, nothing(content, words), *(["", end] if link else [])]) + "\n"
    lines += (f"{number:>6}  {name}" for name, number in figures(content, words))
    if said := list(remarks(content, words)):
        lines += ["", *said]
    for section in sections(content, words):
        lines += ["", section.heading]
        for line in section.lines:
            lines += [f"- {line.head}", f"  {line.detail}"]
    said = list(notes(content, words))
    asked = f"{said.pop()} {end}"
    return "\n".join([*lines, "", *said, asked]) + "\n"


def brief(content: Content, words: DigestWords) -> str:
    """The short form."""
    if not content.worth_telling:
        return nothing(content, words)
    parts = [f"{period(content, words)}: {headline(content, words)}."]
    if content.pages:
        parts.append(_counted(words.pages_in_short, content.pages))
    parts += remarks(content, words)
    if content.noisiest:
        loudest = content.noisiest[0]
        title = _line(loudest.title, words, _BRIEF_TITLE)
        parts.append(words.noise_in_short.format(title=title, count=loudest.alerts))
    if content.shifts:
        shift = content.shifts[0]
        stretch = _stretch(shift, content.end, content.time_zone, words)
        schedule = _line(shift.schedule, words, _BRIEF_TITLE)
        parts.append(words.shift_in_short.format(schedule=schedule, stretch=stretch))
    return " ".join(parts)


def nothing(content: Content, words: DigestWords) -> str:
    """What stands in place of all figures when there are none."""
    return words.nothing_daily if content.frequency is Frequency.DAILY else words.nothing_weekly


def moment(at: datetime, zone: str, words: DigestWords) -> str:
    """As people read it: `Mon 3 Aug 09:00`. Raises BadTime for an unknown zone."""
    return f"{_day(at, zone, words)} {as_wall_time(at, zone):%H:%M}"


def _counted(forms: tuple[str, str], count: int) -> str:
    return forms[count != 1].format(count=count)


def _open(content: Content) -> str:
    return f"{content.open}+" if content.open >= MOST_OPEN else str(content.open)


def _open_line(incident: OpenIncident, zone: str, words: DigestWords) -> Line:
    detail = words.open_line.format(
        severity=words.severities.get(incident.severity, incident.severity),
        since=moment(incident.since, zone, words),
        state=words.in_hand if incident.in_hand else words.not_in_hand,
    )
    return Line(_line(incident.title, words), detail, alarming=not incident.in_hand)


def _noise(noise: Noise, words: DigestWords) -> str:
    return words.noise_line.format(
        alerts=_counted(words.alerts, noise.alerts), incidents=_counted(words.incidents, noise.incidents)
    )


def _stretch(shift: Shift, now: datetime, zone: str, words: DigestWords) -> str:
    start = words.now if shift.start <= now else moment(shift.start, zone, words)
    return words.until.format(start=start, end=moment(shift.end, zone, words))


def _line(title: str, words: DigestWords, length: int = _TITLE) -> str:
    """What others wrote, on one line, and never empty."""
    flat = _UNPRINTABLE.sub(" ", title).strip()
    return (flat if len(flat) <= length else flat[: length - 1].rstrip() + "…") or words.no_title


def _span(seconds: float, words: DigestWords) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return words.seconds.format(count=max(1, round(seconds)))
    if minutes < 120:
        return words.minutes.format(count=minutes)
    hours = round(seconds / 3600)
    return words.hours.format(count=hours) if hours < 72 else words.days.format(count=round(hours / 24))


def _day(moment: datetime, zone: str, words: DigestWords) -> str:
    wall = as_wall_time(moment, zone)
    return words.moment.format(weekday=words.weekdays[wall.weekday()], day=wall.day, month=words.months[wall.month - 1])

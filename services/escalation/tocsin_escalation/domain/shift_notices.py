"""Notices of shifts: which ones a user gets, and when.

Instants are minutes, see `schedules.clock`. A planned notice is checked again when it is due, with the schedules of that moment:
it is sent only if it would be planned again.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY, WEEK, clock, weekday_of
from tocsin_escalation.domain.schedules.model import Group, Segment
from tocsin_escalation.domain.words import Word

AHEAD: Final = DAY
"""Minutes for which notices are planned ahead."""
MOST: Final = 500
"""Notices that are planned for one user, the nearest."""
LATE: Final = 60
"""Minutes after the start of a shift in which its notices may still be sent."""
LATE_WEEK: Final = DAY
"""The same for a look ahead."""


class NoticeKind(Word):
    """The words are those of the table."""

    BEFORE = "before"
    HAND_OVER = "hand_over"
    WEEK = "week"


class NoticeState(Word):
    """The words are those of the table."""

    PLANNED = "planned"
    SENT = "sent"
    SKIPPED = "skipped"
    """It was later than allowed, another notice covered it, or the user no longer wanted it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The notices that a user wants. `before`: minutes before each shift. `week`: minutes after Monday 00:00 local time of
    `zone`.

    `since`: they are wanted from then on.
    """

    zone: str
    before: int | None
    hand_over: bool
    week: int | None
    since: int


@dataclass(frozen=True, slots=True)
class Shift:
    """A user comes on call in a schedule at `start`. None: they were on call already when the resolved time began. `end` None:
    after the end of the resolved time.

    `hands_over`: who is on call until `start` and no longer. `beside`: who else is on call at `start`.
    """

    schedule: str
    user: str
    start: int | None
    end: int | None
    hands_over: Group = ()
    beside: Group = ()


@dataclass(frozen=True, slots=True)
class Key:
    """The identity of a user's notice. `start`: of the shift, or when the weekly notice is due."""

    kind: NoticeKind
    schedule: str
    start: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice to be sent at `due`. `shift` None: a weekly notice."""

    key: Key
    due: int
    shift: Shift | None = None


def shifts_in(schedule: str, segments: Sequence[Segment]) -> Iterator[Shift]:
    """The shifts within the segments, which follow each other without a break."""
    for number, segment in enumerate(segments):
        before = segments[number - 1].people if number else ()
        for user in segment.people:
            if user not in before:
                yield Shift(
                    schedule,
                    user,
                    segment.start if number else None,
                    _end(segments, number, user),
                    tuple(each for each in before if each not in segment.people),
                    tuple(each for each in segment.people if each != user),
                )


def planned(choice: Choice, shifts: Iterable[Shift], now: int, told: Collection[Key] = ()) -> list[Notice]:
    """The notices for a user until `AHEAD` from now; `shifts` are the user's. `told`: notices that they have got, or will not
    get.

    A notice before a shift that has begun says so, unless the hand-over notice does.
    """
    found: list[Notice] = []
    for shift in shifts:
        if shift.start is None or shift.start < choice.since or shift.start < now - LATE:
            continue
        if choice.before is not None and (shift.start > now or not choice.hand_over):
            found.append(
                Notice(Key(NoticeKind.BEFORE, shift.schedule, shift.start), shift.start - choice.before, shift)
            )
        if choice.hand_over:
            found.append(Notice(Key(NoticeKind.HAND_OVER, shift.schedule, shift.start), shift.start, shift))
    if choice.week is not None:
        weeks = [key.start for key in told if key.kind is NoticeKind.WEEK]
        for due in _weekly(choice.zone, choice.week, now):
            # A user who has moved to another zone meanwhile gets no second one on the same day.
            if due >= choice.since and due > now - LATE_WEEK and not any(0 <= due - each < DAY for each in weeks):
                found.append(Notice(Key(NoticeKind.WEEK, "", due), due))
    found.sort(key=lambda notice: notice.due)
    return [notice for notice in found if notice.due <= now + AHEAD and notice.key not in told][:MOST]


def within_week(shifts: Iterable[Shift], now: int) -> list[Shift]:
    """Those of the coming seven days, with those that are running, in their order."""
    found = [
        shift
        for shift in shifts
        if (shift.end is None or shift.end > now) and (shift.start is None or shift.start < now + WEEK)
    ]
    return in_order(found)


def in_order(shifts: Iterable[Shift]) -> list[Shift]:
    """By their start."""
    return sorted(shifts, key=lambda shift: (shift.start or 0, shift.schedule))


def too_late(key: Key, now: int) -> bool:
    """Whether a due notice is too late to be sent."""
    return now - key.start >= (LATE_WEEK if key.kind is NoticeKind.WEEK else LATE)


def ends(key: Key, now: int) -> int:
    """Until when a notice that is sent at `now` is of use."""
    if key.kind is NoticeKind.WEEK:
        return key.start + LATE_WEEK
    return key.start if now < key.start else key.start + LATE


def week_minutes(weekday: int, hour: int, minute: int) -> int:
    """A day of the week (Monday is 0) and a time on the wall as `Choice.week`."""
    return weekday * DAY + hour * 60 + minute


def _end(segments: Sequence[Segment], number: int, user: str) -> int | None:
    for segment in segments[number:]:
        if user not in segment.people:
            return segment.start
    return None


def _weekly(zone: str, week: int, now: int) -> list[int]:
    """That minute of the last, this and the next week. A skipped local time is the first instant after the gap; of one that
    occurs twice it is the first."""
    at = clock(zone)
    day = at.local(now) // DAY
    monday = (day - weekday_of(day)) * DAY
    return [at.instant(monday + number * WEEK + week) for number in (-1, 0, 1)]

"""Schedules as tests write them down."""

from datetime import UTC, datetime
from typing import Any

from tocsin_escalation.domain.schedules.clock import DAY, local_of, minute_of, time_of
from tocsin_escalation.domain.schedules.model import (
    FixedShift,
    Layer,
    Override,
    Schedule,
    Scope,
    Segment,
    Turn,
    Unit,
    Window,
)
from tocsin_escalation.domain.schedules.resolve import resolve

DAILY, WEEKLY, MONTHLY = Turn(Unit.DAY, 1), Turn(Unit.WEEK, 1), Turn(Unit.MONTH, 1)
MON, TUE, WED, THU, FRI, SAT, SUN = range(7)
WORKDAYS = frozenset({MON, TUE, WED, THU, FRI})
EVERY_DAY = frozenset(range(7))


def utc(text: str) -> int:
    """An instant: `2026-03-02 09:00`, in UTC."""
    return minute_of(datetime.fromisoformat(text).replace(tzinfo=UTC))


def local(text: str) -> int:
    """A time on the wall."""
    return local_of(datetime.fromisoformat(text))


def layer(*line_up: str, turn: Turn = WEEKLY, start: str = "2026-01-05 09:00", **fields: Any) -> Layer:
    """A layer; several users of one group are joined by `+`, nobody on purpose is `-`."""
    fields = {"zone": "UTC", "id": "layer", "turns": (turn,), **fields}
    return Layer(anchor=local(start), line_up=tuple(group(each) for each in line_up), **fields)


def group(text: str) -> tuple[str, ...]:
    return () if text == "-" else tuple(text.split("+"))


def hours(days: frozenset[int], start: int, end: int) -> Window:
    """From `start` to `end` o'clock; an end that is not later is on the next day."""
    return Window(days, start * 60, (end - start) * 60 if end > start else DAY + (end - start) * 60)


def override(
    start: str, end: str, people: str, of: str = "", scope: Scope = Scope.SCHEDULE, order: int = 0
) -> Override:
    return Override(f"override-{order}", utc(start), utc(end), scope, group(people), order, of)


def shift(start: str, end: str, people: str) -> FixedShift:
    return FixedShift(utc(start), utc(end), group(people))


def told(schedule: Schedule, since: str, until: str) -> list[str]:
    """The segments in words: `03-02 09:00 ana+ben`."""
    return [f"{time_of(each.start):%m-%d %H:%M} {who(each)}" for each in resolve(schedule, utc(since), utc(until))]


def who(segment: Segment) -> str:
    return "+".join(segment.people) or segment.coverage.value


def on_call(schedule: Schedule, instant: str) -> str:
    """Who is on call at an instant, in words."""
    return who(resolve(schedule, utc(instant), utc(instant) + 1)[0])

"""What an import would do, and what it cannot do."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1.calendar_service_pb2 import CreateCalendarImportRequest
from tocsin.escalation.v1.policy_service_pb2 import CreatePolicyRequest
from tocsin.escalation.v1.schedule_service_pb2 import (
    CreateFixedPeriodRequest,
    CreateOverrideRequest,
    CreateScheduleRequest,
)

DAY: Final = 1440
WEEK: Final = 7 * DAY
_MOST_LAYERS: Final = 10
_ALL_DAYS: Final = range(1, 8)
"""Monday is 1, as in the contract and in PagerDuty."""

T = TypeVar("T")
Export = Any
"""JSON as the other tool answered it."""


class NotImported(Exception):
    """Something of a schedule has no place in Tocsin, or cannot be read: the schedule is left out as a whole."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A schedule to make, and what lies ahead of it. `users`: all users that it names. `others`: periods, calendars."""

    schedule: CreateScheduleRequest
    overrides: Sequence[CreateOverrideRequest]
    users: Sequence[str]
    others: "Sequence[CreateFixedPeriodRequest | CreateCalendarImportRequest]" = ()


@dataclass(slots=True)
class Plan:
    """All schedules and policies of an export. `notes`: what a reader should know. `problems`: what is left out, and why."""

    wanted: list[Wanted] = field(default_factory=list)
    policies: list[CreatePolicyRequest] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class People:
    """The ids in Tocsin of the other tool's users and teams. `known`: those that were given, by the other tool's names."""

    def __init__(self, known: Mapping[str, str | Sequence[str]]) -> None:
        self._known = known
        self.guessed: dict[str, str] = {}
        """Ids that were made of a name or an address, by what they were made of."""

    def user(self, *called: str) -> str:
        """`users/{id}` of a user who is called so, the surest name first. An address makes the id of an unknown one."""
        names = [each for each in called if each]
        for name in names:
            found = self._known.get(name)
            if isinstance(found, str):
                return f"users/{found.removeprefix('users/')}"
        if not names:
            raise NotImported("a user without a name, an address or an id")
        best = next((name for name in names if "@" in name), names[-1])
        self.guessed[best] = slug(best.partition("@")[0])
        return f"users/{self.guessed[best]}"

    def group(self, kind: str, *called: str) -> list[str]:
        """The users of a team, or of another name in a line-up. Raises NotImported when they were not given (`--users`)."""
        for name in called:
            found = self._known.get(name)
            if found is not None:
                named = [found] if isinstance(found, str) else found
                return [f"users/{each.removeprefix('users/')}" for each in named]
        name = next(filter(None, called), "")
        raise NotImported(f"{kind} {name!r} stands in a line-up: say who is meant with --users, as {{{name!r}: [...]}}")


def slug(text: str) -> str:
    """An id: lower-case letters, digits, `.`, `_` and `-`, at most 63. Raises NotImported for a text that has none of them."""
    found = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63]
    if not found:
        raise NotImported(f"no id can be made of {text!r}")
    return found


class Ids:
    """Each id once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, text: str) -> str:
        """`slug`, with a number if it is taken."""
        plain = chosen = slug(text)
        number = 1
        while chosen in self._taken:
            number += 1
            chosen = f"{plain[:58]}-{number}"
        self._taken.add(chosen)
        return chosen


def zone_of(name: str) -> ZoneInfo:
    """Raises NotImported for a zone that is not known here."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise NotImported(
            f"the time zone {name!r} is not known here (on a host without zone data install tzdata)"
        ) from error


def instant(text: str) -> datetime:
    """An instant of RFC 3339. Raises NotImported."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise NotImported(f"{text!r} is no time") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def on_the_wall(text: str, zone: ZoneInfo) -> str:
    """An instant as local time of the zone, without seconds."""
    return f"{instant(text).astimezone(zone):%Y-%m-%dT%H:%M}"


def turn(unit: pb.TurnUnit.ValueType, count: int) -> pb.Turn:
    """Raises NotImported for what is no length."""
    if count < 1:
        raise NotImported(f"a turn of {count}")
    return pb.Turn(unit=unit, count=count)


def window(days: Iterable[int], start: int, length: int) -> pb.Window:
    """Minutes after midnight; at most a week long."""
    if not 0 < length <= WEEK:
        raise NotImported(f"a window of {length} minutes")
    later, end = divmod(start + length, DAY)
    if end == 0:
        later, end = later - 1, DAY
    return pb.Window(
        days=sorted(days),  # type: ignore[arg-type]  # the numbers are the enum's own
        start=_clock(start),
        end=_clock(end),
        end_days_later=later,
    )


def minutes(clock: str) -> int:
    """Minutes after midnight of `09:30` or `09:30:00`. Raises NotImported for seconds, and for what is no time."""
    found = re.fullmatch(r"(\d{1,2}):(\d{2})(?::00)?", clock)
    if found is None:
        raise NotImported(f"{clock!r} is no time of the day in whole minutes")
    return int(found[1]) * 60 + int(found[2])


def every_day(start: int, length: int) -> pb.Window:
    """`window` of all days."""
    return window(_ALL_DAYS, start, length)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def finish(
    schedule: CreateScheduleRequest,
    overrides: Sequence[CreateOverrideRequest],
    others: "Sequence[CreateFixedPeriodRequest | CreateCalendarImportRequest]" = (),
) -> Wanted:
    """The schedule to make, with all users that it names. Raises NotImported if it has more than a schedule may have."""
    layers = schedule.schedule.layers
    if len(layers) > _MOST_LAYERS:
        raise NotImported(f"{len(layers)} layers; a schedule has {_MOST_LAYERS} at most: divide it before")
    named = [user for layer in layers for entry in layer.line_up for user in entry.users]
    named += [user for each in overrides for user in (*each.override.users, each.override.user) if user]
    fixed = [each.fixed_period for each in others if isinstance(each, CreateFixedPeriodRequest)]
    named += [user for period in fixed for shift in period.shifts for user in shift.users]
    return Wanted(schedule, overrides, tuple(dict.fromkeys(named)), others)


def override(
    schedule: str,
    start: datetime,
    end: datetime,
    users: Iterable[str],
    layer_id: str,
    reason: str,
    *,
    user: str = "",
    beside: bool = False,
) -> CreateOverrideRequest:
    """An override of one layer or one user, of the whole schedule, or one that adds users."""
    made = pb.Override(schedule=schedule, users=users, reason=reason[:255])
    made.start_time.FromDatetime(start)
    made.end_time.FromDatetime(end)
    if layer_id:
        made.layer_id = layer_id
    elif user:
        made.user = user
    elif beside:
        made.beside = True
    return CreateOverrideRequest(override=made)


_ERRORS: Final = ("error", "errors", "message", "detail")
"""Under which of these names each of the tools tells of one."""


def within(given: Any, names: Sequence[str]) -> list[Export]:
    """The entries of an answer: a single one, a list, or either of them under one of these names.

    Raises NotImported for what is no answer, or one that tells of an error.
    """
    if isinstance(given, dict) and not any(name in given for name in (*names, "id", "name")):
        for name in _ERRORS:
            if given.get(name):
                raise NotImported(f"the other tool's API has answered an error: {json.dumps(given[name])[:200]}")
    for name in names:
        if isinstance(given, dict) and name in given:
            given = given[name]
    found = given if isinstance(given, list) else [given]
    if not all(isinstance(each, dict) for each in found):
        raise NotImported("the file is no answer of the other tool's API")
    return found


def each_of(plan: Plan, exports: Iterable[Export], convert: Callable[[Export], Wanted]) -> Plan:
    """Every schedule that can be taken; of the others the reason."""
    plan.wanted += taken(plan, exports, convert)
    return plan


def taken(plan: Plan, exports: Iterable[Export], convert: Callable[[Export], T]) -> Iterator[T]:
    """What can be taken, converted. The reasons against the others are noted."""
    for export in exports:
        name = str(export.get("name") or export.get("id") or "?")
        try:
            yield convert(export)
        except NotImported as problem:
            plan.problems.append(f"{name}: {problem}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            plan.problems.append(f"{name}: is not as the API answers it ({type(error).__name__}: {error})")


def is_over(end: str | None, at: datetime) -> bool:
    """Whether something had ended when the export was written."""
    return end is not None and instant(end) <= at

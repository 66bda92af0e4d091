"""When each user of a level is on call next, or is now: the first stretch of time of each, within the level's hours.

It uses the same function as paging, so a user who is shown as next is really paged. Severities are ignored: a level that is for
some of them has the same users for each.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tocsin_escalation.domain.conditions import Condition
from tocsin_escalation.domain.policy import Directory, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import ALWAYS, FOREVER, Schedule, Segment
from tocsin_escalation.domain.schedules.questions import HORIZONS, shifts, users_of
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.windows import Interval
from tocsin_escalation.domain.schedules.work import spans, weight

BACK: Final = HORIZONS[-1]
"""How far back the start of a running stretch is searched."""
AHEAD: Final = (HORIZONS[-1], 92 * DAY)
"""How far ahead the next stretch is searched, in minutes; the second value only while a user is not found within the first."""


@dataclass(frozen=True, slots=True)
class Earliest:
    """The user is on call within [start, end), through `schedule`; empty when the level names them, or a team of theirs.

    The start of a stretch that began longer ago than `BACK` is `ALWAYS`; the end of one that lasts beyond the searched time is
    `FOREVER`.
    """

    user: str
    schedule: str
    start: int
    end: int


@dataclass
class SpentWork:
    """The work so far, in the unit of `domain.schedules.work`."""

    work: int = 0


def of_level(
    targets: Iterable[Target],
    condition: Condition,
    directory: Directory,
    schedules: Mapping[str, Schedule],
    minute: int,
    only: Collection[str],
    spent: SpentWork,
) -> list[Earliest]:
    """For each user of these targets who can be paged, by time. `only`: of these users; empty for all."""
    found: dict[str, Earliest] = {}
    wanted = frozenset(only) or directory.users
    for target in targets:
        if target.kind is not TargetKind.SCHEDULE:
            users = [user for user in directory.resolve([target]) if user in wanted]
            here = _always(users, condition, minute)
        elif target.id in schedules:
            here = _of_schedule(schedules[target.id], wanted & directory.users, condition, minute, spent)
        else:
            continue
        for each in here:
            known = found.get(each.user)
            if known is None or _order(each, minute) < _order(known, minute):
                found[each.user] = each
    return sorted(found.values(), key=lambda each: (max(each.start, minute), each.user))


def _order(each: Earliest, minute: int) -> tuple[int, int]:
    """Of two that have begun already, the one that lasts longer."""
    return max(each.start, minute), -each.end


def _always(users: Iterable[str], condition: Condition, minute: int) -> list[Earliest]:
    since, until = minute - BACK, minute + AHEAD[-1]
    first = _first([(since, until)], condition.times(since, until), minute)
    return [] if first is None else [Earliest(user, "", *_open(first, since, until)) for user in users]


def _of_schedule(
    schedule: Schedule, wanted: Collection[str], condition: Condition, minute: int, spent: SpentWork
) -> list[Earliest]:
    missing = set(users_of(schedule)) & frozenset(wanted)
    since = at = minute - BACK
    segments: list[Segment] = []
    found: list[Earliest] = []
    for ahead in AHEAD if missing else ():
        until = minute + ahead
        spent.work += spans(schedule, until - at) * weight(schedule)
        segments += resolve(schedule, at, until)
        at, hours = until, condition.times(since, until)
        for user in sorted(missing):
            first = _first([(each.start, each.end) for each in shifts(segments, user)], hours, minute)
            # A stretch that reaches the end of the searched time may continue: then more is searched.
            if first is not None and (first[1] < until or ahead == AHEAD[-1]):
                missing.remove(user)
                found.append(Earliest(user, schedule.id, *_open(first, since, until)))
        if not missing:
            break
    return found


def _first(stretches: Iterable[Interval], hours: Sequence[Interval], minute: int) -> Interval | None:
    """The first time of both that is not over at the instant."""
    for start, end in stretches:
        for opens, closes in hours:
            begins, ends = max(start, opens), min(end, closes)
            if begins < ends and ends > minute:
                return begins, ends
    return None


def _open(stretch: Interval, since: int, until: int) -> Interval:
    """A stretch that touches an end of the searched time has no known start or end there."""
    start, end = stretch
    return (ALWAYS if start == since else start), (FOREVER if end == until else end)

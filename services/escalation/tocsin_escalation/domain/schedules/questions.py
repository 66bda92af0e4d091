"""What people ask of a schedule at an instant."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import ALWAYS, FOREVER, Coverage, Schedule, Segment, SourceKind
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.windows import Interval, merged

HORIZONS = (8 * DAY, 35 * DAY)
"""How far is looked from an instant: most stretches end within a week, those of monthly turns within five."""
_LOOKS = (2 * DAY, *HORIZONS)
"""Where nights have people of their own no stretch lasts longer than a day."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The stretch in which an instant lies, and the next one with users on call.

    Where it goes on beyond the last horizon, its start is `ALWAYS` or its end `FOREVER`.
    """

    segment: Segment
    next: Segment | None


def standing(schedule: Schedule, minute: int) -> Standing:
    """Who is on call at an instant, since when and until when, and who comes next.

    The newest answer is kept with the schedule while it lasts: lists of many schedules ask again and again.
    """
    memo = _memo(schedule)
    if memo and memo[0].segment.start <= minute < memo[0].segment.end:
        return memo[0]
    found = _find(schedule, minute)
    memo[:] = [found] if found.segment.start != ALWAYS and found.segment.end != FOREVER else []
    return found


@dataclass(frozen=True, slots=True)
class Shift:
    """A user is on call within [start, end) without a break, for any reason. `swaps`: those by which, in a part of it."""

    start: int
    end: int
    swaps: tuple[str, ...] = ()


def shifts(segments: Sequence[Segment], user: str) -> list[Shift]:
    """When a user is on call."""
    found: list[Shift] = []
    for segment in segments:
        if user not in segment.people:
            continue
        by = [each.id for each in segment.sources if each.kind is SourceKind.SWAP and user in each.people]
        if found and found[-1].end == segment.start:
            last = found[-1]
            found[-1] = Shift(last.start, segment.end, tuple(dict.fromkeys((*last.swaps, *by))))
        else:
            found.append(Shift(segment.start, segment.end, tuple(dict.fromkeys(by))))
    return found


def covered(segments: Sequence[Segment]) -> float:
    """The part of the time that is no gap, between 0 and 1."""
    gaps = sum(each.end - each.start for each in segments if each.coverage is Coverage.GAP)
    return 1 - gaps / (segments[-1].end - segments[0].start)


def times(segments: Iterable[Segment], coverage: Coverage) -> list[Interval]:
    """When it is so, disjoint and in order."""
    return merged((each.start, each.end) for each in segments if each.coverage is coverage)


def users_of(schedule: Schedule) -> Iterator[str]:
    """Everybody whom the schedule names, some of them more than once."""
    for layer in schedule.layers:
        for group in layer.line_up:
            yield from group
    for override in schedule.overrides:
        yield from override.people
    shifts = [each.shifts for each in schedule.fixed_periods] + [each.shifts for each in schedule.imported]
    for shift in chain.from_iterable(shifts):
        yield from shift.people


@lru_cache(2048)
def _memo(schedule: Schedule) -> list[Standing]:
    return []


def _find(schedule: Schedule, minute: int) -> Standing:
    for horizon in _LOOKS:
        around = resolve(schedule, minute - horizon, minute + horizon)
        place = next(number for number, each in enumerate(around) if each.end > minute)
        following = next((each for each in around[place + 1 :] if each.people), None)
        # The first and the last stretch are cut by the horizon: how long they last is not known yet.
        if place and following is not None and following is not around[-1]:
            break
    here = around[place]
    start = here.start if place else ALWAYS
    end = here.end if place + 1 < len(around) else FOREVER
    return Standing(replace(here, start=start, end=end), _open_ended(following, minute + HORIZONS[-1]))


def _open_ended(segment: Segment | None, horizon: int) -> Segment | None:
    if segment is None or segment.end < horizon:
        return segment
    return replace(segment, end=FOREVER)

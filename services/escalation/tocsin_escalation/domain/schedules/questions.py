"""Questions about a schedule at an instant."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import ALWAYS, FOREVER, Coverage, Schedule, Segment, SourceKind
from tocsin_escalation.domain.schedules.resolve import pieces, resolve, same
from tocsin_escalation.domain.schedules.windows import Interval, merged

HORIZONS: Final = (8 * DAY, 35 * DAY)
"""How far around an instant a schedule is resolved: most segments end within a week, those of monthly turns within five."""
_LOOKS_BACK: Final = (DAY, *HORIZONS)
"""Where nights have their own people no segment lasts longer than a day."""


@dataclass(frozen=True, slots=True)
class CurrentShift:
    """The segment that contains an instant, and the next one with users on call.

    If it continues beyond the last horizon, its start is `ALWAYS` or its end `FOREVER`.
    """

    segment: Segment
    next: Segment | None


def standing(schedule: Schedule, minute: int) -> CurrentShift:
    """Who is on call at an instant, from when to when, and who is next.

    The newest answer is cached with the schedule while it is valid: lists of many schedules repeat the question.
    """
    memo = _memo(schedule)
    if memo and memo[0].segment.start <= minute < memo[0].segment.end:
        return memo[0]
    found = _find(schedule, minute)
    memo[:] = [found] if found.segment.start != ALWAYS and found.segment.end != FOREVER else []
    return found


def uncut(schedule: Schedule, since: int, until: int) -> tuple[Segment, ...]:
    """Like `resolve`, but the first segment has its real start and the last one its real end.

    These are `ALWAYS` and `FOREVER` if they are beyond the last horizon.
    """
    found = resolve(schedule, since, until)
    first = replace(found[0], start=standing(schedule, since).segment.start)
    last = replace(found[-1], end=standing(schedule, until - 1).segment.end)
    if len(found) == 1:
        return (replace(first, end=last.end),)
    return (first, *found[1:-1], last)


@dataclass(frozen=True, slots=True)
class Shift:
    """A user is on call within [start, end) without a break, for any reason. `swaps`: the swaps that put the user on call for a
    part of it."""

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
    """The times of these, disjoint and in order."""
    return merged((each.start, each.end) for each in segments if each.coverage is coverage)


def users_of(schedule: Schedule) -> Iterator[str]:
    """All users whom the schedule names, some of them more than once."""
    for layer in schedule.layers:
        for group in layer.line_up:
            yield from group
    for override in schedule.overrides:
        yield from override.people
    shifts = [each.shifts for each in schedule.fixed_periods] + [each.shifts for each in schedule.imported]
    for shift in chain.from_iterable(shifts):
        yield from shift.people


@lru_cache(2048)
def _memo(schedule: Schedule) -> list[CurrentShift]:
    return []


def _find(schedule: Schedule, minute: int) -> CurrentShift:
    """Pieces after the requested time are not computed: less than a hundred pieces of weeks are needed."""
    nearest, *farther = _LOOKS_BACK
    began, here, end = minute - nearest, None, FOREVER
    following: Segment | None = None
    horizon = minute + HORIZONS[-1]
    for piece in pieces(schedule, began, horizon):
        if here is None or (piece.start <= minute and not same(here, piece)):
            here = piece
        elif following is not None:
            if not same(following, piece):
                break
            following = replace(following, end=piece.end)
        elif end != FOREVER or not same(here, piece):
            end = min(end, piece.start)
            following = piece if piece.people else None
    else:
        following = _open_ended(following, horizon)
    assert here is not None, "the stretch is not empty"
    start = (
        here.start
        if here.start > began
        else next(filter(None, map(partial(_began, schedule, minute), farther)), ALWAYS)
    )
    return CurrentShift(replace(here, start=start, end=end), following)


def _began(schedule: Schedule, minute: int, back: int) -> int | None:
    """The start of the segment that contains the instant, if that is less than `back` minutes ago."""
    around = resolve(schedule, minute - back, minute + 1)
    return around[-1].start if len(around) > 1 else None


def _open_ended(segment: Segment | None, horizon: int) -> Segment | None:
    if segment is None or segment.end < horizon:
        return segment
    return replace(segment, end=FOREVER)

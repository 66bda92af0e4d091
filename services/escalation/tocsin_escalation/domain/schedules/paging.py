"""Who is on call right now, as paging asks: the instant exactly, and what comes after it only as far as little work shows it.

A page needs the people of this minute. Until when they are on call is told in the timeline, and who comes on next matters in a
gap. Schedules that are legal may need seconds to tell that, and the rows of incidents of all tenants are locked meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import FOREVER, Coverage, Schedule, Segment
from tocsin_escalation.domain.schedules.questions import HORIZONS
from tocsin_escalation.domain.schedules.resolve import pieces, resolve, same
from tocsin_escalation.domain.schedules.work import spans, weight

AHEAD: Final = (0, 60, DAY, *HORIZONS)
"""Minutes from now. Each stretch is looked at only when those before it do not tell, so that turns that end soon cost little."""
WORK: Final = 50_000
"""What looking ahead in one schedule may cost. Two layers with daily turns and windows cost 1,000 for five weeks."""
WORK_TOGETHER: Final = 500_000
"""What it may cost for all schedules of one transaction, which is some 0.2 s; beyond it each may cost `WORK_LEAST`."""
WORK_LEAST: Final = 5_000
"""Enough for ordinary schedules, so that those of one tenant never shorten what others are told."""


class Work:
    """What is left for looking ahead. One unit is one person of one piece of a schedule."""

    def __init__(self, left: int = WORK) -> None:
        self.left = left

    def may(self, cost: int) -> bool:
        """Whether there was enough left, which is gone now."""
        if cost > self.left:
            return False
        self.left -= cost
        return True


@dataclass(frozen=True, slots=True)
class Now:
    """The stretch from the instant on; its end is `FOREVER` when that is not known. `next`: who comes on after a gap."""

    segment: Segment
    next: Segment | None


def now(schedule: Schedule, minute: int, together: Work) -> Now:
    """Who is on call at an instant. What looking ahead costs is taken from `together`, and is `WORK` at most.

    The newest answer is kept with the schedule while it is known to last.
    """
    memo = _memo(schedule)
    if memo and memo[0].segment.start <= minute < memo[0].segment.end:
        return memo[0]
    found = _look(schedule, minute, together)
    memo[:] = [found] if found.segment.end != FOREVER else []
    return found


@lru_cache(2048)
def _memo(schedule: Schedule) -> list[Now]:
    return []


def _look(schedule: Schedule, minute: int, together: Work) -> Now:
    schedule = replace(schedule, layers=tuple(layer for layer in schedule.layers if layer.until > minute))
    [here] = resolve(schedule, minute, minute + 1)
    gap, end = here.coverage is Coverage.GAP, FOREVER
    work = Work(min(WORK, max(together.left, WORK_LEAST)))
    before, following = work.left, None
    for piece in _ahead(schedule, minute + 1, work):
        if end == FOREVER and not same(here, piece):
            end = piece.start
        if end != FOREVER and (piece.people or not gap):
            following = piece if gap else None
            break
    together.left = max(together.left - before + work.left, 0)
    return Now(replace(here, end=end), following)


def _ahead(schedule: Schedule, minute: int, work: Work) -> Iterator[Segment]:
    """Pieces from an instant on, until the last horizon or until the work is used up."""
    each = weight(schedule)
    for since, until in pairwise(AHEAD):
        if not work.may(spans(schedule, until - since)):
            return
        for piece in pieces(schedule, minute + since, minute + until):
            yield piece
            if not work.may(each):
                return

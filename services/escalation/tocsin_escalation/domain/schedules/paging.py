"""Who is on call right now, for paging: the instant exactly, and the time after it only as far as little work shows it.

A page needs the people of this minute. The end of their shift is shown in the timeline, and the next user matters in a gap. Valid
schedules may need seconds to compute these, while the rows of incidents of all tenants are locked.
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
"""Minutes from now. Each stretch of time is resolved only if the earlier ones give no answer, so that short turns cost little."""
WORK: Final = 50_000
"""The limit of work for looking ahead in one schedule. Two layers with daily turns and windows cost 1,000 for five weeks."""
WORK_TOGETHER: Final = 500_000
"""The limit for all schedules of one transaction, about 0.2 s; beyond it each schedule may use `WORK_LEAST`."""
WORK_LEAST: Final = 5_000
"""Enough for ordinary schedules, so that the schedules of one tenant never shorten the answers for others."""


class WorkBudget:
    """The work that is left for looking ahead. One unit is one person in one piece of a schedule."""

    def __init__(self, left: int = WORK) -> None:
        self.left = left

    def may(self, cost: int) -> bool:
        """Whether enough was left; if so, it is used now."""
        if cost > self.left:
            return False
        self.left -= cost
        return True


@dataclass(frozen=True, slots=True)
class OnCallNow:
    """The segment from the instant on; its end is `FOREVER` when it is unknown. `next`: the next users after a gap."""

    segment: Segment
    next: Segment | None


def now(schedule: Schedule, minute: int, together: WorkBudget) -> OnCallNow:
    """Who is on call at an instant. Looking ahead takes its work from `together`, at most `WORK`.

    The newest answer is cached with the schedule while it is known to be valid.
    """
    memo = _memo(schedule)
    if memo and memo[0].segment.start <= minute < memo[0].segment.end:
        return memo[0]
    found = _look(schedule, minute, together)
    memo[:] = [found] if found.segment.end != FOREVER else []
    return found


@lru_cache(2048)
def _memo(schedule: Schedule) -> list[OnCallNow]:
    return []


def _look(schedule: Schedule, minute: int, together: WorkBudget) -> OnCallNow:
    schedule = replace(schedule, layers=tuple(layer for layer in schedule.layers if layer.until > minute))
    [here] = resolve(schedule, minute, minute + 1)
    gap, end = here.coverage is Coverage.GAP, FOREVER
    work = WorkBudget(min(WORK, max(together.left, WORK_LEAST)))
    before, following = work.left, None
    for piece in _ahead(schedule, minute + 1, work):
        if end == FOREVER and not same(here, piece):
            end = piece.start
        if end != FOREVER and (piece.people or not gap):
            following = piece if gap else None
            break
    together.left = max(together.left - before + work.left, 0)
    return OnCallNow(replace(here, end=end), following)


def _ahead(schedule: Schedule, minute: int, work: WorkBudget) -> Iterator[Segment]:
    """Pieces from an instant on, until the last horizon or until the work is used up."""
    each = weight(schedule)
    for since, until in pairwise(AHEAD):
        if not work.may(spans(schedule, until - since)):
            return
        for piece in pieces(schedule, minute + since, minute + until):
            yield piece
            if not work.may(each):
                return

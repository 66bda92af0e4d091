"""How much of some time a policy reaches somebody, and when its levels find nobody.

By the function that paging uses, so that a time that is told to be covered pages somebody. How long an incident takes to get to
a level is not looked at: timeouts, a level that waits in a gap, urgency rules that defer. What is deferred is paged later, and
makes no gap. Severities are not looked at either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tocsin_escalation.domain.chain import chain
from tocsin_escalation.domain.policy import Directory, GapChoice, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.model import Coverage, Schedule
from tocsin_escalation.domain.schedules.questions import times
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.windows import Interval, both, merged, without
from tocsin_escalation.domain.schedules.work import spans, weight


@dataclass(frozen=True, slots=True)
class LevelCoverage:
    """When a level finds nobody, and not on purpose. `covered`: the part of its own hours without that, between 0 and 1."""

    level: int
    covered: float
    gaps: Sequence[Interval]


@dataclass(frozen=True, slots=True)
class PolicyCoverage:
    """`reached`: the part of the time in which any level or the fallback target finds somebody; `unreached`: the other times.

    Those of policies to which it is handed on count. `levels` are its own, the fallback target last, as level 0.
    """

    policy: str
    reached: float
    unreached: Sequence[Interval]
    levels: Sequence[LevelCoverage]


@dataclass(frozen=True, slots=True)
class _Times:
    """When somebody is there to be paged, and when nobody is and not on purpose."""

    there: Sequence[Interval]
    gaps: Sequence[Interval]


@dataclass(frozen=True, slots=True)
class _Found:
    """Of one level. `hours`: when its windows are open."""

    hours: Sequence[Interval]
    times: _Times


class Look:
    """Looks at policies within [since, until), in minutes. A schedule is resolved once, no matter how many levels name it."""

    def __init__(self, directory: Directory, schedules: Mapping[str, Schedule], since: int, until: int) -> None:
        self.work = 0
        """What looking has cost so far, in the unit of `domain.schedules.work`."""
        self._directory = directory
        self._schedules = schedules
        self._since = since
        self._until = until
        self._always = [(since, until)]
        self._times: dict[str, _Times] = {}
        self._levels: dict[str, list[_Found]] = {}

    def at_policy(self, policy: Policy) -> PolicyCoverage:
        """What becomes of incidents that routing gives to it."""
        policies, unreached = chain(policy, self._directory), self._always
        for each in policies:
            # Those behind need not be looked at once nothing is left for them.
            unreached = unreached and without(unreached, merged(self._reached(each)))
        if unreached and (last := policies[-1].fallback_target):
            unreached = without(unreached, self._of_target(last).there)
        levels = [_told(number, found) for number, found in enumerate(self._of_levels(policy), 1)]
        if own := policy.fallback_target:
            levels.append(_told(0, _Found(self._always, self._of_target(own))))
        return PolicyCoverage(policy.id, _part_without(unreached, self._always), unreached, levels)

    def _reached(self, policy: Policy) -> list[Interval]:
        """When its levels find somebody within their hours."""
        return [each for found in self._of_levels(policy) for each in both(found.times.there, found.hours)]

    def _of_levels(self, policy: Policy) -> list[_Found]:
        if policy.id not in self._levels:
            self._levels[policy.id] = [
                _Found(level.condition.times(self._since, self._until), self._of_targets(policy, level.targets))
                for level in policy.levels
            ]
        return self._levels[policy.id]

    def _of_targets(self, policy: Policy, targets: Sequence[Target]) -> _Times:
        """Whoever the policy pages instead because of a gap in a schedule is there as well."""
        found = [self._of_target(target) for target in targets]
        there = merged(interval for each in found for interval in each.there)
        if policy.on_gap is GapChoice.FALLBACK and policy.fallback_target:
            empty = merged(
                interval for target in targets if self._schedule(target) for interval in self._of_target(target).gaps
            )
            there = merged((*there, *both(empty, self._of_target(policy.fallback_target).there)))
        return _Times(there, without(merged(interval for each in found for interval in each.gaps), there))

    def _of_target(self, target: Target) -> _Times:
        schedule = self._schedule(target)
        if schedule is None:
            return _Times(self._always, ()) if self._directory.resolve([target]) else _Times((), self._always)
        if target.id not in self._times:
            self.work += spans(schedule, self._until - self._since) * weight(schedule)
            segments = resolve(schedule, self._since, self._until)
            self._times[target.id] = _Times(times(segments, Coverage.ON_CALL), times(segments, Coverage.GAP))
        return self._times[target.id]

    def _schedule(self, target: Target) -> Schedule | None:
        return self._schedules.get(target.id) if target.kind is TargetKind.SCHEDULE else None


def _told(number: int, found: _Found) -> LevelCoverage:
    gaps = both(found.times.gaps, found.hours)
    return LevelCoverage(number, _part_without(gaps, found.hours), gaps)


def _part_without(these: Sequence[Interval], whole: Sequence[Interval]) -> float:
    """1 when there is nothing to look at: hours that do not come within the time."""
    minutes = _minutes(whole)
    return 1 - _minutes(these) / minutes if minutes else 1


def _minutes(intervals: Sequence[Interval]) -> int:
    return sum(end - start for start, end in intervals)

"""For which part of a time a policy can page a user, and when its levels find none.

It uses the same function as paging, so a time that counts as covered really pages a user. It ignores how long an incident takes
to reach a level: timeouts, levels that wait in a gap, urgency rules that defer. A deferred page is sent later, so it makes no
gap. Severities are ignored as well.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tocsin_escalation.domain.chain import chain
from tocsin_escalation.domain.policy import Directory, GapChoice, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import Coverage, Schedule
from tocsin_escalation.domain.schedules.questions import times
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.windows import Interval, both, merged, without
from tocsin_escalation.domain.schedules.work import spans, weight

MOST_WORK: Final = 5_000_000
"""The limit of work for one policy, in the unit of `domain.schedules.work`: about two seconds."""


@dataclass(frozen=True, slots=True)
class LevelCoverage:
    """When a level finds no user, except where that is intended. `covered`: the part of its own hours without that, between 0 and
    1.

    `of_schedules`: the gaps in which one of its schedules has a gap. In the other gaps none of the users it names can be paged at
    all.
    """

    level: int
    covered: float
    gaps: Sequence[Interval]
    of_schedules: Sequence[Interval]


@dataclass(frozen=True, slots=True)
class PolicyCoverage:
    """`reached`: the part of the time in which any level or the fallback target finds a user; `unreached`: the other times.

    Policies to which it is handed on count as well. `levels` are its own, the fallback target last, as level 0. `until`: the
    minute up to which all of this was computed; earlier than requested where more would be too much work.
    """

    policy: str
    reached: float
    unreached: Sequence[Interval]
    levels: Sequence[LevelCoverage]
    until: int


@dataclass(frozen=True, slots=True)
class _Times:
    """When a user can be paged, and when none can although that is not intended; `of_schedules`: because of a gap of a schedule."""

    there: Sequence[Interval]
    gaps: Sequence[Interval]
    of_schedules: Sequence[Interval] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """The coverage of one level. `hours`: when its windows are open."""

    hours: Sequence[Interval]
    times: _Times


class CoverageSearch:
    """Examines policies within [since, until), in minutes. A schedule is resolved once, even if many levels name it."""

    def __init__(self, directory: Directory, schedules: Mapping[str, Schedule], since: int, until: int) -> None:
        self.work = 0
        """The work so far, in the unit of `domain.schedules.work`."""
        self._directory = directory
        self._schedules = schedules
        self._since = since
        self._until = until
        self._always = [(since, until)]
        self._times: dict[str, _Times] = {}
        self._levels: dict[str, list[_Found]] = {}

    def at_policy(self, policy: Policy) -> PolicyCoverage:
        """The coverage of incidents that routing gives to this policy.

        For a shorter time when its schedules, and those of the policies to which it is handed on, would be more work than
        `MOST_WORK`.
        """
        policies = chain(policy, self._directory)
        until = self._affordable(policies)
        if until == self._until:
            return self._at(policies)
        shorter = CoverageSearch(self._directory, self._schedules, self._since, until)
        found = shorter._at(policies)
        self.work += shorter.work
        return found

    def at_levels(self, policy: Policy) -> list[LevelCoverage]:
        """Only for the levels of a policy, without its fallback target and the policies after it."""
        return [_told(number, found) for number, found in enumerate(self._of_levels(policy), 1)]

    def cost(self, policies: Iterable[Policy]) -> int:
        """The work that these will take. Schedules that are resolved already cost nothing."""
        return sum(
            _work(each, self._since, self._until) for each in self._named(policies) if each.id not in self._times
        )

    def _affordable(self, policies: Sequence[Policy]) -> int:
        """The last minute up to which they may be examined; one day is always examined."""
        until, cost = self._until, self.cost(policies)
        while until - self._since > DAY and cost > MOST_WORK:
            until = max(self._since + (until - self._since) // 2, self._since + DAY)
            cost = sum(_work(each, self._since, until) for each in self._named(policies))
        return until

    def _named(self, policies: Iterable[Policy]) -> list[Schedule]:
        ids = {id for policy in policies for id in policy.schedules()}
        return [self._schedules[id] for id in ids if id in self._schedules]

    def _at(self, policies: Sequence[Policy]) -> PolicyCoverage:
        policy, unreached = policies[0], self._always
        for each in policies:
            # The remaining policies need not be examined once all time is covered.
            unreached = unreached and without(unreached, merged(self._reached(each)))
        if unreached and (last := policies[-1].fallback_target):
            unreached = without(unreached, self._of_target(last).there)
        levels = self.at_levels(policy)
        if own := policy.fallback_target:
            levels.append(_told(0, _Found(self._always, self._of_target(own))))
        return PolicyCoverage(policy.id, _part_without(unreached, self._always), unreached, levels, self._until)

    def _reached(self, policy: Policy) -> list[Interval]:
        """When its levels have a user to page, within their hours."""
        return [each for found in self._of_levels(policy) for each in both(found.times.there, found.hours)]

    def _of_levels(self, policy: Policy) -> list[_Found]:
        if policy.id not in self._levels:
            self._levels[policy.id] = [
                _Found(level.condition.times(self._since, self._until), self._of_targets(policy, level.targets))
                for level in policy.levels
            ]
        return self._levels[policy.id]

    def _of_targets(self, policy: Policy, targets: Sequence[Target]) -> _Times:
        """If the policy pages other users in a gap of a schedule, they count as well."""
        found = [self._of_target(target) for target in targets]
        there = merged(interval for each in found for interval in each.there)
        empty = merged(interval for each in found for interval in each.of_schedules)
        if policy.on_gap is GapChoice.FALLBACK and policy.fallback_target:
            there = merged((*there, *both(empty, self._of_target(policy.fallback_target).there)))
        gaps = merged(interval for each in found for interval in each.gaps)
        return _Times(there, without(gaps, there), without(empty, there))

    def _of_target(self, target: Target) -> _Times:
        schedule = self._schedule(target)
        if schedule is None:
            return _Times(self._always, ()) if self._directory.resolve([target]) else _Times((), self._always)
        if target.id not in self._times:
            self.work += _work(schedule, self._since, self._until)
            segments = resolve(schedule, self._since, self._until)
            gaps = times(segments, Coverage.GAP)
            self._times[target.id] = _Times(times(segments, Coverage.ON_CALL), gaps, gaps)
        return self._times[target.id]

    def _schedule(self, target: Target) -> Schedule | None:
        return self._schedules.get(target.id) if target.kind is TargetKind.SCHEDULE else None


def _work(schedule: Schedule, since: int, until: int) -> int:
    """Plans for other times cost nothing."""
    within = replace(
        schedule,
        overrides=tuple(each for each in schedule.overrides if each.start < until and each.end > since),
        fixed_periods=tuple(each for each in schedule.fixed_periods if each.start < until and each.end > since),
    )
    return spans(within, until - since) * weight(within)


def _told(number: int, found: _Found) -> LevelCoverage:
    gaps, of_schedules = both(found.times.gaps, found.hours), both(found.times.of_schedules, found.hours)
    return LevelCoverage(number, _part_without(gaps, found.hours), gaps, of_schedules)


def _part_without(these: Sequence[Interval], whole: Sequence[Interval]) -> float:
    """1 when there is nothing to cover: hours outside of the time."""
    minutes = _minutes(whole)
    return 1 - _minutes(these) / minutes if minutes else 1


def _minutes(intervals: Sequence[Interval]) -> int:
    return sum(end - start for start, end in intervals)

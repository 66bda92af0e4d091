"""For how much of the coming weeks a policy has a user to page, and the gaps of its levels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from tocsin_escalation.domain import coverage
from tocsin_escalation.domain.chain import chain
from tocsin_escalation.domain.conditions import Condition
from tocsin_escalation.domain.coverage import CoverageSearch, PolicyCoverage
from tocsin_escalation.domain.decide import decide
from tocsin_escalation.domain.decision import Page
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.domain.events import Started
from tocsin_escalation.domain.on_call import on_call_at
from tocsin_escalation.domain.policy import Directory, GapChoice, Level, Policy, Target
from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.windows import Interval
from tocsin_escalation.domain.urgencies import Urgency, UrgencyRule
from tocsin_escalation.domain.warnings import warn_of_gaps

from tests.rounds import LONG
from tests.unit.escalation.people import NOON, level, policy, schedule, team, user
from tests.unit.escalation.schedules.oracle import MINUTE, Oracle, land, starts_on, wall
from tests.unit.escalation.schedules.random_schedules import CHANGES, PEOPLE, random_schedule
from tests.unit.escalation.schedules.writing import EVERY_DAY, hours, layer, override, utc

THERE = Directory(frozenset({"ana", "ben"}), {"core": ("ana", "ben"), "empty": (), "left": ("eve",)})
DAYS = (hours(EVERY_DAY, 8, 20),)
NIGHTS = (hours(EVERY_DAY, 20, 8),)
SINCE, UNTIL = "2026-03-02 00:00", "2026-03-06 00:00"
WEB = Schedule("web", "UTC", (layer("ana", windows=DAYS),))
FROM_FOUR = Schedule("late", "UTC", (layer("ben", windows=(hours(EVERY_DAY, 16, 20),)),))
QUIET = Schedule("quiet", "UTC", (layer("-"),))
AT_NIGHT = Condition(windows=NIGHTS, zone="UTC")


def look(wanted: Policy, directory: Directory = THERE, since: str = SINCE, until: str = UNTIL) -> PolicyCoverage:
    known = {each.id: each for each in (WEB, FROM_FOUR, QUIET)}
    return CoverageSearch(directory, known, utc(since), utc(until)).at_policy(wanted)


def parts(found: PolicyCoverage) -> tuple[float, dict[int, float]]:
    return found.reached, {each.level: each.covered for each in found.levels}


def told(gaps: Sequence[Interval]) -> list[str]:
    return [f"{time_of(start):%m-%d %H:%M} - {time_of(end):%m-%d %H:%M}" for start, end in gaps]


def test_a_level_has_the_gaps_of_its_schedule_and_the_next_one_covers_the_policy() -> None:
    found = look(policy(level(schedule("web")), level(user("ben"))), until="2026-03-04 00:00")
    assert parts(found) == (1, {1: 0.5, 2: 1})
    assert told(found.levels[0].gaps) == [
        "03-02 00:00 - 03-02 08:00",
        "03-02 20:00 - 03-03 08:00",
        "03-03 20:00 - 03-04 00:00",
    ]
    assert found.unreached == []


def test_two_schedules_of_one_level_are_one() -> None:
    found = look(policy(level(schedule("web"), schedule("late"))))
    assert parts(found) == (0.5, {1: 0.5})
    assert found.unreached == found.levels[0].gaps


def test_nobody_on_purpose_is_no_gap_and_reaches_no_user() -> None:
    found = look(policy(level(schedule("quiet"))))
    assert parts(found) == (0, {1: 1})
    assert told(found.unreached) == ["03-02 00:00 - 03-06 00:00"]
    assert parts(look(policy(level(schedule("quiet"), schedule("web"))))) == (0.5, {1: 0.5})


@pytest.mark.parametrize(
    ("target", "covers"),
    [
        (user("ana"), 1),
        (team("core"), 1),
        (user("eve"), 0),
        (team("left"), 0),
        (team("empty"), 0),
        (team("gone"), 0),
        (schedule("gone"), 0),
        # Ids are of their kind only: a schedule of the same id is another thing.
        (user("web"), 0),
    ],
)
def test_users_and_teams_cover_all_or_nothing(target: Target, covers: float) -> None:
    assert parts(look(policy(level(target)))) == (covers, {1: covers})


def test_a_disabled_user_covers_nothing_beside_nobody_on_purpose() -> None:
    assert parts(look(policy(level(schedule("quiet"), user("eve"))))) == (0, {1: 0})


def test_only_the_hours_of_a_level_count() -> None:
    nights = replace(level(schedule("web")), condition=AT_NIGHT)
    found = look(policy(nights, replace(level(user("ben")), condition=AT_NIGHT)))
    assert parts(found) == (0.5, {1: 0, 2: 1})
    assert told(found.unreached)[0] == "03-02 08:00 - 03-02 20:00"
    never = replace(level(schedule("web")), condition=AT_NIGHT)
    assert parts(look(policy(never), since="2026-03-02 09:00", until="2026-03-02 10:00")) == (0, {1: 1})


def test_a_fallback_target_that_is_paged_instead_leaves_no_gap_while_it_has_a_user() -> None:
    wanted = policy(level(schedule("web")), fallback_target=user("ben"))
    assert parts(look(wanted)) == (1, {1: 0.5, 0: 1}), "in the end, and not instead"
    assert parts(look(replace(wanted, on_gap=GapChoice.FALLBACK))) == (1, {1: 1, 0: 1})
    absent = replace(wanted, on_gap=GapChoice.FALLBACK, fallback_target=user("eve"))
    assert parts(look(absent)) == (0.5, {1: 0.5, 0: 0})
    lost = policy(level(user("eve")), fallback_target=user("ben"), on_gap=GapChoice.FALLBACK)
    assert parts(look(lost)) == (1, {1: 0, 0: 1}), "whoever cannot be paged is no gap of a schedule"


def test_a_policy_to_which_it_is_handed_on_counts_with_its_fallback_target_in_place_of_its_own() -> None:
    nights = Policy("nights", (replace(level(user("ben")), condition=AT_NIGHT),))
    wanted = policy(level(schedule("late")), next_policy="nights", fallback_target=user("ana"))
    known = replace(THERE, policies={"nights": nights})
    found = look(wanted, known)
    assert found.reached == pytest.approx(16 / 24)
    assert found.levels[0].covered == pytest.approx(4 / 24)
    ending = replace(known, policies={"nights": replace(nights, fallback_target=user("ana"))})
    assert look(wanted, ending).reached == 1
    assert look(wanted).reached == 1, "a deleted one takes nothing over"


def test_urgency_rules_that_defer_make_no_gap() -> None:
    rules = (UrgencyRule(Urgency.DEFERRED, AT_NIGHT),)
    assert parts(look(policy(level(user("ana")), urgency_rules=rules))) == (1, {1: 1})


def test_a_schedule_is_looked_at_once() -> None:
    wanted = policy(level(schedule("web")))
    seen = CoverageSearch(THERE, {"web": WEB}, utc(SINCE), utc(UNTIL))
    first = seen.at_policy(wanted)
    work = seen.work
    again = seen.at_policy(replace(wanted, id="other", levels=wanted.levels * 3))
    assert (first.reached, again.reached, seen.work) == (0.5, 0.5, work)
    assert work > 0


def warned(wanted: Policy, directory: Directory = THERE) -> list[str]:
    known = {each.id: each for each in (WEB, FROM_FOUR, QUIET)}
    levels = CoverageSearch(directory, known, utc(SINCE), utc(UNTIL)).at_levels(wanted)
    return [f"{each.level} {each.target}: {each.message}" for each in warn_of_gaps(wanted, levels)]


def test_a_policy_warns_of_the_gaps_that_are_told_and_of_no_others() -> None:
    first = "level 1 finds nobody from 2026-03-02 00:00 to 2026-03-02 08:00 UTC, a gap of schedules/web"
    at_once = f"1 schedules/web: {first}: the next level is paged at once then"
    assert warned(policy(level(schedule("web")))) == [at_once]
    assert warned(policy(level(schedule("web"), user("ben")))) == [], "ben is paged whatever the schedule says"
    assert warned(policy(level(schedule("web"), user("eve")))) == [at_once], "eve is disabled"
    assert warned(policy(level(team("left"), schedule("web")))) == [at_once], "nobody of the team is there any more"
    assert warned(policy(level(schedule("quiet"), user("eve")))) == [], "on purpose"
    assert warned(policy(level(user("eve")), level(schedule("gone")))) == [], "another warning tells that"
    days = replace(level(schedule("web")), condition=Condition(windows=DAYS, zone="UTC"))
    assert warned(policy(days)) == [], "the level is for other hours"
    assert warned(policy(level(schedule("web")), on_gap=GapChoice.HOLD)) == [
        f"1 schedules/web: {first}: the level waits until somebody comes on call"
    ]


def test_a_fallback_target_that_is_paged_instead_of_a_gap_is_no_warning_unless_it_has_no_user_either() -> None:
    instead = policy(level(schedule("web")), on_gap=GapChoice.FALLBACK, fallback_target=user("ben"))
    assert warned(instead) == []
    assert warned(replace(instead, fallback_target=user("eve"))) == [
        "1 schedules/web: level 1 finds nobody from 2026-03-02 00:00 to 2026-03-02 08:00 UTC, a gap of schedules/web: "
        "the fallback target finds nobody either then, and the next level is paged at once"
    ]
    late = policy(level(schedule("late")), on_gap=GapChoice.FALLBACK, fallback_target=schedule("web"))
    [told] = warned(late)
    assert "from 2026-03-02 00:00 to 2026-03-02 08:00" in told, "from 8 to 16 the other schedule has somebody"


def test_a_policy_that_costs_too_much_is_looked_at_for_a_shorter_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policies to which it is handed on count: each of them may name as much as it does."""
    known = {f"s{number}": replace(WEB, id=f"s{number}") for number in range(6)}
    links = [Policy(f"s{n}", (level(schedule(f"s{n}")),), next_policy=f"s{n + 1}") for n in range(6)]
    there = replace(THERE, policies={each.id: each for each in links})
    since, until, half = utc(SINCE), utc("2026-03-30 00:00"), utc("2026-03-16 00:00")
    whole = CoverageSearch(there, known, since, until).at_policy(links[0])
    monkeypatch.setattr(coverage, "MOST_WORK", CoverageSearch(there, known, since, until).cost(links[:4]))
    seen = CoverageSearch(there, known, since, until)
    shorter = seen.at_policy(links[0])
    assert (whole.until, shorter.until) == (until, half)
    assert shorter.levels[0].gaps == [*whole.levels[0].gaps[:14], (half - 4 * 60, half)]
    assert 0 < seen.work <= coverage.MOST_WORK
    alone = seen.at_policy(replace(links[0], next_policy=""))
    assert (alone.until, alone.levels) == (until, whole.levels), "by itself it costs no more than it may"
    monkeypatch.setattr(coverage, "MOST_WORK", 0)
    assert seen.at_policy(replace(links[5], next_policy="")).until == utc("2026-03-03 00:00"), "a day in any case"


def test_what_is_planned_for_other_times_costs_nothing() -> None:
    later = override("2026-04-01 00:00", "2026-04-02 00:00", "ben")
    costs = [
        CoverageSearch(THERE, {"web": each}, utc(SINCE), utc(UNTIL)).cost([policy(level(schedule("web")))])
        for each in (WEB, replace(WEB, overrides=(later,) * 100))
    ]
    assert costs[0] == costs[1] > 0


def test_it_is_what_the_pager_does_and_what_a_walk_through_every_minute_finds() -> None:
    for seed in range(1000 if LONG else 60):
        random = Random(seed)
        here, since, until = random_schedule(random, 4)
        there = replace(here, layers=here.layers[1:], overrides=here.overrides[:1], fixed_periods=())
        schedules = {"here": here, "there": there}
        base = Directory(frozenset(PEOPLE) - here.unusable, {"core": ("ana", "ben"), "empty": ()})
        named = {id: _policy(random, id) for id in ("first", "second")}
        directory = replace(base, policies=named)
        found = CoverageSearch(directory, schedules, since, until).at_policy(named["first"])
        walk = _Walk(chain(named["first"], directory), directory, schedules, since, until)
        minutes = range(since, until)
        for each in found.levels:
            gap = [walk.gap(each.level, minute) for minute in minutes]
            assert [_in(each.gaps, minute) for minute in minutes] == gap, (seed, each.level)
            opens = sum(walk.open(each.level, minute) for minute in minutes)
            assert each.covered == pytest.approx(1 - sum(gap) / opens if opens else 1), (seed, each.level)
        reached = [walk.reaches(minute) for minute in minutes]
        assert [not _in(found.unreached, minute) for minute in minutes] == reached, seed
        assert found.reached == pytest.approx(sum(reached) / len(reached)), seed
        for minute in random.sample(minutes, min(5, len(minutes))):
            now = replace(directory, schedules={id: on_call_at(each, minute) for id, each in schedules.items()})
            run = Escalation("acme", UUID(int=1), Facts("db down", "", 1, "", NOON))
            decision = decide(run, Started(named["first"]), time_of(minute), now, UUID(int=2))
            paged = any(isinstance(command, Page) for command in decision.commands)
            assert paged is not _in(found.unreached, minute), (seed, minute)


def _policy(random: Random, id: str) -> Policy:
    # Not to wait in a gap: then the pager pages later, and both are right.
    return Policy(
        id,
        tuple(_level(random) for _ in range(random.randint(1, 3))),
        fallback_target=_target(random) if random.random() < 0.5 else None,
        on_gap=random.choice((GapChoice.SKIP, GapChoice.FALLBACK)),
        next_policy=random.choice(("", "", "first", "second", "gone")),
    )


def _level(random: Random) -> Level:
    zone, _ = random.choice(CHANGES)
    windows = tuple(hours(EVERY_DAY, random.randint(0, 23), random.randint(0, 23)) for _ in range(random.randint(1, 2)))
    step = level(*(_target(random) for _ in range(random.choice((1, 1, 2)))))
    return replace(step, condition=Condition(windows=windows, zone=zone)) if random.random() < 0.5 else step


def _target(random: Random) -> Target:
    some = [schedule("here"), schedule("there")] * 3
    return random.choice([*some, schedule("gone"), user(random.choice(PEOPLE)), team("core"), team("empty")])


def _in(stretches: Sequence[Interval], minute: int) -> bool:
    return any(start <= minute < end for start, end in stretches)


class _Walk:
    """A policy and those after it, asked one minute after the other, by the rules as they are written."""

    def __init__(
        self, policies: tuple[Policy, ...], people: Directory, known: Mapping[str, Schedule], since: int, until: int
    ) -> None:
        self.policies = policies
        self.people = people
        self.oracles = {f"schedules/{id}": Oracle(each, since, until) for id, each in known.items()}
        self.opened = {each.condition: _opened(each.condition, since, until) for one in policies for each in one.levels}

    def open(self, number: int, minute: int) -> bool:
        return number == 0 or self._open(self.policies[0].levels[number - 1], minute)

    def gap(self, number: int, minute: int) -> bool:
        own = self.policies[0]
        if number == 0:
            return own.fallback_target is not None and self._who(own.fallback_target, minute) == "gap"
        here = own.levels[number - 1]
        who = [self._who(target, minute) for target in here.targets]
        return self._open(here, minute) and "gap" in who and not self._pages(own, here, minute)

    def reaches(self, minute: int) -> bool:
        last = self.policies[-1].fallback_target
        return (last is not None and self._who(last, minute) == "on_call") or any(
            self._open(each, minute) and self._pages(one, each, minute) for one in self.policies for each in one.levels
        )

    def _pages(self, one: Policy, here: Level, minute: int) -> bool:
        if any(self._who(target, minute) == "on_call" for target in here.targets):
            return True
        gap = any(self._who(target, minute) == "gap" for target in here.targets if str(target) in self.oracles)
        instead = one.fallback_target if one.on_gap is GapChoice.FALLBACK else None
        return gap and instead is not None and self._who(instead, minute) == "on_call"

    def _who(self, target: Target, minute: int) -> str:
        if str(target) in self.oracles:
            return self.oracles[str(target)].at(minute)[1]
        members = {"users": (target.id,), "teams": (self.people.teams or {}).get(target.id, ())}
        named = members.get(f"{target.kind}s", ())
        return "on_call" if any(each in self.people.users for each in named) else "gap"

    def _open(self, here: Level, minute: int) -> bool:
        return not here.condition.windows or _in(self.opened[here.condition], minute)


def _opened(condition: Condition, since: int, until: int) -> list[Interval]:
    found = []
    for window in condition.windows:
        day = wall(since, condition.zone).replace(hour=0, minute=0) - timedelta(days=3)
        while day < wall(until, condition.zone) + timedelta(days=2):
            begins = starts_on(day, window)
            found.append((land(begins, condition.zone), land(begins + window.length * MINUTE, condition.zone, True)))
            day += timedelta(days=1)
    return found

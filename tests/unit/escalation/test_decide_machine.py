"""Random lives of an escalation: in any order of events the invariants hold (ARCHITECTURE.md)."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tocsin_escalation.domain.chain import MOST_HAND_ONS
from tocsin_escalation.domain.conditions import ALWAYS, Condition
from tocsin_escalation.domain.decide import decide
from tocsin_escalation.domain.decision import Page, StopPages
from tocsin_escalation.domain.deferring import deferred, waits_to_begin
from tocsin_escalation.domain.escalation import Escalation, Facts, PageState, Reached, State, Timer
from tocsin_escalation.domain.events import (
    Acknowledged,
    AlertsAdded,
    Edited,
    Escalated,
    Event,
    Merged,
    MergedFrom,
    OutcomeKind,
    PageOutcome,
    Reassigned,
    Resolved,
    RespondersAdded,
    Restarted,
    Snoozed,
    Started,
    TimerFired,
    Unacknowledged,
    Unmerged,
)
from tocsin_escalation.domain.gaps import LOOK_AGAIN, holds
from tocsin_escalation.domain.outcomes import _was_repeated
from tocsin_escalation.domain.policy import Directory, GapChoice, OnCall
from tocsin_escalation.domain.schedules.model import Window
from tocsin_escalation.domain.turns import holder, taken
from tocsin_escalation.domain.urgencies import Urgency, UrgencyRule, urgency_at

from tests.rounds import examples
from tests.unit.escalation.people import NOON, level, policy, schedule, team, user

PEOPLE = ("ana", "ben", "cem")
TARGETS = st.sampled_from(
    [*map(user, PEOPLE), user("gone"), team("core"), team("empty"), *map(schedule, ("web", "far", "quiet"))]
)
RESTS = (
    UrgencyRule(
        Urgency.DEFERRED,
        Condition((3, 4), tuple(Window(frozenset(range(7)), 60 * at, 30) for at in (12, 14, 15)), "UTC"),
    ),
)
LEVELS = st.builds(
    lambda t, m, in_turn, share, condition: replace(
        level(*t, minutes=m),
        in_turn=in_turn,
        turn_timeout=timedelta(minutes=m / share) if in_turn and share else None,
        condition=condition,
        repeats=0 if in_turn else max(share - 1, 0),
        repeat_interval=timedelta(minutes=m / share) if not in_turn and share else None,
    ),
    st.lists(TARGETS, min_size=1, max_size=3),
    st.integers(1, 30),
    st.booleans(),
    st.sampled_from([0, 2, 5]),
    st.sampled_from([ALWAYS, ALWAYS, Condition((1, 2)), Condition((3, 4))]),
)
POLICIES = st.builds(
    lambda levels, repeats, fallback, ack, raise_, gap, following, rules: policy(
        *levels,
        repeat_count=repeats,
        fallback_target=fallback,
        ack_timeout=timedelta(minutes=ack) if ack else None,
        page_raised_urgency=raise_,
        on_gap=gap,
        next_policy=following,
        urgency_rules=rules,
    ),
    st.lists(LEVELS, min_size=1, max_size=4),
    st.integers(0, 2),
    st.none() | TARGETS,
    st.sampled_from([0, 10]),
    st.booleans(),
    st.sampled_from(GapChoice),
    st.sampled_from(["", "", "ring", "gone"]),
    st.sampled_from([(), (), RESTS, (UrgencyRule(Urgency.HIGH, Condition((4,))), *RESTS)]),
)
RING = replace(policy(level(user("ana"), minutes=1), next_policy="ring"), id="ring")
GAP = OnCall((), "web has a gap", True, NOON + timedelta(hours=1), ("cem",))
SCHEDULES = {"web": GAP, "far": OnCall((), "far has a gap", True), "quiet": OnCall((), "nobody, on purpose")}


class Life(RuleBasedStateMachine):
    """One incident, everything that can happen to it, and a memory of every page."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.directory = Directory(
            frozenset(PEOPLE), {"core": ("ben", "cem"), "empty": ()}, SCHEDULES, {}, policies={"ring": RING}
        )
        self.run = Escalation("acme", uuid4(), Facts("db down", "db1", 4, "", NOON))
        self.paged: Counter[tuple[int, int, int, str]] = Counter()
        self.old_timers: list[Timer] = []
        self.stopped_up_to = 0
        self.started = False
        self.pages: list[Page] = []
        self.accepted = False

    def take(self, event: Event) -> None:
        before = self.run
        decision = decide(before, event, self.now, self.directory, uuid4())
        if decision.refusal is not None:
            assert decision.next == before
            assert not decision.commands
            return
        if before.timer is not None and decision.next.timer != before.timer:
            self.old_timers.append(before.timer)
        self.run = decision.next
        self.directory = replace(self.directory, turns=taken(self.directory.turns or {}, decision.commands))
        for command in decision.commands:
            if isinstance(command, Page):
                assert command.actor != f"users/{command.user}", "nobody is told that they ask for themselves"
            if isinstance(command, StopPages) and command.user:
                assert command.user == "ana", "only who passes it on is let off"
                assert command.generation < self.run.generation, "a page that she gets by it is not stopped"
            elif isinstance(command, StopPages):
                self.stopped_up_to = max(self.stopped_up_to, command.generation)
            elif isinstance(command, Page) and command.type in ("new_incident", "escalation"):
                asked_by = f" for {command.actor}" if isinstance(event, RespondersAdded) else ""
                self.paged[(command.generation, command.repeat, command.level, command.user + asked_by)] += 1
                self.pages.append(command)
                assert command.generation > self.stopped_up_to, "a page of a generation that was stopped"
        assert self.run.generation >= before.generation
        handed_on = self.run.handed_on > before.handed_on
        assert self.run.repeat >= before.repeat or handed_on or isinstance(event, Reassigned | Restarted)
        assert self.run.handed_on <= MOST_HAND_ONS
        if (self.run.repeat, self.run.generation) == (before.repeat, before.generation):
            assert self.run.level >= before.level, "a level never goes back within a repeat"
        if before.state is State.RESOLVED:
            assert self.run == before, "resolved absorbs"

    @initialize(run_on=st.none() | POLICIES)
    def start(self, run_on: object) -> None:
        self.take(Started(run_on, "" if run_on else "none"))  # type: ignore[arg-type]
        self.started = True

    @rule(minutes=st.floats(0, 40))
    def time_passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(there=st.booleans())
    def somebody_comes_on_call_or_goes(self, there: bool) -> None:
        web = OnCall(("cem",), "web has cem") if there else replace(GAP, comes_on=self.now + timedelta(hours=1))
        self.directory = replace(self.directory, schedules={**SCHEDULES, "web": web})

    @rule(away=st.frozensets(st.sampled_from(PEOPLE)))
    def people_are_away(self, away: frozenset[str]) -> None:
        self.directory = replace(self.directory, away=away)

    @property
    def held(self) -> bool:
        return holds(self.run, self.run.level)

    @precondition(lambda self: self.run.timer is not None)
    @rule()
    def live_timer_fires_when_due(self) -> None:
        timer = self.run.timer
        assert timer is not None
        self.now = max(self.now, timer.due_time)
        self.take(TimerFired(timer.id, timer.generation))

    @precondition(lambda self: self.run.timer is not None)
    @rule()
    def live_timer_fires_too_early(self) -> None:
        timer = self.run.timer
        assert timer is not None
        before = self.run
        if timer.due_time - self.now > timedelta(seconds=1):
            self.take(TimerFired(timer.id, timer.generation))
            assert self.run == before

    @precondition(lambda self: self.old_timers)
    @rule(data=st.data())
    def old_timer_fires(self, data: st.DataObject) -> None:
        timer = data.draw(st.sampled_from(self.old_timers))
        before = self.run
        self.take(TimerFired(timer.id, timer.generation))
        assert self.run == before, "a stale timer does nothing"

    @rule(who=st.sampled_from(PEOPLE))
    def acknowledge(self, who: str) -> None:
        self.take(Acknowledged(f"users/{who}"))

    @rule(who=st.sampled_from(PEOPLE))
    def unacknowledge(self, who: str) -> None:
        self.take(Unacknowledged(f"users/{who}"))

    @rule(minutes=st.integers(1, 60))
    def snooze(self, minutes: int) -> None:
        self.take(Snoozed("users/ana", timedelta(minutes=minutes)))

    @rule(to=st.integers(0, 5))
    def escalate(self, to: int) -> None:
        self.take(Escalated("users/ana", to))

    @rule(to=st.lists(TARGETS, min_size=1, max_size=2))
    def reassign(self, to: list[object]) -> None:
        self.take(Reassigned("users/ana", targets=tuple(to)))  # type: ignore[arg-type]

    @rule(to=POLICIES)
    def reassign_to_policy(self, to: object) -> None:
        self.take(Reassigned("users/ana", policy=to))  # type: ignore[arg-type]

    @rule(who=st.sampled_from(PEOPLE), to=st.lists(TARGETS, min_size=1, max_size=2))
    def add_responders(self, who: str, to: list[object]) -> None:
        before = self.run
        self.take(RespondersAdded(f"users/{who}", tuple(to)))  # type: ignore[arg-type]
        assert (self.run.state, self.run.level, self.run.timer) == (before.state, before.level, before.timer)

    @rule(to=st.none() | POLICIES)
    def restart(self, to: object) -> None:
        self.take(Restarted("users/ana", to))  # type: ignore[arg-type]

    @rule(title=st.none() | st.sampled_from(["db down", "db up"]), severity=st.none() | st.integers(1, 4))
    def edit(self, title: str | None, severity: int | None) -> None:
        before, pages = self.run, self.paged.total()
        self.take(Edited("users/ana", title, severity))
        if before.state not in (State.RESOLVED, State.MERGED) and severity is not None:
            assert self.run.facts.severity == severity
        if severity is None:
            assert (self.paged.total(), self.run.generation) == (pages, before.generation)

    @rule(severity=st.integers(1, 4), new_keys=st.integers(0, 2))
    def alerts_added(self, severity: int, new_keys: int) -> None:
        before, pages, held = self.run, self.paged.total(), self.held
        self.take(AlertsAdded(self.run.facts.alert_count + 1, severity, "again", new_keys))
        was = before.facts.severity
        worse = severity < was and (new_keys > 0 or not before.severity_set)
        passed = before.policy is not None and any(
            each.condition.holds(severity, self.now) and not each.condition.holds(was, self.now)
            for each in before.policy.levels[: before.level]
        )
        rules = before.policy.urgency_rules if before.policy else ()
        rises = Urgency.HIGH is urgency_at(rules, severity, self.now) is not urgency_at(rules, was, self.now)
        urgent = before.policy is not None and before.policy.page_raised_urgency and rises
        if worse and waits_to_begin(before) and deferred(self.run, self.now) is None:
            assert self.run.generation == before.generation + self.run.handed_on - before.handed_on
            return
        raised = worse and (urgent or passed)
        if not raised or before.state in (State.ACKNOWLEDGED, State.SNOOZED, State.MERGED):
            assert self.paged.total() == pages, (
                "only urgency and a level passed before page again, and only what nobody holds"
            )
            assert (self.run.state, self.run.timer, self.run.generation) == (
                before.state,
                before.timer,
                before.generation,
            )
        elif before.state is State.TRIGGERED:
            handed_on = self.run.handed_on - before.handed_on
            assert self.run.generation == before.generation + 1 + handed_on
            assert self.stopped_up_to == before.generation, "the pending low pages are superseded"
            if held or passed:
                return
            assert (self.run.level, self.run.assignees) == (before.level, before.assignees)
            assert self.paged.total() == pages + len(before.assignees)

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), kind=st.sampled_from(OutcomeKind))
    def something_becomes_of_a_page(self, data: st.DataObject, kind: OutcomeKind) -> None:
        """Of any page, new or old, in any order: notify may die, repeat itself, or be behind by hours."""
        newest_first = st.sampled_from(self.pages[::-1])
        page = data.draw(newest_first)
        outcome = PageOutcome(page.id, page.user, kind, page.level)
        before, pages = self.run, self.paged.total()
        self.take(outcome)
        current = before.state is State.TRIGGERED and (page.generation, page.repeat, page.level) == (
            before.generation,
            before.repeat,
            before.level,
        )
        arrived = kind in (OutcomeKind.SENT, OutcomeKind.DELIVERED)
        if arrived and before.state is not State.RESOLVED:
            self.accepted = True
        if not current or arrived or kind is OutcomeKind.DELAYED:
            assert self.paged.total() == pages, "only a failure at the current level moves anything"
            assert (self.run.level, self.run.timer, self.run.state) == (before.level, before.timer, before.state)
        if before.state in (State.ACKNOWLEDGED, State.SNOOZED, State.MERGED):
            assert self.run.state is before.state, "acknowledge beats everything"

    @precondition(lambda self: self.run.state is State.TRIGGERED)
    @rule(kind=st.sampled_from([OutcomeKind.UNREACHABLE, OutcomeKind.FAILED]))
    def nobody_of_the_current_level_can_be_reached(self, kind: OutcomeKind) -> None:
        before = self.run
        if (
            self.held
            or _was_repeated(before)
            or any(before.pages.get(page.id) is PageState.SENT for page in self.at_the_level(before))
        ):
            return
        failed = False
        while mine := self.at_the_level(before):
            assert (self.run.level, self.run.repeat) == (before.level, before.repeat)
            self.take(PageOutcome(mine[0].id, mine[0].user, kind, mine[0].level))
            failed = True
        if failed:
            here = (self.run.state, self.run.generation, self.run.repeat, self.run.level)
            there = (State.TRIGGERED, before.generation, before.repeat, before.level)
            assert here != there, "the level is left at once"
            due = self.run.timer
            assert due is None or due.due_time > self.now, "whoever is next has time to answer"

    def at_the_level(self, there: Escalation) -> list[Page]:
        """The pages of this level and repeat that may still reach a user; where people have turns there may be new ones."""
        return [
            page
            for page in self.pages
            if (page.generation, page.repeat, page.level) == (there.generation, there.repeat, there.level)
            and self.run.pages.get(page.id) in (PageState.OPEN, PageState.SENT)
        ]

    @rule(into=st.sampled_from([UUID(int=1), UUID(int=2)]))
    def merge(self, into: UUID) -> None:
        pages = self.paged.total()
        self.take(Merged("users/ana", into))
        assert self.paged.total() == pages

    @precondition(lambda self: self.run.state is State.MERGED)
    @rule()
    def unmerge(self) -> None:
        self.take(Unmerged("users/ana"))
        assert self.run.state in (State.TRIGGERED, State.EXHAUSTED)
        assert self.run.merged_into is None

    @rule(severity=st.integers(1, 4))
    def another_is_merged_into_it(self, severity: int) -> None:
        before = self.run
        self.take(MergedFrom("users/ana", UUID(int=3), "disk full", severity, 1))
        if before.state not in (State.RESOLVED, State.MERGED):
            assert self.run.facts.severity == min(severity, before.facts.severity)
            assert self.run.facts.alert_count == before.facts.alert_count

    @rule()
    def resolve(self) -> None:
        self.take(Resolved("integrations/prom"))

    @invariant()
    def a_timer_runs_exactly_where_one_must(self) -> None:
        if self.started and self.run.state in (State.TRIGGERED, State.SNOOZED):
            assert self.run.timer is not None
        if self.run.state in (State.EXHAUSTED, State.RESOLVED, State.MERGED):
            assert self.run.timer is None

    @invariant()
    def a_turn_or_a_repeat_ends_with_its_level_at_the_latest(self) -> None:
        timer = self.run.timer
        if timer is not None and timer.level_end is not None:
            assert timer.due_time <= timer.level_end
            assert holder(self.run) in self.run.assignees
            assert self.run.policy is not None
            step = self.run.policy.levels[self.run.level - 1]
            assert step.in_turn or step.repeats

    @invariant()
    def only_a_policy_that_says_so_waits(self) -> None:
        if self.held:
            assert self.run.policy is not None
            assert self.run.policy.on_gap is GapChoice.HOLD
            assert self.run.timer is not None
            assert self.run.timer.due_time <= self.now + LOOK_AGAIN

    @invariant()
    def reached_tells_the_truth(self) -> None:
        if self.accepted:
            assert self.run.reached is Reached.SOMEBODY
        if self.run.reached is Reached.SOMEBODY:
            assert self.accepted
        if self.run.state is State.EXHAUSTED and PageState.OPEN not in self.run.pages.values():
            assert self.run.reached is not Reached.UNKNOWN

    @invariant()
    def what_is_known_of_pages_stays_small(self) -> None:
        """Pages of earlier levels are kept while they are open, and only if they were not stopped."""
        paged = {page.id for page in self.pages if page.generation > self.stopped_up_to}
        assert set(self.run.pages) <= paged

    @invariant()
    def each_level_is_paged_once_per_generation_and_repeat(self) -> None:
        assert all(count == 1 for count in self.paged.values())


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=examples(150), stateful_step_count=30, deadline=None)

"""What would happen to an escalation that is not answered, by the same rules that decide real ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin_escalation.domain.decide import decide
from tocsin_escalation.domain.decision import Note, Page
from tocsin_escalation.domain.escalation import Escalation, Reached, TimerKind
from tocsin_escalation.domain.events import Event, OutcomeKind, PageOutcome, TimerFired
from tocsin_escalation.domain.gaps import comes_on
from tocsin_escalation.domain.policy import Directory
from tocsin_escalation.domain.turns import taken

HORIZON: Final = timedelta(days=35)
MOST_STEPS: Final = 1000
MOST_EVENTS: Final = 5000
"""Events without a step count as well: a level that keeps waiting must not use a processor without end."""

People = Callable[[datetime], Directory]
"""Who can be paged, and who is on call, at an instant."""


@dataclass(frozen=True, slots=True)
class SimulatedEntry:
    """One entry the timeline would have. `run` is the escalation after it."""

    time: datetime
    note: Note
    run: Escalation


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that would happen, and where it ends. `truncated`: more would follow."""

    steps: tuple[SimulatedEntry, ...]
    end: Escalation
    truncated: bool

    def next_page_of(self, user: str) -> datetime | None:
        """The first step that would page this user."""
        paging = (step.time for step in self.steps if any(page.user == user for page in step.note.pages))
        return next(paging, None)


def simulate(
    run: Escalation, event: Event | None, start: datetime, people: People, unreachable: Mapping[str, str]
) -> Plan:
    """Simulate `run` to its end, after `event` or from its present state.

    `unreachable`: the reason, by the ids of users to whom no page can be sent; such pages end at once, as notify would report.
    """
    play = _Play(run, people, unreachable)
    now = start
    if event is not None:
        play.take(event, now)
    while play.run.timer is not None:
        now = max(now, _due(play.run, people(max(now, play.run.timer.due_time))))
        if now > start + HORIZON or len(play.steps) >= MOST_STEPS or play.taken >= MOST_EVENTS:
            return Plan(tuple(play.steps), play.run, truncated=True)
        timer = play.run.timer
        if timer.kind is TimerKind.GAP_HOLD:
            # It is moved to the end of the gap: the checks in between change nothing.
            play.run = replace(play.run, timer=replace(timer, due_time=now))
        play.take(TimerFired(timer.id, timer.generation), now)
    return Plan(tuple(play.steps), play.run, truncated=False)


def _due(run: Escalation, there: Directory) -> datetime:
    assert run.timer is not None, "only a run with a timer goes on"
    if run.timer.kind is TimerKind.GAP_HOLD and run.policy is not None:
        ending = comes_on(run.policy.levels[run.level - 1].targets, there)
        if ending is not None and ending.comes_on is not None:
            return max(run.timer.due_time, ending.comes_on)
    return run.timer.due_time


class _Play:
    """A run that is being simulated. Its timers have numbers of their own, so that the same simulation has the same result."""

    def __init__(self, run: Escalation, people: People, unreachable: Mapping[str, str]) -> None:
        self.run = run
        self.steps: list[SimulatedEntry] = []
        self._people = people
        self._unreachable = unreachable
        self.taken = 0
        self._turns: dict[str, tuple[str, ...]] | None = None

    def take(self, event: Event, now: datetime) -> None:
        waiting = [event]
        while waiting:
            self.taken += 1
            there = self._people(now)
            if self._turns is not None:
                there = replace(there, turns=self._turns)
            decision = decide(self.run, waiting.pop(0), now, there, UUID(int=self.taken))
            self._turns = taken(there.turns or {}, decision.commands)
            self.run = decision.next
            self.steps += [SimulatedEntry(now, note, self.run) for note in decision.notes]
            pages = [command for command in decision.commands if isinstance(command, Page)]
            if any(page.user not in self._unreachable for page in pages):
                self.run = replace(self.run, reached=Reached.SOMEBODY)  # a provider takes it
            waiting += [
                PageOutcome(
                    page.id, page.user, OutcomeKind.UNREACHABLE, page.level, reason=self._unreachable[page.user]
                )
                for page in pages
                if page.user in self._unreachable
            ]

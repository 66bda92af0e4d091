"""A policy, its people and a clock that stands where the test puts it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tocsin_escalation.domain.decide import decide
from tocsin_escalation.domain.decision import Decision, NoteKind, Page, StopPages
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.domain.events import Event, OutcomeKind, PageOutcome, Started, TimerFired
from tocsin_escalation.domain.policy import Directory, Level, Policy, Target, TargetKind

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EVERYBODY = Directory(frozenset({"ana", "ben", "cem", "dora"}), {"core": ("ben", "cem"), "empty": ()})


def user(id: str) -> Target:
    return Target(TargetKind.USER, id)


def team(id: str) -> Target:
    return Target(TargetKind.TEAM, id)


def schedule(id: str) -> Target:
    return Target(TargetKind.SCHEDULE, id)


def level(*targets: Target, minutes: float = 5) -> Level:
    return Level(targets, timedelta(minutes=minutes))


def policy(*levels: Level, **changes: object) -> Policy:
    return Policy("night", levels, **changes)  # type: ignore[arg-type]


THREE = policy(level(user("ana")), level(team("core")), level(user("dora")))


class Story:
    """One incident told step by step: what happens, when, and who was paged by it."""

    def __init__(self, run_on: Policy | None = THREE, directory: Directory = EVERYBODY, cause: str = "") -> None:
        facts = Facts("db down", "db1", 1, "integrations/prom", NOON)
        self.run = Escalation("acme", uuid4(), facts)
        self.now = NOON
        self.directory = directory
        self.decisions: list[Decision] = []
        self.take(Started(run_on, cause))

    def take(self, event: Event) -> Decision:
        decision = decide(self.run, event, self.now, self.directory, uuid4())
        self.decisions.append(decision)
        self.run = decision.next
        return decision

    def passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    def timer_fires(self) -> Decision:
        assert self.run.timer is not None, "there is no timer to fire"
        return self.take(TimerFired(self.run.timer.id, self.run.timer.generation))

    def paged(self) -> list[tuple[int, str]]:
        """Who was paged by the newest event, as (level, user)."""
        return [(page.level, page.user) for page in self._pages() if page.level or page.type == "escalation"]

    def asked_by(self) -> dict[str, str]:
        """For each user whom the newest event paged, who asks for them; empty: nobody."""
        return {page.user: page.actor for page in self._pages() if page.type in ("new_incident", "escalation")}

    def told(self) -> list[tuple[str, str]]:
        """Who heard news of the newest event, as (type, user)."""
        return [(page.type.value, page.user) for page in self._pages() if page.type in ("acknowledgment", "resolution")]

    def stopped(self) -> int | None:
        """The generation whose pages the newest event stopped for all users."""
        stops = [each.generation for each in self._stops() if not each.user]
        return stops[0] if stops else None

    def let_off(self) -> list[tuple[int, str]]:
        """Whose own pages the newest event stopped, as (generation, user)."""
        return [(each.generation, each.user) for each in self._stops() if each.user]

    def said(self) -> list[NoteKind]:
        return [note.kind for note in self.decisions[-1].notes]

    def due(self) -> float | None:
        """Minutes from noon to the live timer."""
        return (self.run.timer.due_time - NOON) / MINUTE if self.run.timer else None

    def page_of(self, who: str) -> UUID:
        """The newest page of a user."""
        pages = [page for decision in self.decisions for page in decision.commands if isinstance(page, Page)]
        return [page.id for page in pages if page.user == who][-1]

    def page_ends(self, who: str, kind: OutcomeKind, **fields: Any) -> Decision:
        """Notify reports an outcome of a user's newest page."""
        return self.take(PageOutcome(self.page_of(who), who, kind, **fields))

    def _stops(self) -> list[StopPages]:
        return [command for command in self.decisions[-1].commands if isinstance(command, StopPages)]

    def _pages(self) -> list[Page]:
        return [command for command in self.decisions[-1].commands if isinstance(command, Page)]


def stale() -> TimerFired:
    return TimerFired(UUID(int=0), 1)

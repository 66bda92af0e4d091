"""Stand-ins for what is outside escalation's database, and a desk from which tests act."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from tocsin.notify.v1 import internal_service_pb2, notification_pb2
from tocsin_escalation.app.computing import Computations, in_transaction
from tocsin_escalation.app.incidents.advance import Advanced, advance
from tocsin_escalation.app.incidents.apply_events import Arrival, Opening, Result, apply_events
from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.fire_timers import sweep_overdue
from tocsin_escalation.app.people import people, policies
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.domain.events import Event
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.store.incidents import escalations, timeline
from tocsin_escalation.store.incidents.timers import LiveTimer
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.work.tasks import QUEUE
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_testkit.clock import clock_is_ahead
from tocsin_testkit.owner_sessions import OwnerSessions

T = TypeVar("T")
ORG = "acme"
POLICY = Policy(
    "night",
    (
        Level((Target(TargetKind.USER, "ana"),), timedelta(minutes=5)),
        Level((Target(TargetKind.USER, "ben"),), timedelta(minutes=5)),
    ),
)


class Arming:
    """Redis, as far as the use cases see it."""

    def __init__(self) -> None:
        self.armed: dict[UUID, LiveTimer] = {}

    def arm(self, timers: Sequence[LiveTimer], now: datetime) -> None:
        self.armed.update((timer.incident_id, timer) for timer in timers)

    def disarm(self, incident_ids: Sequence[UUID]) -> None:
        for incident_id in incident_ids:
            self.armed.pop(incident_id, None)


class Paging:
    """The quick way to notify."""

    def __init__(self) -> None:
        self.jobs: list[notification_pb2.NotificationJob] = []

    def page(self, jobs: Sequence[notification_pb2.NotificationJob]) -> None:
        self.jobs += jobs


class Relay:
    """Counts nudges."""

    nudges = 0

    def nudge(self) -> None:
        self.nudges += 1

    def nudge_soon(self) -> None:
        self.nudges += 1


class Notify:
    """Notify's answers; `away` makes it not answer."""

    def __init__(self) -> None:
        self.cancelled: list[internal_service_pb2.Cancellation] = []
        self.away: TocsinError | None = None

    async def unreachable(self, org_id: str, users: Sequence[str]) -> dict[str, str]:
        if self.away:
            raise self.away
        return {user: "no verified contact method" for user in users if user == "ben"}

    async def cancel(self, cancellations: Sequence[internal_service_pb2.Cancellation]) -> None:
        if self.away:
            raise self.away
        self.cancelled += cancellations


class Desk:
    """One tenant's incidents, and the clock of their database."""

    def __init__(self, db: Database, url: str, sessions: OwnerSessions, effects: Effects) -> None:
        self.db = db
        self.url = url
        self.sessions = sessions
        self.effects = effects
        self.arming: Arming = effects.arming  # type: ignore[assignment]
        self.offset = timedelta()

    async def set_up(self) -> None:
        async def work(tx: Tx) -> None:
            for user in ("ana", "ben"):
                await people.create_user(tx, UserRow(user, user, "", False))
            await policies.create(tx, POLICY, "Night", False, Computations())

        await self.db.run(ORG, work)

    def opening(
        self,
        incident_id: UUID | None = None,
        *,
        policy: str = "night",
        org_id: str = ORG,
        severity: int = 1,
        title: str = "db down",
    ) -> Arrival:
        facts = Facts(title, "db1", severity, "integrations/prom", datetime.now(UTC))
        return Arrival(org_id, incident_id or uuid4(), 1, Opening(facts, policy))

    async def opens(self, **options: str) -> UUID:
        arrival = self.opening(**options)  # type: ignore[arg-type]
        assert await apply_events(self.db, self.effects, [arrival]) == [Result.APPLIED]
        return arrival.incident_id

    async def take(
        self, incident_id: UUID, event: Event, *, org_id: str = ORG, etag: str = ""
    ) -> Advanced | TocsinError:
        async def work(tx: Tx) -> Advanced | TocsinError:
            [answer] = await advance(tx, [Step(incident_id, event, etag)], self.effects)
            return answer

        return await self.db.run(org_id, work)

    async def asks(self, work: Callable[[Tx, Computations], Awaitable[T]], *, org_id: str = ORG) -> T:
        """What work gives that has questions about schedules."""
        return await in_transaction(self.db, org_id, work)

    async def run(self, incident_id: UUID) -> Escalation:
        async with self.db.system() as tx:
            return (await escalations.lock(tx, [incident_id]))[incident_id]

    async def said(self, incident_id: UUID) -> list[str]:
        async with self.db.transaction(ORG) as tx:
            return [entry.kind for entry in await timeline.page(tx, incident_id, 0, 500)]

    async def paged(self, incident_id: UUID) -> list[tuple[int, str]]:
        """Every page in the outbox, as (level, user)."""
        async with self.db.system() as tx:
            rows = await tx.fetch("SELECT payload FROM outbox WHERE kind = 'page' ORDER BY id")
        jobs = [notification_pb2.NotificationJob.FromString(row["payload"]) for row in rows]
        name = f"incidents/{incident_id}"
        return [(job.level, job.user.removeprefix("users/")) for job in jobs if job.incident == name and job.level]

    async def passes(self, **time: float) -> None:
        """Move the database's clock."""
        self.offset += timedelta(**time)
        await self.sessions.execute(self.url, clock_is_ahead(self.offset))

    async def sweep(self) -> int:
        """One round of the sweep, without Redis."""
        return await sweep_overdue(self.db, self.effects, QUEUE, 0.0, 100)

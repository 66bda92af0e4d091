"""The tasks of notify's queue: notifications, scheduled messages, and dead letters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from tocsin.escalation.v1.internal_service_pb2 import PageOutcome
from tocsin_kit.db.pool import Tx
from tocsin_kit.tasks.task import Loss, Losses, Position, Task, TaskEvent, TaskState

from tocsin_notify.app.delivery import page_outcomes
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.redrive import Redrive
from tocsin_notify.app.pages.stored_jobs import job_of_page
from tocsin_notify.domain.failover import REMOVED, Sibling, reaches_nobody
from tocsin_notify.domain.page import WAKING, Channel, Kind, State
from tocsin_notify.store import tasks as stored
from tocsin_notify.store.delivery import failures
from tocsin_notify.store.delivery.dead_letters import DeadLetterHead
from tocsin_notify.store.pages import bundles, pages, people
from tocsin_notify.store.pages.bundles import BundledPage
from tocsin_notify.store.tasks import MessageTask, NotificationTask


@dataclass(frozen=True, slots=True)
class _Lost:
    """A page that no notification will send any more. `undelivered`: a provider had accepted it, but it was not
    delivered."""

    last: NotificationTask
    job: bytes
    kind: Kind
    members: Sequence[BundledPage]
    undelivered: bool

    def losses(self) -> list[Loss]:
        """The users who would not be paged."""
        incidents = (
            [each.incident for each in self.members if each.stopped is None]
            if self.kind is Kind.BUNDLE
            else [self.last.incident]
        )
        user = self.last.user_id
        return [
            Loss(self.last.org_id, f"incidents/{incident}", user, f"{user} is not paged for incidents/{incident}")
            for incident in incidents
        ]

    def outcomes(self, reason: str) -> list[PageOutcome]:
        """The outcomes for escalation."""
        channel = Channel(self.last.channel)
        if self.kind is Kind.BUNDLE:
            return page_outcomes.failed_together(
                self.last.org_id, self.members, reason, channel, undelivered=self.undelivered
            )
        last = self.last
        job = job_of_page(last.org_id, last.page_id, self.kind, last.user_id, last.incident, self.job)
        return [page_outcomes.failed(job, reason, channel, undelivered=self.undelivered)]


@dataclass(frozen=True, slots=True)
class NotificationTasks:
    """Notifications that wait or are being sent. Implements `TaskKind`."""

    hints: Hints
    nudge: Callable[[], None]
    """Tells the relay that the outbox has an outcome for escalation."""
    name: str = "notifications"
    drains: bool = True

    async def page(
        self, tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
    ) -> list[Task]:
        """See `TaskKind`. Dead ones are dead letters."""
        if state is TaskState.DEAD:
            return []
        return [_notification(row) for row in await stored.notifications_in(tx, state, org_id, after, limit)]

    async def find(self, tx: Tx, id: UUID) -> Task | None:
        """See `TaskKind`."""
        return next((_notification(row) for row in await stored.notifications_named(tx, [id])), None)

    async def lock(self, tx: Tx, ids: Sequence[UUID]) -> list[Task]:
        """See `TaskKind`. Locks the pages first, in the same order as failing notifications do: they hold a page and
        then change its others."""
        held = await pages.lock(tx, await stored.pages_of(tx, ids), only_free=True)
        return [_notification(row) for row in await stored.lock_notifications(tx, ids) if row.page_id in held]

    async def history(self, tx: Tx, org_id: str, id: UUID, limit: int) -> list[TaskEvent]:
        """See `TaskKind`: its attempts."""
        return await stored.history(tx, org_id, id, limit)

    async def lost_by_promoting(self, tx: Tx, task: Task) -> list[Loss]:
        """See `TaskKind`."""
        return []

    async def lost_by_removing(self, tx: Tx, tasks: Sequence[Task]) -> Losses:
        """See `TaskKind`: users of pages that wake people, if no other notification of the page can still reach them."""
        lost = await self._lost(tx, tasks)
        rows = await stored.notifications_named(tx, [task.id for task in tasks])
        return {row.id: lost[row.page_id].losses() for row in rows if row.page_id in lost}

    async def promote(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`."""
        await stored.send_now(tx, task.org_id, task.id)
        tx.after_commit(lambda: self.hints.now([task.id]))

    async def retry(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`."""
        await self.promote(tx, task, by)

    async def remove(self, tx: Tx, tasks: Sequence[Task], by: str) -> None:
        """See `TaskKind`. Escalation is told of pages that reach no one because of it, and starts the next level if it
        waits for them."""
        reason = f"{REMOVED}{by}"
        outcomes = [outcome for lost in (await self._lost(tx, tasks)).values() for outcome in lost.outcomes(reason)]
        await stored.cancel(tx, [(task.org_id, task.id) for task in tasks], reason)
        await page_outcomes.append(tx, outcomes)
        tx.after_commit(lambda: self.hints.disarm([task.id for task in tasks]))
        if outcomes:
            tx.after_commit(self.nudge)

    async def _lost(self, tx: Tx, tasks: Sequence[Task]) -> dict[UUID, _Lost]:
        """The pages that no notification will send once these are removed."""
        rows = {row.id: row for row in await stored.notifications_named(tx, [task.id for task in tasks])}
        waking = {row.page_id: row for row in rows.values() if Kind(row.type) in WAKING}
        owned = {(row.org_id, row.page_id) for row in waking.values()}
        if not owned:
            return {}
        siblings = await failures.siblings(tx, owned)
        known = await people.read(tx, {(row.org_id, row.user_id) for row in waking.values()})
        ending = {
            page: row
            for page, row in waking.items()
            if reaches_nobody(_without(siblings[page], rows), known[row.org_id, row.user_id].methods)
        }
        held = await pages.lock(tx, {(row.org_id, page) for page, row in ending.items()}, only_free=True)
        bundled = {(row.org_id, page) for page, row in ending.items() if row.type == Kind.BUNDLE}
        members = await bundles.members(tx, bundled) if bundled else {}
        return {
            page: _Lost(
                row,
                held[page][1] if page in held else b"",
                Kind(row.type),
                members.get(page, ()),
                any(sibling.taken for sibling in siblings[page]),
            )
            for page, row in ending.items()
        }


def _without(family: Sequence[Sibling], going: Mapping[UUID, object]) -> list[Sibling]:
    """The page's notifications once these are removed."""
    return [replace(each, state=State.CANCELLED, gone=True) if each.id in going else each for each in family]


@dataclass(frozen=True, slots=True)
class MessageTasks:
    """Messages that are still to be sent. Implements `TaskKind`."""

    hints: Hints
    name: str = "messages"
    drains: bool = True

    async def page(
        self, tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
    ) -> list[Task]:
        """See `TaskKind`. One that is sent is a notification."""
        if state not in (TaskState.WAITING, TaskState.DELAYED):
            return []
        return [_message(row) for row in await stored.messages_in(tx, state, org_id, after, limit)]

    async def find(self, tx: Tx, id: UUID) -> Task | None:
        """See `TaskKind`."""
        return next((_message(row) for row in await stored.messages_named(tx, [id])), None)

    async def lock(self, tx: Tx, ids: Sequence[UUID]) -> list[Task]:
        """See `TaskKind`."""
        return [_message(row) for row in await stored.messages_named(tx, ids, lock=True)]

    async def history(self, tx: Tx, org_id: str, id: UUID, limit: int) -> list[TaskEvent]:
        """See `TaskKind`: nothing has happened to it yet."""
        return []

    async def lost_by_promoting(self, tx: Tx, task: Task) -> list[Loss]:
        """See `TaskKind`."""
        return []

    async def lost_by_removing(self, tx: Tx, tasks: Sequence[Task]) -> Losses:
        """See `TaskKind`. A message is no page."""
        return {}

    async def promote(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`."""
        await stored.send_message_now(tx, task.org_id, task.id)
        tx.after_commit(lambda: self.hints.messages([(task.id, 0.0)]))

    async def retry(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`. It does not fail: its notification may."""
        await self.promote(tx, task, by)

    async def remove(self, tx: Tx, tasks: Sequence[Task], by: str) -> None:
        """See `TaskKind`: as CancelMessage does."""
        reason = f"removed from the queue by {by}"
        await stored.cancel_messages(tx, [(task.org_id, task.id) for task in tasks], reason)
        tx.after_commit(lambda: self.hints.disarm([task.id for task in tasks]))


@dataclass(frozen=True, slots=True)
class DeadLetterTasks:
    """What was given up. Implements `TaskKind`."""

    redrive: Redrive
    name: str = "deadLetters"
    drains: bool = True

    async def page(
        self, tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
    ) -> list[Task]:
        """See `TaskKind`."""
        if state is not TaskState.DEAD:
            return []
        return [_letter(row) for row in await stored.letters(tx, org_id, after, limit)]

    async def find(self, tx: Tx, id: UUID) -> Task | None:
        """See `TaskKind`."""
        return next((_letter(row) for row in await stored.letters_named(tx, [id])), None)

    async def lock(self, tx: Tx, ids: Sequence[UUID]) -> list[Task]:
        """See `TaskKind`."""
        return [_letter(row) for row in await stored.letters_named(tx, ids, lock=True)]

    async def history(self, tx: Tx, org_id: str, id: UUID, limit: int) -> list[TaskEvent]:
        """See `TaskKind`: the attempts of its notification, if one could be made."""
        row = next(iter(await stored.letters_named(tx, [id])), None)
        if row is None or row.notification_id is None:
            return []
        return await stored.history(tx, row.org_id, row.notification_id, limit)

    async def lost_by_promoting(self, tx: Tx, task: Task) -> list[Loss]:
        """See `TaskKind`."""
        return []

    async def lost_by_removing(self, tx: Tx, tasks: Sequence[Task]) -> Losses:
        """See `TaskKind`. No level waits for it: escalation was told when it died."""
        return {}

    async def promote(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`. A dead one is never delayed."""
        raise RuntimeError("a dead letter cannot be promoted")

    async def retry(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`: as RedriveDeadLetters does."""
        await self.redrive(tx, [task.id])

    async def remove(self, tx: Tx, tasks: Sequence[Task], by: str) -> None:
        """See `TaskKind`. The notification stays, with its reason."""
        await stored.discard(tx, [(task.org_id, task.id) for task in tasks])


def _notification(row: NotificationTask) -> Task:
    if row.state == State.SENDING:
        state, time = TaskState.ACTIVE, row.lease_until
    else:
        state, time = TaskState.WAITING if row.due else TaskState.DELAYED, row.due_time
    assert time is not None, "the table's checks: sending has a lease, pending a due time"
    return Task(
        kind="notifications",
        id=row.id,
        org_id=row.org_id,
        state=state,
        time=time,
        summary=f"{row.type} by {row.channel}, step {row.step}",
        due_time=row.due_time,
        create_time=row.create_time,
        attempts=row.attempts,
        error=row.state_reason if row.tries else "",
        about=f"incidents/{row.incident}" if row.incident else "",
        user=row.user_id,
    )


def _message(row: MessageTask) -> Task:
    return Task(
        kind="messages",
        id=row.id,
        org_id=row.org_id,
        state=TaskState.WAITING if row.due else TaskState.DELAYED,
        time=row.send_time,
        summary=f"message by {row.channel} to an address" if row.channel else "message",
        due_time=row.send_time,
        create_time=row.create_time,
        user=row.user_id,
    )


def _letter(row: DeadLetterHead) -> Task:
    return Task(
        kind="deadLetters",
        id=row.id,
        org_id=row.org_id,
        state=TaskState.DEAD,
        time=row.create_time,
        summary=row.reason,
        create_time=row.create_time,
        error=row.detail,
        about=f"incidents/{row.incident}" if row.incident else "",
        user=row.user_id,
    )

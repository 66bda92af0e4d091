"""The tasks of escalation's queue: timers of incidents, and reminders."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import new_id
from tocsin_kit.tasks.task import Loss, Losses, Position, Task, TaskEvent, TaskState

from tocsin_escalation.app.incidents.advance import advance
from tocsin_escalation.app.incidents.decision_data import DecisionData, Step
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.domain.decide import decide
from tocsin_escalation.domain.decision import Decision, Page
from tocsin_escalation.domain.escalation import Escalation, State
from tocsin_escalation.domain.events import TimerFired, TimerPromoted, TimerRemoved
from tocsin_escalation.domain.policy import Directory
from tocsin_escalation.store import tasks as stored
from tocsin_escalation.store.incidents import escalations
from tocsin_escalation.store.tasks import ReminderTask, TimerTask

_FAILED: Final = "its firing failed; the log says why (event timer_failed)"


@dataclass(frozen=True, slots=True)
class TimerTasks:
    """The live timer of each running incident; its id is the incident's. Implements `TaskKind`."""

    effects: Effects
    name: str = "timers"
    drains: bool = False
    """Each removal ends an escalation, so it must name its incident."""

    async def page(
        self, tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
    ) -> list[Task]:
        """See `TaskKind`. A timer is never active or dead: it fires within one transaction, and is tried for ever."""
        if state not in (TaskState.WAITING, TaskState.DELAYED):
            return []
        return [_timer(row) for row in await stored.timers_in(tx, state, org_id, after, limit)]

    async def find(self, tx: Tx, id: UUID) -> Task | None:
        """See `TaskKind`."""
        return next((_timer(row) for row in await stored.timers_named(tx, [id])), None)

    async def lock(self, tx: Tx, ids: Sequence[UUID]) -> list[Task]:
        """See `TaskKind`. The escalation's row is what decides about its timer. It waits for the lock: a timer that is firing at
        this moment is replaced by another one, or by none."""
        held = await escalations.lock(tx, ids)
        return [_timer(row) for row in await stored.timers_named(tx, list(held))]

    async def history(self, tx: Tx, org_id: str, id: UUID, limit: int) -> list[TaskEvent]:
        """See `TaskKind`: the incident's timeline."""
        return await stored.history(tx, org_id, id, limit)

    async def lost_by_promoting(self, tx: Tx, task: Task) -> list[Loss]:
        """See `TaskKind`. No user is lost, unless the escalation ends by it."""
        run, decision = (await self._fired(tx, [task])).get(task.id, (None, None))
        if run is None or decision is None or decision.next.state is not State.EXHAUSTED or _paged(decision):
            return []
        told = f"incidents/{task.id} is exhausted by it: its policy has nobody further to page"
        return [Loss(task.org_id, f"incidents/{task.id}", "", told)]

    async def lost_by_removing(self, tx: Tx, tasks: Sequence[Task]) -> Losses:
        """See `TaskKind`: the users whom the timer would page if it fired now, or a mark that they are not known."""
        return {id: _lost(run, decision) for id, (run, decision) in (await self._fired(tx, tasks)).items()}

    async def promote(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`."""
        await self._advance(tx, Step(task.id, TimerPromoted(by), org_id=task.org_id))
        await self.retry(tx, task, by)

    async def retry(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`."""
        timer, now = await stored.end_rest(tx, task.org_id, task.id), await tx.now()
        if timer is not None:
            tx.after_commit(lambda: self.effects.arming.arm([timer], now))

    async def remove(self, tx: Tx, tasks: Sequence[Task], by: str) -> None:
        """See `TaskKind`."""
        for task in tasks:
            await self._advance(tx, Step(task.id, TimerRemoved(by), org_id=task.org_id))

    async def _advance(self, tx: Tx, step: Step) -> None:
        for answer in await advance(tx, [step], self.effects, entries=False):
            if isinstance(answer, TocsinError):
                raise answer

    async def _fired(self, tx: Tx, tasks: Sequence[Task]) -> dict[UUID, tuple[Escalation, Decision]]:
        """The result of each timer if it fired now. It is not written. Who acts on the tasks has locked them before."""
        runs = await escalations.read(tx, [task.id for task in tasks])
        now = await tx.now()
        due = {
            id: replace(run, timer=replace(run.timer, due_time=min(now, run.timer.due_time)))
            for id, run in runs.items()
            if run.timer is not None
        }
        steps = {id: Step(id, TimerFired(run.timer.id, run.timer.generation)) for id, run in due.items() if run.timer}
        known = await DecisionData.read(tx, runs, list(steps.values()))
        return {
            id: (runs[id], decide(run, steps[id].event, now, known.people.get(run.org_id, Directory()), new_id()))
            for id, run in due.items()
        }


@dataclass(frozen=True, slots=True)
class ReminderTasks:
    """Reminders that are still to come. Implements `TaskKind`."""

    name: str = "reminders"
    drains: bool = True

    async def page(
        self, tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
    ) -> list[Task]:
        """See `TaskKind`."""
        if state not in (TaskState.WAITING, TaskState.DELAYED):
            return []
        return [_reminder(row) for row in await stored.reminders_in(tx, state, org_id, after, limit)]

    async def find(self, tx: Tx, id: UUID) -> Task | None:
        """See `TaskKind`."""
        return next((_reminder(row) for row in await stored.reminders_named(tx, [id])), None)

    async def lock(self, tx: Tx, ids: Sequence[UUID]) -> list[Task]:
        """See `TaskKind`."""
        return [_reminder(row) for row in await stored.lock_reminders(tx, ids)]

    async def history(self, tx: Tx, org_id: str, id: UUID, limit: int) -> list[TaskEvent]:
        """See `TaskKind`: a reminder stores only how often it was sent."""
        return []

    async def lost_by_promoting(self, tx: Tx, task: Task) -> list[Loss]:
        """See `TaskKind`."""
        return []

    async def lost_by_removing(self, tx: Tx, tasks: Sequence[Task]) -> Losses:
        """See `TaskKind`. A reminder is no page: the incident's own pages do not depend on it."""
        return {}

    async def promote(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`."""
        await stored.remind_now(tx, task.org_id, task.id)

    async def retry(self, tx: Tx, task: Task, by: str) -> None:
        """See `TaskKind`. None fails: sending one is writing an outbox row."""
        await self.promote(tx, task, by)

    async def remove(self, tx: Tx, tasks: Sequence[Task], by: str) -> None:
        """See `TaskKind`."""
        await stored.stop_reminders(tx, [(task.org_id, task.id) for task in tasks], f"removed from the queue by {by}")


def _timer(row: TimerTask) -> Task:
    return Task(
        kind="timers",
        id=row.incident_id,
        org_id=row.org_id,
        state=TaskState.WAITING if row.due and not row.rests else TaskState.DELAYED,
        time=row.due_time,
        summary=f"{row.kind} of level {row.level}, {row.state}: {row.title}",
        due_time=row.retry_time if row.rests else row.due_time,
        attempts=row.attempts,
        error=_FAILED if row.attempts else "",
        about=f"incidents/{row.incident_id}",
        user=row.acknowledged_by if row.acknowledged_by.startswith("users/") else "",
    )


def _reminder(row: ReminderTask) -> Task:
    return Task(
        kind="reminders",
        id=row.id,
        org_id=row.org_id,
        state=TaskState.WAITING if row.due else TaskState.DELAYED,
        time=row.next_time,
        summary=f"reminder: {row.text}" if row.text else "reminder",
        due_time=row.next_time,
        create_time=row.create_time,
        about=f"incidents/{row.incident_id}" if row.incident_id else f"teams/{row.team_id}" if row.team_id else "",
        user=f"users/{row.user_id}" if row.team_id is None else "",
    )


def _paged(decision: Decision) -> list[str]:
    return [command.user for command in decision.commands if isinstance(command, Page)]


def _lost(run: Escalation, decision: Decision) -> list[Loss]:
    name = f"incidents/{run.incident_id}"
    if run.state is State.ACKNOWLEDGED:
        told = f"{name}: nobody is paged again if {run.acknowledged_by} does not resolve it"
        return [Loss(run.org_id, name, user, told) for user in _users(decision) or [run.acknowledged_by]]
    return [
        Loss(
            run.org_id,
            name,
            user,
            f"{name}: {user or 'the user on call then'} is not paged, and nobody after them",
        )
        for user in _users(decision) or [""]
    ]


def _users(decision: Decision) -> list[str]:
    return [f"users/{user}" for user in _paged(decision)]

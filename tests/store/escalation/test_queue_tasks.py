"""Timers and reminders as tasks of escalation's queue, on a real database."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar
from uuid import uuid4

import pytest
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.queue.v1 import task_pb2
from tocsin_escalation.app.incidents.audit import repair_missing_timers
from tocsin_escalation.app.queue_tasks import ReminderTasks, TimerTasks
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Acknowledged, Resolved, Snoozed
from tocsin_escalation.store.incidents import escalations
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.tasks.board import Board
from tocsin_kit.tasks.journal import Noted
from tocsin_kit.tasks.task import Task, TaskState
from tocsin_testkit import busy

from tests.store.escalation.recorders import Desk
from tests.store.escalation.test_reminders import create, remind, sent

T = TypeVar("T")
BY = "users/olga"


@dataclass
class Notebook:
    """A journal that keeps all it is told."""

    notes: list[Noted]

    def note(self, noted: Noted) -> None:
        self.notes.append(noted)


@pytest.fixture
def board(desk: Desk) -> Board:
    return Board("escalation", (TimerTasks(desk.effects), ReminderTasks()))


async def within(desk: Desk, work: Callable[[Tx], Awaitable[T]]) -> T:
    return await desk.db.run(None, work)


async def listed(desk: Desk, board: Board, state: TaskState, org_id: str | None = None) -> list[str]:
    return [task.key for task in await within(desk, lambda tx: board.page(tx, state, org_id, None, 500))]


async def one_behind(desk: Desk, board: Board, last: Task | None) -> list[Task]:
    after = None if last is None else (last.time, last.id)
    return await within(desk, lambda tx: board.page(tx, TaskState.DELAYED, None, after, 1))


async def removal_refused(desk: Desk, board: Board, key: str) -> TocsinError:
    return await refused(desk, lambda tx: board.remove(tx, key, BY, force=True))


async def refused(desk: Desk, work: Callable[[Tx], Awaitable[object]]) -> TocsinError:
    with pytest.raises(TocsinError) as caught:
        await within(desk, work)
    return caught.value


async def test_tasks_are_listed_by_state_in_one_order_and_page_by_page(desk: Desk, board: Board) -> None:
    first = await desk.opens()
    await desk.passes(minutes=1)
    second = await desk.opens()
    reminder = await create(desk, first, delay=timedelta(minutes=4, seconds=30))
    order = [f"timers.{first}", f"reminders.{reminder.id}", f"timers.{second}"]
    assert await listed(desk, board, TaskState.DELAYED) == order
    assert await listed(desk, board, TaskState.DELAYED, "another") == []
    pages: list[str] = []
    last: Task | None = None
    for _ in order:
        [last] = await one_behind(desk, board, last)
        pages.append(last.key)
    assert pages == order
    await desk.passes(minutes=4)
    assert await listed(desk, board, TaskState.WAITING) == order[:1]
    assert await listed(desk, board, TaskState.DELAYED) == order[1:]
    assert await listed(desk, board, TaskState.ACTIVE) == await listed(desk, board, TaskState.DEAD) == []


async def test_a_promoted_timer_fires_now_and_the_timeline_says_who_did_it(desk: Desk, board: Board) -> None:
    incident = await desk.opens()
    task, losses = await within(desk, lambda tx: board.promote(tx, f"timers.{incident}", BY, force=False))
    assert (task.state, losses) == (TaskState.WAITING, [])
    assert desk.arming.armed[incident].due_time == task.due_time, "Redis is told"
    assert (await refused(desk, lambda tx: board.promote(tx, f"timers.{incident}", BY, force=True))).reason == (
        reasons.ERROR_REASON_TASK_STATE
    )
    assert await desk.sweep() == 1
    assert await desk.paged(incident) == [(1, "ana"), (2, "ben")]
    timer = (await desk.run(incident)).timer
    assert timer is not None
    assert timer.due_time - (task.due_time or timer.due_time) == timedelta(minutes=5), "its timeout counts from then"
    _, history, _ = await within(desk, lambda tx: board.look(tx, f"timers.{incident}"))
    assert any(f"promoted by {BY}" in event.text for event in history)


async def test_promoting_the_timer_of_the_last_level_says_that_no_user_is_paged_after_it(
    desk: Desk, board: Board
) -> None:
    incident = await desk.opens()
    await desk.passes(minutes=5)
    await desk.sweep()
    key = f"timers.{incident}"
    error = await refused(desk, lambda tx: board.promote(tx, key, BY, force=False))
    assert error.reason == reasons.ERROR_REASON_TASK_NEEDED
    assert error.metadata["about"] == f"incidents/{incident}"
    _, losses = await within(desk, lambda tx: board.promote(tx, key, BY, force=True))
    assert [(loss.about, loss.user) for loss in losses] == [(f"incidents/{incident}", "")]
    await desk.sweep()
    assert (await desk.run(incident)).state is State.EXHAUSTED


async def test_a_timer_is_removed_by_force_only_and_names_who_is_not_paged(desk: Desk, board: Board) -> None:
    incident = await desk.opens()
    key = f"timers.{incident}"
    error = await refused(desk, lambda tx: board.remove(tx, key, BY, force=False))
    assert error.reason == reasons.ERROR_REASON_TASK_NEEDED
    assert (error.metadata["about"], error.metadata["users"]) == (f"incidents/{incident}", "users/ben")
    _, _, told = await within(desk, lambda tx: board.look(tx, key))
    _, losses = await within(desk, lambda tx: board.remove(tx, key, BY, force=True))
    assert [loss.user for loss in losses] == [loss.user for loss in told] == ["users/ben"]
    assert (await desk.run(incident)).state is State.EXHAUSTED
    assert "exhausted" in await desk.said(incident)
    assert incident not in desk.arming.armed
    assert await repair_missing_timers(desk.db, desk.effects) == 0, "it is not repaired as damaged, and so not fired"
    await desk.passes(hours=1)
    await desk.sweep()
    assert await desk.paged(incident) == [(1, "ana")]
    assert (await refused(desk, lambda tx: board.remove(tx, key, BY, force=True))).reason == (
        reasons.ERROR_REASON_TASK_NOT_FOUND
    )


async def test_who_would_stay_unpaged_is_told_while_another_transaction_holds_the_incident(
    desk: Desk, board: Board
) -> None:
    """The board said of such a timer that nobody needs it."""
    incident = await desk.opens()
    async with desk.db.system() as holding:
        assert await escalations.lock(holding, [incident])
        async with asyncio.timeout(busy.within(10)):
            _, _, told = await within(desk, lambda tx: board.look(tx, f"timers.{incident}"))
    assert [loss.user for loss in told] == ["users/ben"]


async def test_removing_the_end_of_a_snooze_ends_the_escalation(desk: Desk, board: Board) -> None:
    snoozed = await desk.opens()
    await desk.take(snoozed, Snoozed("users/ana", timedelta(hours=1)))
    _, losses = await within(desk, lambda tx: board.remove(tx, f"timers.{snoozed}", BY, force=True))
    assert [loss.user for loss in losses] == ["users/ana"], "whom the end of the snooze would have paged"
    assert (await desk.run(snoozed)).state is State.EXHAUSTED
    await desk.take(snoozed, Acknowledged("users/ana"))
    assert (await desk.run(snoozed)).state is State.ACKNOWLEDGED, "people go on as with any exhausted incident"


async def test_a_timer_whose_firing_failed_is_retried_at_once(desk: Desk, board: Board) -> None:
    incident = await desk.opens()
    key = f"timers.{incident}"
    assert (await refused(desk, lambda tx: board.retry(tx, key, BY))).reason == reasons.ERROR_REASON_TASK_STATE
    await desk.passes(minutes=5)
    async with desk.db.system() as tx:
        await tx.execute("UPDATE timers SET attempts = 3, retry_time = app_now() + interval '5 minutes'")
    [resting] = await within(desk, lambda tx: board.page(tx, TaskState.DELAYED, None, None, 5))
    assert (resting.attempts, bool(resting.error)) == (3, True)
    assert await desk.sweep() == 0
    assert (await within(desk, lambda tx: board.retry(tx, key, BY))).state is TaskState.WAITING
    assert await desk.sweep() == 1
    assert await desk.paged(incident) == [(1, "ana"), (2, "ben")]
    await desk.passes(minutes=5)
    async with desk.db.system() as tx:
        await tx.execute("UPDATE timers SET attempts = 3, retry_time = app_now() + interval '5 minutes'")
    promoted, _ = await within(desk, lambda tx: board.promote(tx, key, BY, force=True))
    assert promoted.state is TaskState.WAITING, "promoting it ends its rest as well"
    assert await desk.sweep() == 1


async def test_a_drain_takes_reminders_and_never_a_timer(desk: Desk, board: Board) -> None:
    incident = await desk.opens()
    reminder = await create(desk, incident)
    await create(desk, incident)

    async def drain(*, dry_run: bool, delayed: bool = True, org_id: str | None = None) -> tuple[dict[str, int], ...]:
        def work(tx: Tx) -> Awaitable[object]:
            return board.drain(tx, BY, org_id=org_id, delayed=delayed, force=True, dry_run=dry_run)

        drained = await within(desk, work)
        return +drained.removed, +drained.kept  # type: ignore[attr-defined]

    assert await drain(dry_run=False, delayed=False) == ({}, {}), "nothing is due"
    assert await drain(dry_run=False, org_id="another") == ({}, {})
    assert await drain(dry_run=True) == ({"reminders": 2}, {"timers": 1})
    assert len(await listed(desk, board, TaskState.DELAYED)) == 3, "a dry run changes nothing"
    assert await drain(dry_run=False) == ({"reminders": 2}, {"timers": 1})
    assert await listed(desk, board, TaskState.DELAYED) == [f"timers.{incident}"]
    await desk.passes(hours=2)
    await remind(desk)
    assert await sent(desk) == []
    assert (await refused(desk, lambda tx: board.find(tx, f"reminders.{reminder.id}"))).reason == (
        reasons.ERROR_REASON_TASK_NOT_FOUND
    )


async def test_a_promoted_reminder_is_sent_now(desk: Desk, board: Board) -> None:
    incident = await desk.opens()
    reminder = await create(desk, incident)
    task, losses = await within(desk, lambda tx: board.promote(tx, f"reminders.{reminder.id}", BY, force=False))
    assert (task.state, losses) == (TaskState.WAITING, [])
    await remind(desk)
    assert [job.user for job in await sent(desk)] == ["users/ana"]


@pytest.mark.parametrize("key", ["timers", "timers.", "timers.x", "nothing.{id}", "timers.{id}", ".{id}"])
async def test_a_task_that_is_not_there(desk: Desk, board: Board, key: str) -> None:
    resolved = await desk.opens()
    await desk.take(resolved, Resolved("integrations/prom"))
    for id in (resolved, uuid4()):
        error = await removal_refused(desk, board, key.format(id=id))
        assert error.reason == reasons.ERROR_REASON_TASK_NOT_FOUND


async def test_the_journal_is_told_of_timers_that_are_armed_and_that_fire(desk: Desk) -> None:
    notes: list[Noted] = []
    desk.effects = replace(desk.effects, notes=Notebook(notes))
    incident = await desk.opens()
    await desk.passes(minutes=6)
    await desk.sweep()
    await desk.sweep()
    kinds = [note.kind for note in notes if note.id == incident]
    assert kinds[0] == task_pb2.TASK_CHANGE_KIND_ADDED
    assert sorted(kinds[1:]) == [task_pb2.TASK_CHANGE_KIND_ADDED, task_pb2.TASK_CHANGE_KIND_COMPLETED], "once"
    [done] = [note for note in notes if note.kind == task_pb2.TASK_CHANGE_KIND_COMPLETED]
    assert done.late is not None
    assert 60 <= done.late < 240, "due after five minutes, and fired after six"

"""What operators may do with the tasks of one queue. Everything is decided by rows that the transaction holds."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.db.tx import Tx
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.tasks.task import Loss, Losses, Position, Task, TaskEvent, TaskKind, TaskState

MOST_DRAINED: Final = 500
"""Tasks that one DrainQueue looks at: its transaction locks them."""
MOST_LOSSES: Final = 100
HISTORY: Final = 100


@dataclass(slots=True)
class Drained:
    """What a drain removed, or would remove."""

    removed: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    losses: list[Loss] = field(default_factory=list)
    more: bool = False


class Board:
    """The tasks of one queue, of several kinds."""

    def __init__(self, queue: str, kinds: Sequence[TaskKind]) -> None:
        self.queue: Final = queue
        self._kinds: Final = {kind.name: kind for kind in kinds}

    async def page(
        self, tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
    ) -> list[Task]:
        """At most `limit` tasks of all kinds in their common order, behind `after`."""
        parts = [await kind.page(tx, state, org_id, after, limit) for kind in self._kinds.values()]
        merged = heapq.merge(*parts, key=_position, reverse=state is TaskState.DEAD)
        return [task for task, _ in zip(merged, range(limit), strict=False)]

    async def find(self, tx: Tx, key: str) -> Task:
        """One task. Raises TASK_NOT_FOUND."""
        kind, id = self._split(key)
        task = await kind.find(tx, id)
        if task is None:
            raise self._missing(key)
        return task

    async def look(self, tx: Tx, key: str) -> tuple[Task, Sequence[TaskEvent], Sequence[Loss]]:
        """One with its history, and who would stay unpaged without it. Raises TASK_NOT_FOUND."""
        task = await self.find(tx, key)
        kind = self._kinds[task.kind]
        losses: Sequence[Loss] = ()
        if task.state is not TaskState.ACTIVE:
            losses = (await kind.lost_by_removing(tx, [task])).get(task.id, ())
        return task, await kind.history(tx, task.org_id, task.id, HISTORY), losses[:MOST_LOSSES]

    async def history(self, tx: Tx, org_id: str, key: str) -> Sequence[TaskEvent]:
        """What happened to one, also if it is done. Raises TASK_NOT_FOUND for a kind that there is not."""
        kind, id = self._split(key)
        return await kind.history(tx, org_id, id, HISTORY)

    async def promote(self, tx: Tx, key: str, by: str, *, force: bool) -> tuple[Task, Sequence[Loss]]:
        """A delayed one is due now; what it is now, and who stays unpaged. Raises TASK_NOT_FOUND, TASK_STATE, TASK_NEEDED."""
        task = await self._locked(tx, key)
        if task.state is not TaskState.DELAYED:
            raise self._wrong(task, "only a delayed task can be promoted")
        kind = self._kinds[task.kind]
        losses = (await kind.lost_by_promoting(tx, task))[:MOST_LOSSES]
        self._require(task, losses, force=force)
        await kind.promote(tx, task, by)
        return await kind.find(tx, task.id) or task, losses

    async def retry(self, tx: Tx, key: str, by: str) -> Task:
        """A failed one is tried again now. Raises TASK_NOT_FOUND, TASK_STATE."""
        task = await self._locked(tx, key)
        failed = task.state is TaskState.DEAD or (task.attempts > 0 and task.state is TaskState.DELAYED)
        if not failed:
            raise self._wrong(task, "only a dead task, or one that waits after a failed attempt, can be retried")
        kind = self._kinds[task.kind]
        await kind.retry(tx, task, by)
        return await kind.find(tx, task.id) or task

    async def remove(self, tx: Tx, key: str, by: str, *, force: bool) -> tuple[Task, Sequence[Loss]]:
        """One is not done any more; what it was, and who stays unpaged. Raises TASK_NOT_FOUND, TASK_STATE, TASK_NEEDED."""
        task = await self._locked(tx, key)
        if task.state is TaskState.ACTIVE:
            raise self._wrong(task, "an attempt is under way, and cannot be taken back")
        kind = self._kinds[task.kind]
        losses = (await kind.lost_by_removing(tx, [task])).get(task.id, ())[:MOST_LOSSES]
        self._require(task, losses, force=force)
        await kind.remove(tx, [task], by)
        return task, losses

    async def drain(self, tx: Tx, by: str, *, org_id: str | None, delayed: bool, force: bool, dry_run: bool) -> Drained:
        """Remove what waits, at most MOST_DRAINED tasks. Nothing is changed with `dry_run`, but rows are locked all the same, so
        that the answer is what a drain at this moment would do."""
        drained = Drained()
        states = (TaskState.WAITING, TaskState.DELAYED) if delayed else (TaskState.WAITING,)
        room = MOST_DRAINED
        for kind in self._kinds.values():
            for state in states:
                found = await kind.page(tx, state, org_id, None, room + 1)
                if len(found) > room:
                    drained.more = True
                    found = found[:room]
                room -= len(found)
                if not kind.drains:
                    drained.kept[kind.name] += len(found)
                elif found:
                    await self._drain(tx, kind, found, by, drained, force=force, dry_run=dry_run)
        return drained

    async def _drain(
        self, tx: Tx, kind: TaskKind, found: Sequence[Task], by: str, drained: Drained, *, force: bool, dry_run: bool
    ) -> None:
        held = [task for task in await kind.lock(tx, [task.id for task in found]) if task.state is not TaskState.ACTIVE]
        losses: Losses = await kind.lost_by_removing(tx, held) if held else {}
        going = [task for task in held if force or not losses.get(task.id)]
        drained.removed[kind.name] += len(going)
        drained.kept[kind.name] += len(found) - len(going)
        for task in going:
            drained.losses += losses.get(task.id, ())[: MOST_LOSSES - len(drained.losses)]
        if going and not dry_run:
            await kind.remove(tx, going, by)

    async def _locked(self, tx: Tx, key: str) -> Task:
        kind, id = self._split(key)
        held = await kind.lock(tx, [id])
        if held:
            return held[0]
        task = await kind.find(tx, id)
        if task is None:
            raise self._missing(key)
        raise self._wrong(task, "it is being worked on at this moment; look again")

    def _split(self, key: str) -> tuple[TaskKind, UUID]:
        name, _, id = key.partition(".")
        try:
            return self._kinds[name], UUID(id)
        except (KeyError, ValueError):
            raise self._missing(key) from None

    def _missing(self, key: str) -> TocsinError:
        return not_found(ErrorReason.ERROR_REASON_TASK_NOT_FOUND, self.name_of(key))

    def name_of(self, key: str) -> str:
        """The resource name of a task."""
        return f"queues/{self.queue}/tasks/{key}"

    def _wrong(self, task: Task, why: str) -> TocsinError:
        name = self.name_of(task.key)
        return TocsinError(
            ErrorReason.ERROR_REASON_TASK_STATE,
            f"{name} is {task.state}: {why}",
            metadata={"name": name, "state": task.state},
        )

    def _require(self, task: Task, losses: Sequence[Loss], *, force: bool) -> None:
        if force or not losses:
            return
        name = self.name_of(task.key)
        raise TocsinError(
            ErrorReason.ERROR_REASON_TASK_NEEDED,
            f"{losses[0].text}{f' (and {len(losses) - 1} more)' if len(losses) > 1 else ''}; repeat the call with `force` to do it",
            metadata={
                "name": name,
                "about": ",".join(sorted({loss.about for loss in losses if loss.about})),
                "users": ",".join(sorted({loss.user for loss in losses if loss.user})),
            },
        )


def _position(task: Task) -> Position:
    return task.time, task.id

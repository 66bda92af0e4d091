"""What a task is, and what a service tells of its kinds of tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from tocsin_kit.db.tx import Tx

Position = tuple[datetime, UUID]
"""Where a list goes on: behind the task with this `time` and id."""


class TaskState(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"
    ACTIVE = "active"
    DELAYED = "delayed"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Task:
    """One task. `time`: what lists of its state are ordered by. `about` and `user` are resource names. Texts may be empty."""

    kind: str
    id: UUID
    org_id: str
    state: TaskState
    time: datetime
    summary: str
    due_time: datetime | None = None
    create_time: datetime | None = None
    attempts: int = 0
    error: str = ""
    about: str = ""
    user: str = ""

    @property
    def key(self) -> str:
        """Its name within its queue."""
        return f"{self.kind}.{self.id}"


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """Something that happened to a task. `duration`: of an attempt that has ended."""

    time: datetime
    text: str
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """A user whom an act keeps from being paged. `about` and `user` are resource names, empty where none can be named."""

    org_id: str
    about: str
    user: str
    text: str


Losses = Mapping[UUID, Sequence[Loss]]
"""By the id of the task."""


class TaskKind(Protocol):
    """One kind of tasks. All methods run in the caller's transaction of all tenants.

    What follows a commit (hints, copies in Redis) is left to `tx.after_commit`.
    """

    @property
    def name(self) -> str:
        """The first part of its tasks' keys."""
        ...

    @property
    def drains(self) -> bool:
        """Whether DrainQueue may remove tasks of this kind."""
        ...

    async def page(
        self, tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
    ) -> Sequence[Task]:
        """Those in a state, ordered by (time, id): ascending, but dead ones descending. `org_id` None: of all tenants."""
        ...

    async def find(self, tx: Tx, id: UUID) -> Task | None:
        """One; None when there is none (any more)."""
        ...

    async def lock(self, tx: Tx, ids: Sequence[UUID]) -> Sequence[Task]:
        """Those of them that are there and that no other transaction works on, held until this one ends."""
        ...

    async def history(self, tx: Tx, org_id: str, id: UUID, limit: int) -> Sequence[TaskEvent]:
        """What happened to one, newest first; also to one that is done."""
        ...

    async def lost_by_promoting(self, tx: Tx, task: Task) -> Sequence[Loss]:
        """Who is not paged any more if this locked task is done now."""
        ...

    async def lost_by_removing(self, tx: Tx, tasks: Sequence[Task]) -> Losses:
        """Who stays unpaged if all of these locked tasks are removed; tasks without a loss need not be named."""
        ...

    async def promote(self, tx: Tx, task: Task, by: str) -> None:
        """A locked, delayed one is due now."""
        ...

    async def retry(self, tx: Tx, task: Task, by: str) -> None:
        """A locked one that has failed, or is dead, is tried again now."""
        ...

    async def remove(self, tx: Tx, tasks: Sequence[Task], by: str) -> None:
        """Locked ones, none of them active, are not done any more."""
        ...

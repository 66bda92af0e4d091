"""A receiver of the relay that answers what it is told to, and the rows that it gets."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from tocsin_kit.db.outbox import (
    Done,
    OutboxRow,
    RowAnswer,
    append_many,
)
from tocsin_kit.db.pool import Database
from tocsin_testkit.clock import clock_is_ahead

Eventually = Callable[..., Awaitable[None]]
KIND = "thing"


async def left(db: Database) -> int:
    async with db.system() as tx:
        count: int = await tx.fetchval("SELECT count(*) FROM outbox WHERE dead_time IS NULL")
        return count


async def put(db: Database, *messages: tuple[str, str], org_id: str = "a") -> list[int]:
    async with db.transaction(org_id) as tx:
        return await append_many(tx, KIND, [(key, text.encode()) for key, text in messages])


async def move_time(db: Database, seconds: float) -> None:
    async with db.system() as tx:
        await tx.execute(clock_is_ahead(timedelta(seconds=seconds)))


class Receiver:
    """Takes batches, answers what it is told to, and remembers."""

    def __init__(self, answer: Callable[[OutboxRow], RowAnswer] = lambda row: Done()) -> None:
        self.answer = answer
        self.batches: list[list[OutboxRow]] = []

    async def deliver(self, rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        self.batches.append(list(rows))
        return [self.answer(row) for row in rows]

    @property
    def texts(self) -> list[str]:
        return [row.payload.decode() for batch in self.batches for row in batch]

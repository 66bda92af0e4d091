"""A receiver that refuses, hangs and goes away as it is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.outbox import Done, OutboxRow, Relay, RowAnswer, append_across
from tocsin_kit.db.outbox_admin import find, list_dead
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError

Eventually = Callable[..., Awaitable[None]]
KIND = "thing"
LIMIT = 1 << 20


def too_large() -> Exception:
    return TocsinError(ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE, "the message has too many bytes")


def defect() -> Exception:
    return TocsinError(ErrorReason.ERROR_REASON_INTERNAL, "internal error 123")


def away() -> Exception:
    return TocsinError(ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE, "escalation did not answer")


class Peer:
    """Takes batches as a service does: all rows in one transaction, and a message not larger than its limit."""

    def __init__(self) -> None:
        self.calls: list[list[OutboxRow]] = []
        self.taken: list[OutboxRow] = []
        self.arrived: dict[int, float] = {}
        self.refuse: Callable[[OutboxRow], Exception | None] = lambda row: None
        self.down: Exception | None = None
        self.hangs: Callable[[OutboxRow], bool] = lambda row: False
        self.ends = asyncio.Event()
        """What hangs is taken."""

    async def deliver(self, rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        self.calls.append(list(rows))
        await asyncio.sleep(0)
        if self.down is not None:
            raise self.down
        if any(self.hangs(row) for row in rows):
            await self.ends.wait()
        if sum(len(row.payload) for row in rows) > LIMIT:
            raise too_large()
        for row in rows:
            if (error := self.refuse(row)) is not None:
                raise error
        self.taken += rows
        self.arrived.update((row.id, time.monotonic()) for row in rows)
        return [Done()] * len(rows)

    def of(self, org_id: str) -> list[bytes]:
        return [row.payload for row in self.taken if row.org_id == org_id]


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[Relay]:
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    try:
        yield relay
    finally:
        stop.set()
        await running


async def put(db: Database, org_id: str, payloads: Sequence[bytes], *, key: str = "") -> list[int]:
    async with db.system() as tx:
        return await append_across(tx, KIND, [(org_id, key, payload) for payload in payloads])


async def dead_of(db: Database, org_id: str) -> list[tuple[bytes, str]]:
    async with db.transaction(org_id) as tx:
        dead = [await find(tx, [KIND], row.id) for row in await list_dead(tx, [KIND], limit=500)]
    return [(row.payload, row.reason) for row in dead if row is not None]


async def is_empty(db: Database) -> bool:
    async with db.system() as tx:
        return bool(await tx.fetchval("SELECT NOT EXISTS (SELECT FROM outbox WHERE dead_time IS NULL)"))


async def is_true(condition: bool) -> bool:
    return condition

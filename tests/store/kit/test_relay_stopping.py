"""What the relay leaves when its replica stops, dies or loses PostgreSQL."""

import asyncio
from collections.abc import Sequence

import pytest
from tocsin_kit.db.outbox import (
    Done,
    OutboxRow,
    Relay,
    RowAnswer,
)
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay import Sets
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics
from tocsin_stack.postgres import Postgres

from tests.store.kit.receiver import KIND, Eventually, Receiver, left, move_time, put


async def test_a_dead_replicas_rows_come_due_by_lease_and_it_settles_nothing_afterwards(db: Database) -> None:
    await put(db, ("k", "first"), ("k", "second"))
    receiver = Receiver()
    dying, living = (Relay(db, receiver.deliver, kinds=[KIND], sets=Sets(lease=30)) for _ in range(2))
    held = (await dying._claims.fair(10, after="", without=())).rows
    assert await living.run_once() == 0
    await move_time(db, 31)
    again = (await living._claims.fair(10, after="", without=())).rows
    assert [row.payload for row in again] == [b"first"]
    await dying._settling.settle(held, {held[0].id: Done()})
    assert await living.run_once() == 0, "the late one must not free second while first is being delivered again"
    await living._settling.settle(again, {again[0].id: Done()})
    await living.run_once()
    assert receiver.texts == ["second"]
    assert await left(db) == 0


async def test_stopping_finishes_what_is_in_flight(db: Database, eventually: Eventually) -> None:
    await put(db, ("k", "x"))
    go, began, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def deliver(rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        began.set()
        await go.wait()
        return [Done()]

    running = asyncio.create_task(Relay(db, deliver, kinds=[KIND]).run(stop))
    await began.wait()
    stop.set()
    go.set()
    await running
    assert await left(db) == 0


async def test_stopping_takes_along_what_was_committed_last(db: Database, eventually: Eventually) -> None:
    receiver, stop = Receiver(), asyncio.Event()
    relay = Relay(db, receiver.deliver, kinds=[KIND], sweep_every=3600)
    await put(db, ("", "first"))
    running = asyncio.create_task(relay.run(stop))
    await eventually(lambda: is_true(receiver.texts == ["first"]))
    await put(db, ("", "of the last call"))
    stop.set()
    await running
    assert receiver.texts == ["first", "of the last call"]


async def is_true(condition: bool) -> bool:
    return condition


async def test_cancelling_gives_back_what_is_in_flight(db: Database) -> None:
    await put(db, ("k", "x"))
    began = asyncio.Event()

    async def deliver(rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        began.set()
        await asyncio.Event().wait()
        return []

    running = asyncio.create_task(Relay(db, deliver, kinds=[KIND]).run(asyncio.Event()))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with db.system() as tx:
        row = await tx.fetchrow("SELECT attempts, lease_until FROM outbox")
    assert row is not None
    assert tuple(row) == (1, None), "it may have arrived: nobody may take it for one that was never on its way"


async def test_the_sweep_finds_rows_without_a_nudge_and_survives_an_outage(
    db: Database, postgres: Postgres, eventually: Eventually
) -> None:
    receiver, stop, metrics = Receiver(), asyncio.Event(), Metrics()
    running = asyncio.create_task(
        Relay(db, receiver.deliver, kinds=[KIND], sweep_every=0.05, metrics=metrics).run(stop)
    )

    async def empty() -> bool:
        return await left(db) == 0

    await put(db, ("k", "before"))
    await eventually(empty)
    postgres.kill()
    await postgres.stop()
    await postgres.start()
    await put(db, ("k", "after"))
    await eventually(empty)
    assert not running.done()
    stop.set()
    await running
    assert receiver.texts == ["before", "after"]
    assert metrics.registry.get_sample_value("tocsin_outbox_total", {"kind": KIND, "outcome": "done"}) == 2


async def test_what_was_delivered_before_an_outage_is_settled_after_it_and_not_when_the_lease_is_over(
    db: Database, postgres: Postgres, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four attempts are over long before the database is back; the next row of the key must not wait for the lease."""
    settling = asyncio.Event()
    texts: list[str] = []

    async def deliver(rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        texts.extend(row.payload.decode() for row in rows)
        if not settling.is_set():
            monkeypatch.setattr("tocsin_kit.db.connections._PATIENCE", 0.01)
            await postgres.stop()
            settling.set()
        return [Done()] * len(rows)

    await put(db, ("k", "before"), ("k", "behind it"))
    stop = asyncio.Event()
    relay = Relay(db, deliver, kinds=[KIND], sets=Sets(lease=600), sweep_every=0.05)
    running = asyncio.create_task(relay.run(stop))
    await settling.wait()
    await asyncio.sleep(3)  # an outage is real time
    await postgres.start()

    async def empty() -> bool:
        try:
            return await left(db) == 0
        except TocsinError:
            return False  # not connected again yet

    await eventually(empty)
    stop.set()
    await running
    assert texts == ["before", "behind it"]

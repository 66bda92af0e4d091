"""The relay's promises: everything arrives, in order per key, under every fault."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.outbox import (
    Dead,
    Done,
    OutboxRow,
    Relay,
    Retry,
    RowAnswer,
    append_across,
    append_many,
    append_mixed,
)
from tocsin_kit.db.outbox_admin import find, list_dead, redrive
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay import Sets
from tocsin_kit.errors import TocsinError

from tests.store.kit.receiver import KIND, Eventually, Receiver, left, move_time, put


async def test_rows_arrive_whole_and_go(db: Database) -> None:
    [row_id] = await put(db, ("k", "hello"), org_id="acme")
    receiver = Receiver()
    assert await Relay(db, receiver.deliver, kinds=[KIND]).run_once() == 1
    [[row]] = receiver.batches
    assert (row.id, row.org_id, row.ordering_key, row.kind, row.payload, row.attempts) == (
        (row_id, "acme", "k", KIND, b"hello", 1)
    )
    assert await left(db) == 0


async def test_a_batch_holds_one_row_of_a_key_and_any_number_without_one(db: Database) -> None:
    await put(db, ("k", "k1"), ("k", "k2"), ("m", "m1"), ("", "free1"), ("", "free2"))
    receiver = Receiver()
    relay = Relay(db, receiver.deliver, kinds=[KIND])
    assert [await relay.run_once() for _ in range(3)] == [4, 1, 0]
    assert receiver.texts == ["k1", "m1", "free1", "free2", "k2"]


async def test_the_same_key_of_two_tenants_is_two_keys(db: Database) -> None:
    async with db.system() as tx:
        await append_across(tx, KIND, [("a", "k", b"of a"), ("b", "k", b"of b")])
    receiver = Receiver()
    await Relay(db, receiver.deliver, kinds=[KIND]).run_once()
    assert receiver.texts == ["of a", "of b"]


async def test_other_kinds_and_later_rows_are_left(db: Database) -> None:
    async with db.transaction("a") as tx:
        await append_mixed(tx, [("other", "a", "k", b"x", 0.0), (KIND, "a", "k", b"later", 60.0)])
    receiver = Receiver()
    relay = Relay(db, receiver.deliver, kinds=[KIND])
    assert await relay.run_once() == 0
    await move_time(db, 61)
    assert await relay.run_once() == 1


async def test_messages_of_many_kinds_keep_their_order_and_delay(db: Database) -> None:
    async with db.system() as tx:
        ids = await append_mixed(
            tx, [(KIND, "a", "k", b"now", 0.0), ("other", "b", "k", b"other", 0.0), (KIND, "a", "m", b"later", 60.0)]
        )
        assert await append_mixed(tx, []) == []
    assert ids == sorted(ids)
    receiver = Receiver()
    relay = Relay(db, receiver.deliver, kinds=[KIND, "other"])
    await relay.run_once()
    assert [(row.org_id, row.kind, row.payload) for row in receiver.batches[0]] == [
        ("a", KIND, b"now"),
        ("b", "other", b"other"),
    ]
    await move_time(db, 61)
    assert await relay.run_once() == 1


async def test_a_row_to_retry_holds_its_key_back(db: Database) -> None:
    await put(db, ("k", "first"), ("k", "second"), ("m", "other"))
    receiver = Receiver(lambda row: Retry("not now", after=20) if row.payload == b"first" else Done())
    relay = Relay(db, receiver.deliver, kinds=[KIND])
    await relay.run_once()
    assert await relay.run_once() == 0, "the retry is not due, and second must not overtake it"
    for hour in range(1, 4):
        await move_time(db, 3600 * hour)
        await relay.run_once()
    assert set(receiver.texts) == {"first", "other"}
    receiver.answer = lambda row: Done()
    await move_time(db, 3600 * 1000)
    assert [await relay.run_once(), await relay.run_once()] == [1, 1]
    assert receiver.texts[-2:] == ["first", "second"]
    assert receiver.batches[-2][0].attempts == 5


async def test_dead_rows_stay_with_their_reason_until_redriven(db: Database) -> None:
    [first, *_] = await put(db, ("k", "bad"), ("k", "good"))
    receiver = Receiver(lambda row: Dead("unreadable") if row.payload == b"bad" else Done())
    relay = Relay(db, receiver.deliver, kinds=[KIND])
    assert [await relay.run_once(), await relay.run_once()] == [1, 1]
    async with db.transaction("b") as tx:
        assert await list_dead(tx, [KIND]) == []
        assert await find(tx, [KIND], first) is None
        assert await redrive(tx, [KIND], [first]) == []
    async with db.transaction("a") as tx:
        [dead] = await list_dead(tx, [KIND])
        assert (dead.id, dead.reason, dead.payload_bytes) == (first, "unreadable", 3)
        assert await list_dead(tx, [KIND], after_id=first) == []
        assert await redrive(tx, [KIND], [first]) == [first]
    receiver.answer = lambda row: Done()
    assert await relay.run_once() == 1
    async with db.transaction("a") as tx:
        assert await list_dead(tx, [KIND]) == []


@pytest.mark.parametrize(
    ("failure", "kept"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "full"), "OVERLOADED: full"),
        (None, "RuntimeError: 1 rows were given, 0 answers came back"),
    ],
)
async def test_a_failing_delivery_is_a_retry(db: Database, failure: Exception | None, kept: str) -> None:
    await put(db, ("k", "x"))

    async def fail(rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        if failure is not None:
            raise failure
        return []

    await Relay(db, fail, kinds=[KIND]).run_once()
    async with db.system() as tx:
        row = await tx.fetchrow("SELECT last_error, lease_until, attempts FROM outbox")
    assert row is not None
    assert tuple(row) == (kept, None, 1)


async def test_a_delivery_is_cut_off_before_its_lease_ends(db: Database) -> None:
    await put(db, ("k", "x"))

    async def hang(rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        await asyncio.Event().wait()
        return []

    await Relay(db, hang, kinds=[KIND], sets=Sets(lease=0.05)).run_once()
    async with db.system() as tx:
        assert await tx.fetchval("SELECT last_error FROM outbox") == "the delivery took too long"


@pytest.mark.parametrize("nudge", [Relay.nudge, Relay.nudge_soon])
async def test_a_nudge_does_not_wait_for_the_sweep(
    db: Database, eventually: Eventually, nudge: Callable[[Relay], None]
) -> None:
    receiver, stop = Receiver(), asyncio.Event()
    relay = Relay(db, receiver.deliver, kinds=[KIND], sweep_every=3600)
    running = asyncio.create_task(relay.run(stop))
    for number in range(3):
        async with db.transaction("a") as tx:
            next_one = f"{number}, the next of the key".encode()
            await append_many(tx, KIND, [("k", str(number).encode()), ("k", next_one)])
            tx.after_commit(partial(nudge, relay))

        async def empty() -> bool:
            return await left(db) == 0

        await eventually(empty)
    stop.set()
    await running
    assert [text[0] for text in receiver.texts] == ["0", "0", "1", "1", "2", "2"]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
async def test_order_holds_under_random_failures_and_three_replicas(
    open_database: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Keys are written by racing transactions; every delivery may fail, hang, die for good or crash its replica."""
    monkeypatch.setattr("tocsin_kit.db.relay_verdicts.RETRY_CAP", 0.05)
    rng = random.Random(seed)
    db = await open_database(size=8)
    keys, rows_per_key = 12, 10
    accepted: dict[str, list[int]] = defaultdict(list)
    delivering: set[str] = set()
    overtaken: list[str] = []
    deliveries = 0

    async def deliver(rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        nonlocal deliveries
        deliveries += 1
        mine = [row.ordering_key for row in rows]
        overtaken.extend(key for key in mine if key in delivering)
        overtaken.extend({key for key in mine if mine.count(key) > 1})
        delivering.update(mine)
        try:
            await asyncio.sleep(rng.uniform(0, 0.004))  # so that batches overlap
            dice = rng.random()
            if dice < 0.1:
                raise ConnectionError("the receiver hung up")
            if dice < 0.12:
                await asyncio.Event().wait()
            outcomes: list[RowAnswer] = []
            for row in rows:
                dice = rng.random()
                if dice < 0.15:
                    outcomes.append(Retry("busy", after=rng.uniform(0, 0.02)))
                elif dice < 0.18:
                    outcomes.append(Dead("never"))
                else:
                    accepted[row.ordering_key].append(row.id)
                    outcomes.append(Done())
            return outcomes
        finally:
            delivering.difference_update(mine)

    async def write(key: str) -> None:
        for number in range(rows_per_key):
            async with db.transaction("a") as tx:
                await append_many(tx, KIND, [(key, f"{key}-{number}".encode())])

    writers = [asyncio.create_task(write(f"key{number}")) for number in range(keys)]
    stop = asyncio.Event()

    async def replica() -> None:
        while not stop.is_set():
            relay = Relay(db, deliver, kinds=[KIND], sets=Sets(rows=5, parallel=3, lease=0.8), sweep_every=0.02)
            running = asyncio.create_task(relay.run(stop))
            await asyncio.wait([running], timeout=rng.uniform(0.05, 0.4))
            if stop.is_set():
                await running
            else:  # and another one takes its place
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    replicas = [asyncio.create_task(replica()) for _ in range(3)]
    await asyncio.gather(*writers)

    async def empty() -> bool:
        return await left(db) == 0

    await eventually(empty, seconds=30)
    stop.set()
    await asyncio.gather(*replicas)
    assert overtaken == [], "two rows of one key were under way at once"
    assert all(ids == sorted(ids) for ids in accepted.values())
    async with db.transaction("a") as tx:
        dead = await list_dead(tx, [KIND], limit=500)
    arrived = {row_id for ids in accepted.values() for row_id in ids}
    assert len(arrived | {row.id for row in dead}) == keys * rows_per_key
    assert deliveries > keys

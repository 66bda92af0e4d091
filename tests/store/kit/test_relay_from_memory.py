"""Rows that are delivered from memory, without a claim: they arrive at once, and by the relay whenever that failed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db import relay_from_memory
from tocsin_kit.db.outbox import SURE_WAY_SECONDS, Dead, Done, OutboxRow, Relay, Retry, RowAnswer, append_mixed
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay import GiveWay, Sets
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics
from tocsin_kit.noisy_tenants import NoisyTenants

from tests.store.kit.receiver import KIND, Eventually, Receiver, left, move_time, put


async def written(db: Database, *texts: str, org_id: str = "a", key: str = "") -> list[OutboxRow]:
    """Rows as their writer knows them after the commit."""
    async with db.system() as tx:
        ids = await append_mixed(tx, [(KIND, org_id, key, text.encode(), SURE_WAY_SECONDS) for text in texts])
        now = await tx.now()
    return [OutboxRow(id, org_id, key, KIND, text.encode(), now, 1) for id, text in zip(ids, texts, strict=True)]


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def test_rows_arrive_without_a_claim_and_go(db: Database) -> None:
    receiver, metrics = Receiver(), Metrics()
    relay = Relay(db, receiver.deliver, kinds=[KIND], metrics=metrics)
    rows = await written(db, "one", "two")
    assert relay.takes("a", 2)
    relay.hand_over(rows)
    await relay._from_memory.drain()
    assert receiver.batches == [rows]
    assert await left(db) == 0
    assert metrics.registry.get_sample_value("tocsin_outbox_total", {"kind": KIND, "outcome": "done"}) == 2


async def test_what_was_never_handed_over_is_found_by_the_relay(db: Database) -> None:
    receiver = Receiver()
    await written(db, "its process died")
    relay = Relay(db, receiver.deliver, kinds=[KIND])
    assert await relay.run_once() == 0
    await move_time(db, SURE_WAY_SECONDS)
    assert await relay.run_once() == 1
    assert receiver.texts == ["its process died"]


async def test_what_is_not_accepted_goes_to_the_relay_at_once(db: Database, eventually: Eventually) -> None:
    answers: dict[str, RowAnswer] = {"later": Retry("busy"), "never": Dead("no")}
    receiver = Receiver(lambda row: answers.pop(row.payload.decode(), Done()))
    relay = Relay(db, receiver.deliver, kinds=[KIND], sweep_every=3600)
    async with running(relay):
        relay.hand_over(await written(db, "later", "never", "now"))
        await eventually(lambda: there(sorted(receiver.texts) == ["later", "later", "never", "never", "now"]))
    assert await left(db) == 0


class Slow(Receiver):
    """Takes rows with these texts once they may `go`."""

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.go = {text: asyncio.Event() for text in texts}

    async def deliver(self, rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        texts = [row.payload.decode() for row in rows]
        self.begun += texts
        for text in texts:
            if text in self.go:
                await self.go[text].wait()
        return await super().deliver(rows)

    async def has_begun(self, text: str) -> bool:
        return text in self.begun


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery is not given up, however slow the machine is."""
    monkeypatch.setattr(relay_from_memory, "SURE_WAY_SECONDS", 600.0)


@pytest.mark.usefixtures("patient")
async def test_rows_do_not_wait_for_a_delivery_of_their_tenant_that_takes_long(
    db: Database, eventually: Eventually
) -> None:
    """They are first events of incidents, which need no order: a page each."""
    receiver = Slow("slow")
    relay = Relay(db, receiver.deliver, kinds=[KIND])
    slow, next_, last = [await written(db, text) for text in ("slow", "next", "last")]
    relay.hand_over(slow)
    await eventually(lambda: receiver.has_begun("slow"))
    for rows in (next_, last):
        relay.hand_over(rows)
    await eventually(lambda: there(receiver.texts == ["next", "last"]))
    receiver.go["slow"].set()
    await relay._from_memory.drain()
    assert receiver.texts == ["next", "last", "slow"]
    assert await left(db) == 0


@pytest.mark.usefixtures("patient")
async def test_the_delivery_that_takes_long_may_be_either_of_the_two(db: Database, eventually: Eventually) -> None:
    receiver = Slow("first", "slow")
    relay = Relay(db, receiver.deliver, kinds=[KIND])
    first, slow, behind, last = [await written(db, text) for text in ("first", "slow", "behind both", "last")]
    relay.hand_over(first)
    await eventually(lambda: receiver.has_begun("first"))
    relay.hand_over(slow)
    await eventually(lambda: receiver.has_begun("slow"))
    relay.hand_over(behind)
    receiver.go["first"].set()
    # What was there while both took long, and what comes after that.
    await eventually(lambda: there(receiver.texts == ["first", "behind both"]))
    relay.hand_over(last)
    await eventually(lambda: there(receiver.texts == ["first", "behind both", "last"]))
    receiver.go["slow"].set()
    await relay._from_memory.drain()
    assert await left(db) == 0


@pytest.mark.usefixtures("patient")
async def test_a_noisy_tenant_has_one_delivery_at_a_time_which_no_other_tenant_shares(
    db: Database, eventually: Eventually
) -> None:
    receiver, noisy = Slow("slow"), NoisyTenants(clock=lambda: 0.0)
    relay = Relay(db, receiver.deliver, kinds=[KIND], give_way=GiveWay(noisy=noisy))
    noisy.note("a", 1000)
    slow, next_, other = await written(db, "slow"), await written(db, "next"), await written(db, "other", org_id="b")
    relay.hand_over(slow)
    await eventually(lambda: receiver.has_begun("slow"))
    relay.hand_over(next_)
    relay.hand_over(other)
    await eventually(lambda: there(receiver.texts == ["other"]))
    assert receiver.begun == ["slow", "other"]
    receiver.go["slow"].set()
    await relay._from_memory.drain()
    assert receiver.batches == [other, slow, next_]


async def there(condition: bool) -> bool:
    return condition


async def test_a_receiver_that_fails_or_hangs_costs_no_row(db: Database, eventually: Eventually) -> None:
    fails, hangs = asyncio.Event(), asyncio.Event()
    receiver = Receiver()

    async def deliver(rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        if not fails.is_set():
            fails.set()
            raise RuntimeError("a defect")
        if not hangs.is_set() and rows[0].org_id == "b":
            hangs.set()
            await asyncio.Event().wait()
        return await receiver.deliver(rows)

    relay = Relay(db, deliver, kinds=[KIND], sweep_every=0.05)
    async with running(relay):
        relay.hand_over(await written(db, "defect"))
        await eventually(lambda: there(receiver.texts == ["defect"]))
        assert not relay.takes("c", 1), "the receiver would do the work of each row twice"
        relay.hand_over(await written(db, "hangs", org_id="b"))
        await eventually(lambda: there(receiver.texts == ["defect", "hangs"]))

    assert await left(db) == 0


async def test_a_row_behind_one_of_its_key_follows_at_once(db: Database, eventually: Eventually) -> None:
    receiver = Receiver()
    relay = Relay(db, receiver.deliver, kinds=[KIND], sweep_every=3600)
    async with running(relay):
        await put(db, ("", "so that the relay has begun"))
        relay.nudge()
        await eventually(lambda: there(len(receiver.batches) == 1))
        rows = await written(db, "first", key="k")
        await put(db, ("k", "second"))
        relay.nudge()
        relay.hand_over(rows)
        await eventually(lambda: there(receiver.texts[1:] == ["first", "second"]))
        await eventually(lambda: none(db))


async def none(db: Database) -> bool:
    return await left(db) == 0


async def test_a_delivery_from_memory_is_cut_by_bytes(db: Database) -> None:
    receiver = Receiver()
    relay = Relay(db, receiver.deliver, kinds=[KIND], sets=Sets(max_bytes=1000))
    relay.hand_over(await written(db, "x" * 600, "y" * 600, "z" * 3000))
    await relay._from_memory.drain()
    assert [len(batch) for batch in receiver.batches] == [1, 1, 1]
    assert await left(db) == 0


async def test_memory_takes_no_rows_for_a_receiver_that_is_away_nor_without_bound(db: Database) -> None:
    async def away(rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        raise TocsinError(ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE, "it is not there")

    relay = Relay(db, away, kinds=[KIND])
    assert relay.takes("a", 600)
    assert not relay.takes("a", 601)
    await put(db, ("", "x"))
    await relay.run_once()
    assert not relay.takes("a", 1)


async def test_a_relay_that_stops_delivers_what_is_in_memory_and_takes_no_more(db: Database) -> None:
    receiver = Receiver()
    relay = Relay(db, receiver.deliver, kinds=[KIND], sweep_every=3600)
    async with running(relay):
        relay.hand_over(await written(db, "the last"))
    assert receiver.texts == ["the last"]
    assert not relay.takes("a", 1)
    assert await left(db) == 0

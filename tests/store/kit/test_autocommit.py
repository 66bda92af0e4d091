"""A statement that is a transaction by itself, what of the relay travels so, and when the relay leaves its turn to other work."""

from collections.abc import Sequence

import asyncpg
import pytest
from tocsin_kit.db.outbox import OutboxRow, Relay, RowAnswer
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay import GiveWay

from tests.store.kit.peer import relaying
from tests.store.kit.receiver import KIND, Eventually, Receiver, left, put
from tests.store.round_trips import recorded

ADD = "INSERT INTO widgets (org_id, name) VALUES ($1, $2) RETURNING name"


async def test_it_is_committed_and_sees_every_tenant_after_any_use_of_the_session(db: Database) -> None:
    for org_id in ("a", "b"):
        async with db.autocommit() as tx:
            assert await tx.fetchval(ADD, org_id, f"of {org_id}") == f"of {org_id}"
    async with db.autocommit() as tx:
        assert await tx.fetchval("SELECT count(*) FROM widgets") == 2
    async with db.transaction("a") as tx:
        assert await tx.fetchval("SELECT count(*) FROM widgets") == 1


async def test_a_second_statement_would_be_another_transaction_and_is_refused(db: Database) -> None:
    async with db.autocommit() as tx:
        await tx.fetchval(ADD, "a", "first")
        with pytest.raises(RuntimeError, match="has ended"):
            await tx.fetchval(ADD, "a", "second")


async def test_after_an_error_the_session_serves_the_next_one(db: Database) -> None:
    for _ in range(3):
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with db.autocommit() as tx:
                await tx.fetchval("SELECT 1/0")
    async with db.autocommit() as tx:
        assert await tx.fetchval("SELECT current_setting('tocsin.org_id')") == "*"


async def test_the_round_trips_of_a_message_that_is_accepted(db: Database) -> None:
    await put(db, ("k", "hello"))
    relay = Relay(db, Receiver().deliver, kinds=[KIND])
    with recorded() as trips:
        assert await relay.run_once() == 1
    [claimed], [settled] = trips.writing({"outbox"})
    assert (claimed, settled) == ("outbox", "outbox")
    assert await left(db) == 0


async def test_a_busy_process_lets_three_sweeps_pass_and_no_more(db: Database, eventually: Eventually) -> None:
    receiver, looks = Receiver(), list[str]()

    async def deliver(rows: Sequence[OutboxRow]) -> Sequence[RowAnswer]:
        if not receiver.batches:
            await put(db, ("k2", "second"))  # behind the first round's claim, and without a nudge
        return await receiver.deliver(rows)

    def busy() -> bool:
        looks.append(" ".join(receiver.texts))
        return True

    async def arrived() -> bool:
        return receiver.texts == ["first", "second"]

    await put(db, ("k1", "first"))
    async with relaying(Relay(db, deliver, kinds=[KIND], give_way=GiveWay(busy=busy), sweep_every=0.05)):
        await eventually(arrived, seconds=30)
        before = [texts for texts in looks if texts != "first second"]
    assert len(before) >= 4


async def test_what_is_nudged_waits_for_no_other_work(db: Database, eventually: Eventually) -> None:
    receiver = Receiver()

    async def arrived() -> bool:
        return receiver.texts == ["urgent"]

    relay = Relay(db, receiver.deliver, kinds=[KIND], give_way=GiveWay(busy=lambda: True), sweep_every=3600)
    async with relaying(relay):
        await put(db, ("k", "urgent"))
        relay.nudge()
        await eventually(arrived, seconds=30)

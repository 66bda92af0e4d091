"""What the relay does about deliveries that do not return."""

import asyncio
from typing import Any

import pytest
from tocsin_kit.db.outbox import Relay
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay import Sets

from tests.store.kit.peer import KIND, Eventually, Peer, dead_of, is_true, put, relaying


async def test_a_tenant_whose_deliveries_hang_leaves_places_to_others(db: Database, eventually: Eventually) -> None:
    peer = Peer()
    peer.hangs = lambda row: row.org_id == "slow"
    relay = Relay(db, peer.deliver, kinds=[KIND], sets=Sets(rows=2, parallel=2, lease=3600))
    async with relaying(relay):
        await put(db, "slow", [b"%d" % number for number in range(20)])
        relay.nudge()
        await eventually(lambda: is_true(len(peer.calls) >= 2))
        await put(db, "victim", [b"page"])
        relay.nudge()
        await eventually(lambda: is_true(peer.of("victim") == [b"page"]))  # no hanging delivery is cut off meanwhile
        peer.ends.set()
    assert await dead_of(db, "slow") == []


async def test_a_hanging_row_does_not_keep_its_tenants_other_rows(db: Database, eventually: Eventually) -> None:
    peer = Peer()
    peer.hangs = lambda row: row.payload == b"hangs"
    await put(db, "a", [b"hangs", b"one", b"two"])
    # A delivery lasts longer than the pause between two probes: else each probe takes what hangs along, and none proves that the
    # receiver works.
    relay = Relay(db, peer.deliver, kinds=[KIND], sets=Sets(lease=1))
    async with relaying(relay):

        async def only_it_is_left() -> bool:
            async with db.transaction("a") as tx:
                return [row["payload"] for row in await tx.fetch("SELECT payload FROM outbox")] == [b"hangs"]

        async def others_pass() -> bool:
            await put(db, "b", [b"page"])  # the receiver answers others meanwhile
            relay.nudge()
            return set(peer.of("a")) == {b"one", b"two"}

        await eventually(others_pass)
        await eventually(only_it_is_left)


async def test_a_hanging_row_keeps_no_others_where_its_outcome_is_written_after_the_lease(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL is slow: until then the rows look free, and then as if they were under way."""
    peer = Peer()
    peer.hangs = lambda row: row.payload == b"hangs"
    await put(db, "a", [b"hangs", b"one", b"two"])
    write = db.run

    async def written_late(*given: Any, **options: Any) -> Any:
        await asyncio.sleep(0.3)  # a delivery is cut off 0.2 s before its lease ends
        return await write(*given, **options)

    monkeypatch.setattr(db, "run", written_late)
    relay = Relay(db, peer.deliver, kinds=[KIND], sets=Sets(lease=1))
    async with relaying(relay):

        async def others_pass() -> bool:
            await put(db, "b", [b"page"])
            relay.nudge()
            return set(peer.of("a")) == {b"one", b"two"}

        await eventually(others_pass)


async def test_a_hanging_row_keeps_no_other_tenant_waiting_where_nothing_more_comes(
    db: Database, eventually: Eventually
) -> None:
    """They came together, so that nothing tells a receiver that hangs for one row from one that is away."""
    peer = Peer()
    peer.hangs = lambda row: row.payload == b"hangs"
    await put(db, "a", [b"hangs"])
    await put(db, "b", [b"page"])
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], sets=Sets(lease=1))):
        await eventually(lambda: is_true(peer.of("b") == [b"page"]))

"""How rows of a tenant that brings much travel, and those of the others beside it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace

import pytest
from tocsin_kit.db.outbox import OutboxRow, Relay, RowAnswer, append_across
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay import GiveWay, Sets
from tocsin_kit.noisy_tenants import NoisyTenants

from tests.store.kit.peer import (
    KIND,
    Eventually,
    Peer,
    is_true,
    put,
    relaying,
)


async def test_a_row_does_not_travel_with_the_hundred_of_another_tenant(db: Database, eventually: Eventually) -> None:
    """The receiver takes long for those."""
    await put(db, "storm", [b"x"] * 100)
    await put(db, "victim", [b"page"])
    await put(db, "other", [b"page"])
    peer = Peer()
    async with relaying(Relay(db, peer.deliver, kinds=[KIND])):
        await eventually(lambda: is_true(len(peer.taken) == 102))
    travelled = [{row.org_id for row in call} for call in peer.calls]
    assert [each for each in travelled if each != {"storm"}] == [{"victim", "other"}]


def one_noisy(org_id: str) -> NoisyTenants:
    """The tenant brings more than it may, for ever."""
    noisy = NoisyTenants(clock=lambda: 0.0)
    noisy.note(org_id, 1000)
    return noisy


async def test_a_row_does_not_travel_with_few_of_a_tenant_that_brings_many_a_second(
    db: Database, eventually: Eventually
) -> None:
    """Those of a storm come a few at a time, too."""
    peer = Peer()
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], give_way=GiveWay(noisy=one_noisy("storm")))) as relay:
        for number in range(1, 4):
            async with db.system() as tx:
                rows = [(org_id, "", b"x") for org_id in ("storm", "victim", "storm", "other")]
                await append_across(tx, KIND, rows)
                tx.after_commit(relay.nudge)
            await eventually(lambda number=number: is_true(len(peer.taken) == 4 * number))
    travelled = [{row.org_id for row in call} for call in peer.calls]
    assert {"storm"} in travelled
    assert [each for each in travelled if "storm" in each and each != {"storm"}] == []


async def test_what_a_noisy_tenant_brings_next_is_gathered_and_others_do_not_wait_for_it(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_kit.db.relay._PAUSE", 3600.0)
    peer = Peer()
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], give_way=GiveWay(noisy=one_noisy("storm")))) as relay:
        await put(db, "storm", [b"first"])
        relay.nudge("storm")
        await eventually(lambda: is_true(peer.of("storm") == [b"first"]))
        for _ in range(5):
            await put(db, "storm", [b"next"])
            relay.nudge("storm")
        await put(db, "victim", [b"page"])
        relay.nudge("victim")
        await eventually(lambda: is_true(peer.of("victim") == [b"page"]))
        assert peer.of("storm") == [b"first"]
    assert len(peer.of("storm")) == 6, "a stop leaves nothing behind"
    assert [len(call) for call in peer.calls] == [1, 1, 5]


async def test_deliveries_of_a_noisy_tenant_leave_places_for_several_others(
    db: Database, eventually: Eventually
) -> None:
    """They travel apart, so that each moment has more deliveries than it had when all travelled together."""
    peer, answered, begun = Peer(), asyncio.Event(), Counter[str]()

    async def deliver(rows: Sequence[OutboxRow]) -> Sequence[RowAnswer]:
        begun[rows[0].org_id] += 1
        if rows[0].org_id != "victim":
            await answered.wait()
        return await peer.deliver(rows)

    relay = Relay(
        db, deliver, kinds=[KIND], sets=Sets(parallel=2, lease=3600), give_way=GiveWay(noisy=one_noisy("storm"))
    )
    async with relaying(relay):
        try:
            for org_id, count in (("storm", 1), ("storm", 2), ("slow", 1)):
                await put(db, org_id, [b"x"])
                relay.nudge(org_id)
                await eventually(lambda org_id=org_id, count=count: is_true(begun[org_id] == count))
            await put(db, "victim", [b"page"])
            relay.nudge("victim")
            await eventually(lambda: is_true(peer.of("victim") == [b"page"]))
        finally:
            answered.set()


async def test_what_was_gathered_goes_when_the_pause_is_over(db: Database, eventually: Eventually) -> None:
    peer = Peer()
    async with relaying(
        Relay(db, peer.deliver, kinds=[KIND], give_way=GiveWay(noisy=one_noisy("storm")), sweep_every=3600)
    ) as relay:
        for number in range(1, 20):
            await put(db, "storm", [b"x"])
            relay.nudge("storm")
            if number % 5 == 0:
                await eventually(lambda number=number: is_true(len(peer.taken) == number))
        await eventually(lambda: is_true(len(peer.taken) == 19))


async def test_between_two_sets_of_a_noisy_tenant_a_patient_relay_leaves_the_receiver_to_others(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No caller waits for these rows, and thousands of them are due at one instant when a storm is reported together."""
    monkeypatch.setattr("tocsin_kit.db.relay._LONGEST_PAUSE", 3600.0)
    clock = count(step=1000.0)
    monkeypatch.setattr("tocsin_kit.db.relay.time", SimpleNamespace(monotonic=lambda: next(clock)))
    await put(db, "storm", [b"x"] * 100)
    peer = Peer()
    noisy = one_noisy("storm")
    relay = Relay(
        db, peer.deliver, kinds=[KIND], sets=Sets(rows=40, parallel=1), give_way=GiveWay(patient=True, noisy=noisy)
    )

    async def only_the_storm_is_left() -> bool:
        async with db.system() as tx:
            return not await tx.fetchval("SELECT count(*) FROM outbox WHERE org_id <> 'storm'")

    async with relaying(relay):
        await eventually(lambda: is_true(len(peer.of("storm")) == 40))
        await eventually(lambda: is_true(relay._paused == {"storm"}))
        for number in range(1, 4):
            await put(db, "victim", [b"page"])
            relay.nudge("victim")
            await eventually(lambda number=number: is_true(len(peer.of("victim")) == number))
        # A row that is delivered and not yet deleted has its tenant's share in the next round.
        await eventually(only_the_storm_is_left)
        assert len(peer.of("storm")) == 40
    assert len(peer.of("storm")) == 80, "a stop makes one round more"


async def test_a_patient_relay_delivers_all_that_a_noisy_tenant_brought(db: Database, eventually: Eventually) -> None:
    await put(db, "storm", [b"x"] * 100)
    peer = Peer()
    relay = Relay(
        *(db, peer.deliver),
        kinds=[KIND],
        sets=Sets(rows=30, parallel=1),
        give_way=GiveWay(patient=True, noisy=one_noisy("storm")),
        sweep_every=3600,
    )
    async with relaying(relay):
        await eventually(lambda: is_true(len(peer.of("storm")) == 100))
    assert [len(call) for call in peer.calls] == [30, 30, 30, 10]

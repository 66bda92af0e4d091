"""What travels in place of a row that would die."""

import pytest
from tocsin_kit.db.outbox import OutboxRow, Relay
from tocsin_kit.db.outbox_admin import list_dead, redrive
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import invalid

from tests.store.kit.peer import KIND, Eventually, Peer, dead_of, defect, is_true, put, relaying


async def test_a_substitute_takes_the_place_of_a_row_that_would_die(db: Database, eventually: Eventually) -> None:
    asked: list[tuple[int, str]] = []

    def strip(row: OutboxRow, reason: str) -> bytes | None:
        asked.append((row.id, reason))
        return b"stripped" if row.payload != b"hopeless" else None

    peer = Peer()
    peer.refuse = lambda row: invalid("labels", "hold a NUL") if row.payload in (b"poison", b"hopeless") else None
    [first] = await put(db, "a", [b"poison"], key="k")
    await put(db, "a", [b"next"], key="k")
    [hopeless] = await put(db, "b", [b"hopeless"])
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], substitute=strip)):
        await eventually(lambda: is_true(peer.of("a") == [b"stripped", b"next"]))
    reason = "INVALID_FIELD: labels: hold a NUL"
    assert sorted(asked) == [(first, reason), (hopeless, reason)]
    assert (peer.taken[0].id, peer.taken[0].substituted) == (first, True)
    assert await dead_of(db, "a") == [(b"poison", reason)]
    assert await dead_of(db, "b") == [(b"hopeless", reason)]


async def test_a_substitute_that_is_refused_dies_and_is_not_replaced_again(
    db: Database, eventually: Eventually
) -> None:
    asked: list[int] = []

    def strip(row: OutboxRow, reason: str) -> bytes | None:
        asked.append(row.id)
        return b"stripped"

    peer = Peer()
    peer.refuse = lambda row: invalid("x", "is bad")
    [row_id] = await put(db, "a", [b"poison"])
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], substitute=strip)):

        async def both() -> bool:
            return sorted(payload for payload, _ in await dead_of(db, "a")) == [b"poison", b"stripped"]

        await eventually(both)
    assert asked == [row_id]
    # A redriven original goes as it is; it would not be replaced a second time either.
    peer.refuse = lambda row: None
    async with db.transaction("a") as tx:
        dead = await list_dead(tx, [KIND])
        assert len(await redrive(tx, [KIND], [row.id for row in dead])) == 2
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], substitute=strip)):
        await eventually(lambda: is_true(sorted(peer.of("a")) == [b"poison", b"stripped"]))


async def test_a_substitute_function_that_raises_counts_as_none(db: Database, eventually: Eventually) -> None:
    def broken(row: OutboxRow, reason: str) -> bytes | None:
        raise KeyError("x")

    peer = Peer()
    peer.refuse = lambda row: invalid("x", "is bad")
    await put(db, "a", [b"poison"])
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], substitute=broken)):

        async def dead() -> bool:
            return bool(await dead_of(db, "a"))

        await eventually(dead)


async def test_a_lone_row_that_meets_a_defect_is_substituted_without_a_proof(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quiet night: nothing else shows that the receiver works, and the incident must page all the same."""
    monkeypatch.setattr("tocsin_kit.db.relay_verdicts._REFUSAL_CAP", 0.01)
    peer = Peer()
    peer.refuse = lambda row: defect() if row.payload == b"poison" else None
    await put(db, "a", [b"poison"])
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], substitute=lambda row, reason: b"stripped")):
        await eventually(lambda: is_true(peer.of("a") == [b"stripped"]))

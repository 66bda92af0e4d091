"""What the relay does about rows that are refused, and about a receiver that is away."""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Collection

import grpc
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db import outbox_claims
from tocsin_kit.db.outbox import Relay
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay import Sets
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import within

from tests.store.kit.peer import (
    KIND,
    Eventually,
    Peer,
    away,
    dead_of,
    defect,
    is_empty,
    is_true,
    put,
    relaying,
    too_large,
)


@pytest.mark.parametrize(
    ("error", "count"), [(too_large, 200), (defect, 60), (lambda: ValueError("odd"), 20)], ids=["size", "defect", "odd"]
)
async def test_poison_of_one_tenant_does_not_hold_up_another(
    db: Database, eventually: Eventually, error: Callable[[], Exception], count: int
) -> None:
    """The floor is the same row without any poison before it, in the same run."""
    peer = Peer()
    peer.refuse = lambda row: error() if row.payload.startswith(b"poison") else None
    relay = Relay(db, peer.deliver, kinds=[KIND], sweep_every=3600)
    async with relaying(relay):

        async def took(org_id: str) -> float:
            began = time.monotonic()
            await put(db, org_id, [b"page"])
            relay.nudge()
            await eventually(lambda: is_true(peer.of(org_id) == [b"page"]))
            return time.monotonic() - began

        floor = await took("calm")
        await put(db, "attacker", [b"poison %d" % number for number in range(count)])
        relay.nudge()
        beside = await took("victim")
        await put(db, "attacker", [b"legal"])
        relay.nudge()
        again = await took("second victim")
        assert max(beside, again) < within(5.0) + 10 * floor
        await eventually(lambda: is_true(b"legal" in peer.of("attacker")))

        async def all_dead() -> bool:
            await put(db, "calm", [b"page"])
            relay.nudge()
            return len(await dead_of(db, "attacker")) == count

        # With each of the faults, the rows die: the receiver accepts others after it has refused each of them.
        await eventually(all_dead, seconds=30)
    assert sum(any(row.org_id == "attacker" for row in call) for call in peer.calls) < 6 * count
    assert await is_empty(db)


async def test_a_row_that_comes_while_its_tenant_leaves_the_side_road_waits_for_no_sweep(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of what a tenant had apart; the common deliveries still leave the tenant out."""
    peer = Peer()
    peer.refuse = lambda row: too_large() if row.payload.startswith(b"poison") else None
    late, looked = asyncio.Event(), asyncio.Event()
    relay = Relay(db, peer.deliver, kinds=[KIND], sweep_every=3600)
    of, fair = outbox_claims.Claims.of, outbox_claims.Claims.fair

    async def held(self: outbox_claims.Claims, org_id: str, limit: int) -> outbox_claims.Claimed:
        found = await of(self, org_id, limit)
        if not found.rows and not late.is_set():
            await put(db, org_id, [b"late"])
            late.set()
            relay.nudge()
            await looked.wait()
        return found

    async def noted(
        self: outbox_claims.Claims, limit: int, *, after: str, without: Collection[str]
    ) -> outbox_claims.Claimed:
        found = await fair(self, limit, after=after, without=without)
        if late.is_set():
            looked.set()
        return found

    monkeypatch.setattr(outbox_claims.Claims, "of", held)
    monkeypatch.setattr(outbox_claims.Claims, "fair", noted)
    async with relaying(relay):
        await put(db, "attacker", [b"poison 1", b"poison 2"])
        relay.nudge()
        await eventually(lambda: is_true(peer.of("attacker") == [b"late"]))


async def test_neighbours_of_a_refused_row_go_through_and_it_dies_with_its_reason(
    db: Database, eventually: Eventually
) -> None:
    await put(db, "a", [b"poison" if number == 77 else b"%d" % number for number in range(200)])
    peer = Peer()
    peer.refuse = lambda row: defect() if row.payload == b"poison" else None
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], sweep_every=3600)):
        await eventually(lambda: is_true(len(peer.taken) == 199))

        async def dead() -> bool:
            return await dead_of(db, "a") == [(b"poison", "INTERNAL: internal error 123")]

        await eventually(dead)
    assert len(peer.calls) < 40, "halving takes twice the logarithm of the batch, and the row four tries alone"


async def test_a_row_that_another_replica_was_refused_is_found_by_the_common_claim(
    db: Database, eventually: Eventually
) -> None:
    """What goes apart is looked at rarely while there is none."""
    peer = Peer()
    relay = Relay(db, peer.deliver, kinds=[KIND], sweep_every=3600)
    async with relaying(relay):
        await put(db, "calm", [b"page"])
        relay.nudge()
        await eventually(lambda: is_true(peer.of("calm") == [b"page"]))
        await put(db, "left", [b"refused before"])
        async with db.system() as tx:
            await tx.execute("UPDATE outbox SET refusals = 1")
        relay.nudge()
        await eventually(lambda: is_true(peer.of("left") == [b"refused before"]))


async def test_deliveries_are_cut_by_bytes(db: Database, eventually: Eventually) -> None:
    """399 legal messages of 260 KB, and one that is larger than the bound: no message is ever too large."""
    for _ in range(7):
        async with db.system() as tx:
            await tx.execute(
                """INSERT INTO outbox (org_id, ordering_key, kind, payload)
                SELECT 'big', '', 'thing', convert_to(repeat('x', 260000), 'UTF8') FROM generate_series(1, 57)"""
            )
    await put(db, "big", [b"y" * 900_000])
    await put(db, "small", [b"page"])
    peer = Peer()
    async with relaying(Relay(db, peer.deliver, kinds=[KIND])):
        await eventually(lambda: is_true(peer.of("small") == [b"page"]))
        assert len(peer.of("big")) < 399 / 2, "the other tenant waited for the bytes of this one"

        async def empty() -> bool:
            return await is_empty(db)

        await eventually(empty, seconds=30)
    sizes = [sum(len(row.payload) for row in call) for call in peer.calls]
    assert max(sizes) == 900_000
    assert sorted(sizes)[-2] <= 512 << 10
    assert len(peer.taken) == 401
    assert await dead_of(db, "big") == []


async def test_a_claim_takes_tenants_in_turn_behind_a_long_backlog(db: Database) -> None:
    for part in range(2):
        async with db.system() as tx:
            await tx.execute(
                """INSERT INTO outbox (org_id, ordering_key, kind, payload)
                SELECT 'flood', $1 || '-' || n, 'thing', 'x' FROM generate_series(1, 10000) AS n""",
                str(part),
            )
    await put(db, "victim", [b"page"])
    peer = Peer()
    relay = Relay(db, peer.deliver, kinds=[KIND])
    await relay.run_once()
    assert peer.of("victim") == [b"page"]
    assert len(peer.taken) <= 200


@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_claim_walks_the_indexes_made_for_it(db: Database, analyzed: bool) -> None:
    await put(db, "a", [b"x"] * 3000)
    if analyzed:
        async with db.system() as tx:
            await tx.execute("ANALYZE outbox")
    for statement in (outbox_claims._CLAIM, outbox_claims._CLAIM_REFUSED):
        async with db.claim() as tx:
            plan = await tx.fetch(f"EXPLAIN {statement}", [KIND], 200, 10.0, "", [], 200, 1 << 19)
        text = "\n".join(row[0] for row in plan)
        used = set(re.findall(r"using (outbox_\w+)", text))
        # Each looks for refused rows.
        wanted = {"outbox_turns", "outbox_refused"} if statement is outbox_claims._CLAIM else {"outbox_refused"}
        assert used == wanted | {"outbox_order", "outbox_pkey"}, text
        assert "Seq Scan" not in text, text


async def test_more_tenants_than_one_claim_visits_are_served_in_rotation(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_kit.db.outbox_claims.ORGS", 3)
    for number in range(20):
        await put(db, f"org-{number:02}", [b"page"])
    peer = Peer()
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], sweep_every=3600)):
        await eventually(lambda: is_true(len(peer.taken) == 20))


async def test_no_row_pays_for_an_outage_and_all_go_when_the_peer_is_back(db: Database, eventually: Eventually) -> None:
    peer = Peer()
    peer.down = away()
    await put(db, "a", [b"%d" % number for number in range(50)])
    relay = Relay(db, peer.deliver, kinds=[KIND], sweep_every=3600)
    async with relaying(relay):
        await eventually(lambda: is_true(len(peer.calls) >= 5))
        async with db.system() as tx:
            waiting = await tx.fetch("SELECT due_time <= app_now() AS due, refusals, retries FROM outbox")
        assert {tuple(row) for row in waiting} == {(True, 0, 0)}
        assert max(map(len, peer.calls[4:])) <= 8, "while it is away it is asked with few rows"
        peer.down = None
        await eventually(lambda: is_true(len(peer.taken) == 50))  # no sweep comes meanwhile


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        None,
    ],
)
async def test_answers_that_say_nothing_about_a_row_never_end_it(
    db: Database, eventually: Eventually, code: grpc.StatusCode | None
) -> None:
    peer = Peer()
    peer.down = (
        ConnectionResetError("gone")
        if code is None
        else TocsinError(ErrorReason.ERROR_REASON_UNSPECIFIED, "no", code=code)
    )
    await put(db, "a", [b"page"])
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], sweep_every=3600)):
        await eventually(lambda: is_true(len(peer.calls) >= 3))
        peer.down = None
        await eventually(lambda: is_true(peer.of("a") == [b"page"]))
    assert await dead_of(db, "a") == []


async def test_a_receiver_with_a_defect_refuses_all_rows_and_none_dies(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_kit.db.relay_verdicts._REFUSAL_CAP", 0.01)
    peer = Peer()
    peer.refuse = lambda row: defect()
    await put(db, "a", [b"page"])
    await put(db, "b", [b"page"])
    async with relaying(Relay(db, peer.deliver, kinds=[KIND])):

        async def refused_often() -> bool:
            async with db.system() as tx:
                return bool(await tx.fetchval("SELECT min(refusals) > 10 FROM outbox"))

        await eventually(refused_often)
        peer.refuse = lambda row: None
        await eventually(lambda: is_true(len(peer.taken) == 2))
    assert await dead_of(db, "a") == []


async def test_what_was_accepted_before_a_fault_began_is_no_proof_in_it(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what the receiver had taken before, and answers only now. No row ends, however often it is refused."""
    monkeypatch.setattr("tocsin_kit.db.relay_verdicts._REFUSAL_CAP", 0.01)
    peer = Peer()
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], sweep_every=3600)) as relay:
        await put(db, "calm", [b"before"])
        relay.nudge()
        await eventually(lambda: is_true(peer.of("calm") == [b"before"]))
        peer.hangs = lambda row: row.payload == b"taken"
        await put(db, "slow", [b"taken"])
        relay.nudge()
        await eventually(lambda: is_true(len(peer.calls) == 2))
        peer.refuse = lambda row: None if row.payload == b"taken" else defect()
        [page] = await put(db, "victim", [b"page"])

        async def was_refused(times: int) -> bool:
            relay.nudge()
            async with db.system() as tx:
                return bool(await tx.fetchval("SELECT refusals >= $2 FROM outbox WHERE id = $1", page, times))

        await eventually(lambda: was_refused(1))
        peer.ends.set()
        await eventually(lambda: is_true(peer.of("slow") == [b"taken"]))
        await eventually(lambda: was_refused(10))
        peer.refuse = lambda row: None
        await eventually(lambda: is_true(peer.of("victim") == [b"page"]))
    assert await dead_of(db, "victim") == []


async def test_what_is_accepted_between_two_refusals_of_a_row_ends_it(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_kit.db.relay_verdicts._REFUSAL_CAP", 0.01)
    peer = Peer()
    peer.refuse = lambda row: defect() if row.payload == b"poison" else None
    await put(db, "a", [b"poison"])
    async with relaying(Relay(db, peer.deliver, kinds=[KIND], sweep_every=3600)) as relay:
        await eventually(lambda: is_true(len(peer.calls) > 10))
        assert await dead_of(db, "a") == [], "nothing shows that it works"
        await put(db, "b", [b"page"])
        relay.nudge()

        async def dead() -> bool:
            return await dead_of(db, "a") == [(b"poison", "INTERNAL: internal error 123")]

        await eventually(dead)


@pytest.mark.parametrize("seed", range(2))
async def test_every_good_row_arrives_and_in_order_beside_any_refused_ones(
    db: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Random tenants, keys, poison and outages, two replicas. A row whose claim or settling was lost goes again when its
    lease ends (at least once is what the relay promises), so only the first arrival of each row counts here.
    """
    monkeypatch.setattr("tocsin_kit.db.relay_verdicts._REFUSAL_CAP", 0.05)
    rng = random.Random(seed)
    peer = Peer()
    good: dict[tuple[str, str], list[bytes]] = {}
    poison: Counter[str] = Counter()
    for number in range(150):
        org_id, key = f"org{rng.randrange(6)}", rng.choice(["", "k1", "k2", "k3"])
        bad = rng.random() < (0.5 if org_id == "org0" else 0.03)
        payload = b"%s %d" % (b"poison" if bad else b"good", number)
        await put(db, org_id, [payload], key=key)
        if bad:
            poison[org_id] += 1
        else:
            good.setdefault((org_id, key), []).append(payload)
    peer.refuse = lambda row: rng.choice([defect, too_large])() if row.payload.startswith(b"poison") else None
    first, second = (Relay(db, peer.deliver, kinds=[KIND], sets=Sets(rows=30)) for _ in range(2))
    async with relaying(first), relaying(second):
        for _ in range(3):
            await asyncio.sleep(rng.uniform(0, 0.05))
            peer.down = away()
            await asyncio.sleep(rng.uniform(0, 0.05))
            peer.down = None
        await eventually(lambda: is_empty(db), seconds=60)
    claims = Counter((row.id, row.attempts) for row in peer.taken)
    assert max(claims.values()) == 1, (
        "a claim delivers its row once; only a new one after the lease may deliver it again"
    )
    for (org_id, key), payloads in good.items():
        taken = [row.payload for row in peer.taken if (row.org_id, row.ordering_key) == (org_id, key)]
        arrived = list(dict.fromkeys(taken))
        assert sorted(arrived) == sorted(payloads)
        assert key == "" or arrived == payloads
    for org_id, count in poison.items():
        assert len(await dead_of(db, org_id)) == count

"""Turns on a real database: fair while two replicas start levels at the same time, and never a reason to wait for long."""

import asyncio
import contextlib
import random
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.foresight import foresee
from tocsin_escalation.app.incidents.apply_events import Arrival, Result, apply_events
from tocsin_escalation.app.incidents.apply_outcomes import OutcomeArrival, OutcomeResult, apply_outcomes
from tocsin_escalation.app.incidents.fire_timers import fire_timers
from tocsin_escalation.app.people import people, policies
from tocsin_escalation.domain.events import Acknowledged, OutcomeKind, PageOutcome, TimerFired
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.store.incidents import escalations, turns
from tocsin_escalation.store.people import policies as policy_store
from tocsin_escalation.store.people.directory import TeamRow, UserRow
from tocsin_escalation.store.schedules import absences
from tocsin_escalation.store.schedules.absences import AbsenceRow
from tocsin_escalation.work import timer_consumer
from tocsin_escalation.work.timer_consumer import TimerConsumer
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError

from tests.store.escalation.recorders import ORG, Desk, Notify

PEOPLE = ("ana", "ben", "cem")
ROTA = Policy(
    "rota",
    (
        Level(
            (Target(TargetKind.TEAM, "core"),), timedelta(minutes=10), in_turn=True, turn_timeout=timedelta(minutes=3)
        ),
        Level((Target(TargetKind.USER, "ana"),), timedelta(minutes=10)),
    ),
)

HANDING_ON = Policy("handing-on", (Level((Target(TargetKind.USER, "ben"),), timedelta(minutes=5)),), next_policy="rota")


async def write(desk: Desk) -> None:
    async def work(tx: Tx) -> None:
        await people.create_user(tx, UserRow("cem", "Cem", "", False))
        await people.create_team(tx, TeamRow("core", "Core", PEOPLE))
        await policies.create(tx, ROTA, "Rota", False, Computations())

    await desk.db.run(ORG, work)


async def hold(tx: Tx) -> None:
    """Take the turn and stand still, however long the machine needs for the rest of the test."""
    await tx.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    await turns.lock(tx, [(ORG, "rota")])


async def had(desk: Desk) -> tuple[str, ...]:
    async with desk.db.transaction(ORG) as tx:
        return (await turns.read(tx, [(ORG, "rota")])).get((ORG, "rota"), ())


async def due(desk: Desk, incident: UUID) -> TimerFired:
    timer = (await desk.run(incident)).timer
    assert timer is not None
    return TimerFired(timer.id, timer.generation)


async def test_two_replicas_share_out_the_turns_fairly(desk: Desk) -> None:
    await write(desk)
    arrivals = [desk.opening(policy="rota") for _ in range(30)]
    batches = [arrivals[at : at + 2] for at in range(0, 30, 2)]

    async def open_all(batch: list[Arrival]) -> None:
        async with asyncio.timeout(60):
            while Result.BUSY in (results := await apply_events(desk.db, desk.effects, batch)):
                assert results == [Result.BUSY] * 2, "a policy that is held elsewhere"
                await asyncio.sleep(random.uniform(0, 0.05))
        assert results == [Result.APPLIED] * 2

    await asyncio.gather(*map(open_all, batches))
    counted = Counter[str]()
    for arrival in arrivals:
        [(_, who)] = await desk.paged(arrival.incident_id)
        counted[who] += 1
    assert counted == dict.fromkeys(PEOPLE, 10)
    for batch in batches:
        first, second = [(await desk.paged(each.incident_id))[0][1] for each in batch]
        assert first != second, "two incidents of one batch"


async def test_a_miss_pages_the_next_one_and_the_end_of_the_level_survives_in_the_database(desk: Desk) -> None:
    await write(desk)
    incident = await desk.opens(policy="rota")
    for _ in range(3):
        await desk.passes(minutes=3, seconds=1)
        await desk.sweep()
    assert await desk.paged(incident) == [(1, "ana"), (1, "ben"), (1, "cem")]
    assert await had(desk) == PEOPLE
    await desk.passes(minutes=1)
    assert await desk.sweep() == 1
    assert (await desk.paged(incident))[3:] == [(2, "ana")]
    assert desk.arming.armed[incident].timer_id == (await due(desk, incident)).timer_id
    assert (await desk.run(incident)).timer.level_end is None  # type: ignore[union-attr]


async def test_the_same_turn_fired_by_both_ways_is_taken_once(desk: Desk) -> None:
    await write(desk)
    incident = await desk.opens(policy="rota")
    event = await due(desk, incident)
    await desk.passes(minutes=3, seconds=1)
    await asyncio.gather(*(fire_timers(desk.db, desk.effects, [(incident, event)], wait=True) for _ in range(4)))
    assert await desk.paged(incident) == [(1, "ana"), (1, "ben")]
    assert await had(desk) == ("ana", "ben")


async def test_a_replica_that_holds_a_turn_holds_up_no_other_policy_and_no_acknowledge(desk: Desk) -> None:
    await write(desk)
    waiting, other = await desk.opens(policy="rota"), await desk.opens()
    fired = [(waiting, await due(desk, waiting)), (other, await due(desk, other))]
    await desk.passes(minutes=6)
    async with desk.db.system() as tx:
        await hold(tx)
        async with asyncio.timeout(30):
            left = await fire_timers(desk.db, desk.effects, fired)
            assert (left.turns, left.rows) == ((fired[0],), ()), "left for later"
            await desk.take(waiting, Acknowledged("users/ana"))
    assert await desk.paged(other) == [(1, "ana"), (2, "ben")]
    assert await desk.paged(waiting) == [(1, "ana")]


async def test_timers_of_a_held_turn_keep_no_place_and_no_connection_from_another_tenant(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as a worker takes at once, on as many connections as it has: the timer of another tenant fires meanwhile."""
    await write(desk)
    await desk.db.run("umbrella", lambda tx: people.create_user(tx, UserRow("dora", "Dora", "", False)))
    one = Policy("one", (Level((Target(TargetKind.USER, "dora"),), timedelta(minutes=5)),), repeat_count=1)
    await desk.db.run("umbrella", lambda tx: policies.create(tx, one, "One", False, Computations()))
    waiting = [desk.opening(policy="rota") for _ in range(200)]
    other = desk.opening(policy="one", org_id="umbrella")
    assert set(await apply_events(desk.db, desk.effects, [*waiting, other])) == {Result.APPLIED}
    fired = [(each.incident_id, await due(desk, each.incident_id)) for each in waiting]
    stranger = await due(desk, other.incident_id)
    await desk.passes(minutes=6)
    monkeypatch.setattr(timer_consumer, "PAUSES", (0.2,) * 1000)
    consumer = TimerConsumer(desk.db, desk.effects)
    async with desk.db.system() as tx:
        await hold(tx)
        async with asyncio.timeout(60):
            await asyncio.gather(*(consumer.fire(*each) for each in fired))
            await consumer.fire(other.incident_id, stranger)
        assert await desk.paged(other.incident_id) == [(1, "dora"), (1, "dora")]
        assert await desk.paged(fired[0][0]) == [(1, "ana")], "it is held still"
    async with asyncio.timeout(60):
        while len(await desk.paged(fired[-1][0])) < 2:
            await asyncio.sleep(0.05)


async def test_few_timers_wait_for_the_row_of_their_incident(desk: Desk) -> None:
    incidents = [await desk.opens() for _ in range(6)]
    fired = [(incident, await due(desk, incident)) for incident in incidents]
    other = await desk.opens()
    await desk.passes(minutes=6)
    consumer = TimerConsumer(desk.db, desk.effects)
    async with desk.db.system() as tx:
        await tx.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await escalations.lock(tx, incidents)
        waiting = [asyncio.create_task(consumer.fire(*each)) for each in fired]
        async with asyncio.timeout(60):
            while sum(task.done() and task.exception() is None for task in waiting) < len(fired) - 2:
                await asyncio.sleep(0.01)
            await consumer.fire(other, await due(desk, other))
        assert await desk.paged(other) == [(1, "ana"), (2, "ben")]
    await asyncio.gather(*waiting, return_exceptions=True)  # on a slow machine they have waited too long
    async with asyncio.timeout(60):
        for incident in incidents:
            while len(await desk.paged(incident)) < 2:
                await desk.sweep()
                await asyncio.sleep(0.01)


async def test_incidents_of_a_policy_that_was_deleted_take_their_turns_to_the_end(desk: Desk) -> None:
    await write(desk)
    incident = await desk.opens(policy="rota")
    await desk.db.run(ORG, lambda tx: policies.delete(tx, "rota", ""))
    for _ in range(2):
        await desk.passes(minutes=3, seconds=1)
        assert await desk.sweep() == 1
    assert await desk.paged(incident) == [(1, "ana"), (1, "ben"), (1, "cem")]
    assert await had(desk) == ()


async def test_a_policy_that_is_changed_keeps_its_turns(desk: Desk) -> None:
    await write(desk)
    await desk.opens(policy="rota")

    async def work(tx: Tx) -> None:
        await policy_store.update(tx, ROTA, "Rota two", False)

    await desk.db.run(ORG, work)
    assert await desk.paged(await desk.opens(policy="rota")) == [(1, "ben")]


async def test_a_policy_begins_to_page_in_turn_when_it_is_changed_so(desk: Desk) -> None:
    await write(desk)
    night = Policy("night", ROTA.levels)
    await desk.db.run(ORG, lambda tx: policy_store.update(tx, night, "Night", False))
    incidents = [await desk.opens() for _ in range(4)]
    assert [(await desk.paged(each))[0][1] for each in incidents] == ["ana", "ben", "cem", "ana"]


async def test_who_is_away_or_cannot_be_reached_is_passed_over_and_the_simulation_says_so(desk: Desk) -> None:
    await write(desk)
    async with desk.db.transaction(ORG) as tx:
        now = await tx.now()
    away = AbsenceRow(uuid4(), "ana", now - timedelta(hours=1), now + timedelta(hours=1), "ill", "users/ana")
    await desk.db.run(ORG, lambda tx: absences.insert(tx, away))
    foreseen = await foresee.on_policy(desk.db, Notify(), ORG, "rota", None, 1)
    simulated = [page.user for step in foreseen.plan.steps for page in step.note.pages]
    assert simulated == ["ben", "cem", "ana"], "notify cannot reach ben; ana is away, and level 2 names her"
    assert await had(desk) == (), "a simulation takes no turn"
    incident = await desk.opens(policy="rota")
    page = next(iter((await desk.run(incident)).pages))
    await desk.take(incident, PageOutcome(page, "ben", OutcomeKind.UNREACHABLE, 1, reason="no verified contact method"))
    assert await desk.paged(incident) == [(1, "ben"), (1, "cem")]
    later = await foresee.on_policy(desk.db, Notify(), ORG, "rota", now + timedelta(hours=2), 1)
    assert [page.user for step in later.plan.steps for page in step.note.pages][:1] == ["ana"], (
        "back, and never had a turn"
    )


async def test_a_turn_that_is_held_delays_no_opening_of_anybody_else(desk: Desk) -> None:
    await write(desk)
    await desk.db.run(ORG, lambda tx: policies.create(tx, HANDING_ON, "Handing on", False, Computations()))
    held, ahead, free, stranger = (
        desk.opening(policy="rota"),
        desk.opening(policy="handing-on"),
        desk.opening(),
        desk.opening(org_id="umbrella"),
    )
    batch = [held, ahead, free, stranger]
    async with desk.db.system() as tx:
        await hold(tx)
        assert await apply_events(desk.db, desk.effects, batch) == [
            Result.BUSY,
            Result.BUSY,
            Result.APPLIED,
            Result.APPLIED,
        ]
        assert await desk.paged(free.incident_id) == [(1, "ana")]
        assert await desk.paged(held.incident_id) == []
        async with desk.db.transaction(ORG) as other:
            assert await escalations.known(other, [held.incident_id, ahead.incident_id]) == set(), "nothing was done"
    duplicates = [Result.DUPLICATE] * 2
    assert await apply_events(desk.db, desk.effects, batch) == [Result.APPLIED, Result.APPLIED, *duplicates]
    assert await desk.paged(held.incident_id) == [(1, "ana")]


async def test_a_held_turn_is_waited_for_by_the_outcome_that_takes_it_alone(desk: Desk) -> None:
    await write(desk)
    waiting, free = await desk.opens(policy="rota"), await desk.opens()
    told = [OutcomeArrival(ORG, incident, await unreachable(desk, incident)) for incident in (waiting, free)]
    async with desk.db.system() as tx:
        await hold(tx)
        applying = asyncio.create_task(apply_outcomes(desk.db, desk.effects, told))
        async with asyncio.timeout(30):
            while len(await desk.paged(free)) < 2 and not applying.done():
                await asyncio.sleep(0.01)
        assert await desk.paged(free) == [(1, "ana"), (2, "ben")]
        assert await desk.paged(waiting) == [(1, "ana")]
    with contextlib.suppress(TocsinError):  # on a slow machine it has waited too long, and notify tells it again
        await applying
    again = await apply_outcomes(desk.db, desk.effects, told)
    assert again[1] == OutcomeResult.DUPLICATE
    assert await desk.paged(waiting) == [(1, "ana"), (1, "ben")]


async def test_turns_of_several_policies_are_written_together(desk: Desk) -> None:
    await write(desk)
    await desk.db.run(
        ORG, lambda tx: policies.create(tx, Policy("second", ROTA.levels), "Second", False, Computations())
    )
    batch = [desk.opening(policy=policy) for policy in ("rota", "second", "rota")]
    assert await apply_events(desk.db, desk.effects, batch) == [Result.APPLIED] * 3
    async with desk.db.transaction(ORG) as tx:
        assert await turns.read(tx, [(ORG, "rota"), (ORG, "second")]) == {
            (ORG, "rota"): ("ana", "ben"),
            (ORG, "second"): ("ana",),
        }


async def unreachable(desk: Desk, incident: UUID) -> PageOutcome:
    page = next(iter((await desk.run(incident)).pages))
    return PageOutcome(page, "ana", OutcomeKind.UNREACHABLE, 1, reason="no verified contact method")

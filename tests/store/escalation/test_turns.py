"""Turns on a real database: fair while two replicas start levels at the same time, and never a reason to wait for long."""

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

from tocsin_escalation.app import foresee, people, policies
from tocsin_escalation.app.apply_events import Result, apply_events
from tocsin_escalation.app.fire_timers import fire_timers
from tocsin_escalation.domain.events import Acknowledged, OutcomeKind, PageOutcome, TimerFired
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.store import absences, turns
from tocsin_escalation.store import policies as policy_store
from tocsin_escalation.store.absences import AbsenceRow
from tocsin_escalation.store.directory import TeamRow, UserRow
from tocsin_kit.db.pool import Tx

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


async def write(desk: Desk) -> None:
    async def work(tx: Tx) -> None:
        await people.create_user(tx, UserRow("cem", "Cem", "", False))
        await people.create_team(tx, TeamRow("core", "Core", PEOPLE))
        await policies.create(tx, ROTA, "Rota", False)

    await desk.db.run(ORG, work)


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
    results = await asyncio.gather(*(apply_events(desk.db, desk.effects, batch) for batch in batches))
    assert results == [[Result.APPLIED] * 2] * 15
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
        await turns.lock(tx, [(ORG, "rota")])
        async with asyncio.timeout(30):
            assert await fire_timers(desk.db, desk.effects, fired) == fired[:1], "left for later"
            await desk.take(waiting, Acknowledged("users/ana"))
    assert await desk.paged(other) == [(1, "ana"), (2, "ben")]
    assert await desk.paged(waiting) == [(1, "ana")]


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

"""What must hold in the rows, in every race."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_escalation.app.incidents import followers
from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.app.incidents.apply_events import Arrival, Result, apply_events
from tocsin_escalation.app.incidents.audit import repair_missing_timers
from tocsin_escalation.app.incidents.command import Closed, Commands, IdempotentCall
from tocsin_escalation.app.incidents.decision_data import DecisionData, Step
from tocsin_escalation.app.incidents.fire_timers import fire_timers
from tocsin_escalation.domain.escalation import Escalation, Facts, Reached, State
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Escalated, Event, Resolved, Snoozed, TimerFired
from tocsin_escalation.store.incidents import escalations, feeds, timers
from tocsin_escalation.work.tasks import QUEUE
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError

from tests.store.escalation.recorders import ORG, POLICY, Desk, Notify, Relay


class Ingest:
    async def resolve(self, org_id: str, actor: str, incident_ids: list[UUID]) -> list[Closed]:
        return [Closed(7) for _ in incident_ids]


async def test_an_incident_is_opened_once_however_often_it_is_told(desk: Desk) -> None:
    arrival = desk.opening()
    results = await asyncio.gather(*(apply_events(desk.db, desk.effects, [arrival]) for _ in range(8)))
    assert sorted(result for [result] in results) == [Result.APPLIED, *[Result.DUPLICATE] * 7]
    assert await desk.paged(arrival.incident_id) == [(1, "ana")]


async def test_events_are_applied_in_their_order(desk: Desk) -> None:
    first = desk.opening()
    second = Arrival(ORG, first.incident_id, 2, AlertsAdded(5, 1, "again", 1))
    third = Arrival(ORG, first.incident_id, 3, Acknowledged("integrations/prom"))
    assert await apply_events(desk.db, desk.effects, [second]) == [Result.UNKNOWN_INCIDENT]
    assert await apply_events(desk.db, desk.effects, [first, third]) == [Result.APPLIED, Result.OUT_OF_ORDER]
    assert await apply_events(desk.db, desk.effects, [second, third]) == [Result.APPLIED, Result.APPLIED]
    run = await desk.run(first.incident_id)
    assert (run.state, run.facts.alert_count, run.last_sequence) == (State.ACKNOWLEDGED, 5, 3)


async def test_a_resolve_is_not_held_up_by_what_is_still_on_its_way(desk: Desk) -> None:
    incident = await desk.opens()
    resolved = Arrival(ORG, incident, 9, Resolved("users/ana"))
    assert await apply_events(desk.db, desk.effects, [resolved]) == [Result.APPLIED]
    late = Arrival(ORG, incident, 2, AlertsAdded(2, 1, "late", 0))
    assert await apply_events(desk.db, desk.effects, [late]) == [Result.DUPLICATE]


async def test_opened_and_resolved_in_one_batch_leaves_no_timer(desk: Desk) -> None:
    first = desk.opening()
    await apply_events(desk.db, desk.effects, [first, Arrival(ORG, first.incident_id, 2, Resolved("x"))])
    async with desk.db.system() as tx:
        assert await timers.nearest(tx, None, 10) == []
    assert desk.arming.armed == {}


async def test_a_timer_fired_by_many_at_once_acts_once(desk: Desk) -> None:
    incident = await desk.opens()
    timer = (await desk.run(incident)).timer
    assert timer is not None
    await desk.passes(minutes=5)
    event = TimerFired(timer.id, timer.generation)
    await asyncio.gather(*(fire_timers(desk.db, desk.effects, [(incident, event)]) for _ in range(6)), desk.sweep())
    assert await desk.paged(incident) == [(1, "ana"), (2, "ben")]


async def test_acknowledge_and_timer_at_the_same_instant_leave_one_of_two_right_histories(desk: Desk) -> None:
    for _ in range(10):
        incident = await desk.opens()
        timer = (await desk.run(incident)).timer
        assert timer is not None
        await desk.passes(minutes=5)
        await asyncio.gather(
            desk.take(incident, Acknowledged("users/ana")),
            fire_timers(desk.db, desk.effects, [(incident, TimerFired(timer.id, timer.generation))]),
        )
        run = await desk.run(incident)
        assert run.state is State.ACKNOWLEDGED
        assert run.timer is None
        assert await desk.paged(incident) in ([(1, "ana")], [(1, "ana"), (2, "ben")])


async def test_due_times_count_from_the_planned_time(desk: Desk) -> None:
    incident = await desk.opens()
    first = (await desk.run(incident)).timer
    assert first is not None
    await desk.passes(minutes=5, seconds=40)
    assert await desk.sweep() == 1
    second = (await desk.run(incident)).timer
    assert second is not None
    assert second.due_time == first.due_time + timedelta(minutes=5)


async def test_the_sweep_gives_each_tenant_its_turn_and_the_urgent_first(desk: Desk) -> None:
    async with desk.db.system() as tx:
        await tx.execute("INSERT INTO users SELECT 'small', id, display_name, time_zone, disabled FROM users")
        await tx.execute("INSERT INTO policies SELECT 'small', id, display_name, definition, false FROM policies")
    await apply_events(desk.db, desk.effects, [desk.opening(severity=4) for _ in range(60)])
    await desk.passes(seconds=1)
    urgent, other = desk.opening(severity=1), desk.opening(org_id="small", severity=4)
    await apply_events(desk.db, desk.effects, [urgent, other])
    await desk.passes(minutes=6)
    async with desk.db.system() as tx:
        claimed = [timer.incident_id for timer in await timers.overdue(tx, 0.0, 10, QUEUE, fair=True)]
    assert len(claimed) == 10
    assert claimed[0] == urgent.incident_id
    assert other.incident_id in claimed


async def test_one_broken_row_does_not_hold_up_the_others(desk: Desk) -> None:
    broken, fine = await desk.opens(), await desk.opens()
    async with desk.db.system() as tx:
        await tx.execute("UPDATE escalations SET policy = '{\"levels\": 1}' WHERE incident_id = $1", broken)
    await desk.passes(minutes=6)
    async with desk.db.system() as tx:
        before = await tx.now()
    await desk.sweep()
    assert (2, "ben") in await desk.paged(fine)
    async with desk.db.system() as tx:
        row = await tx.fetchrow("SELECT attempts, retry_time FROM timers WHERE incident_id = $1", broken)
    assert row is not None
    assert row["attempts"] == 1
    assert row["retry_time"] >= before + timedelta(seconds=2.5)


async def test_a_timer_that_loses_the_database_each_time_holds_up_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    incidents = [await desk.opens() for _ in range(5)]
    await desk.passes(minutes=6)
    read = DecisionData.read

    async def losing(tx: Tx, runs: Mapping[UUID, Escalation], *rest: Any, **more: Any) -> DecisionData:
        if incidents[2] in runs:
            await tx.fetchval("SELECT pg_terminate_backend(pg_backend_pid())")
        return await read(tx, runs, *rest, **more)

    monkeypatch.setattr(DecisionData, "read", losing)
    await desk.sweep()
    for incident in incidents:
        assert ((2, "ben") in await desk.paged(incident)) == (incident != incidents[2])
    async with desk.db.system() as tx:
        assert await tx.fetchval("SELECT attempts FROM timers WHERE incident_id = $1", incidents[2]) == 1


@pytest.mark.parametrize("code", ["53100", "25006", "42501"])
async def test_a_database_that_is_full_or_read_only_is_no_timers_and_no_events_fault(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Each would be tried by itself, and take its time before the next try; an event would be refused, and replaced in the end."""
    incidents = [await desk.opens() for _ in range(3)]
    await desk.passes(minutes=6)
    transactions = []

    async def full(tx: Tx, *_: Any, **__: Any) -> DecisionData:
        transactions.append(tx)
        await tx.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$")
        raise AssertionError("unreachable")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(DecisionData, "read", full)
        for call in (desk.sweep(), apply_events(desk.db, desk.effects, [desk.opening() for _ in range(3)])):
            transactions.clear()
            with pytest.raises(TocsinError) as caught:
                await call
            assert caught.value.reason == reasons.ERROR_REASON_DATABASE_UNAVAILABLE
            assert len(transactions) == 1
    await desk.sweep()
    for incident in incidents:
        assert (2, "ben") in await desk.paged(incident)
    async with desk.db.system() as tx:
        assert await tx.fetchval("SELECT max(attempts) FROM timers") == 0


async def test_a_due_timer_that_does_nothing_is_not_tried_again_at_once(desk: Desk) -> None:
    incident = await desk.opens()
    async with desk.db.system() as tx:
        await tx.execute("UPDATE timers SET generation = 7")
    await desk.passes(minutes=6)
    assert await desk.sweep() == 1
    assert await desk.sweep() == 0
    assert await desk.paged(incident) == [(1, "ana")]


async def test_an_escalation_without_a_timer_is_found_and_repaired(desk: Desk) -> None:
    incident = await desk.opens()
    async with desk.db.system() as tx:
        await tx.execute("DELETE FROM timers")
    assert await repair_missing_timers(desk.db, desk.effects) == 1
    await desk.passes(seconds=1)
    await desk.sweep()
    assert await desk.paged(incident) == [(1, "ana"), (2, "ben")]


async def test_another_tenant_sees_nothing_and_moves_nothing(desk: Desk) -> None:
    incident = await desk.opens()
    answer = await desk.take(incident, Acknowledged("users/eve"), org_id="evil")
    assert isinstance(answer, TocsinError)
    assert answer.reason == reasons.ERROR_REASON_INCIDENT_NOT_FOUND
    async with desk.db.transaction("evil") as tx:
        assert await tx.fetchval("SELECT count(*) FROM escalations") == 0
        assert await escalations.get(tx, incident) is None


async def test_an_answer_carries_the_version_that_is_stored(desk: Desk) -> None:
    incident = await desk.opens()
    assert (await desk.run(incident)).version == 1
    answer = await desk.take(incident, Acknowledged("users/ana"), etag="v1")
    assert isinstance(answer, Advanced)
    assert answer.run == await desk.run(incident)


async def test_a_stale_etag_changes_nothing(desk: Desk) -> None:
    incident = await desk.opens()
    answer = await desk.take(incident, Acknowledged("users/ana"), etag="v99")
    assert isinstance(answer, TocsinError)
    assert answer.reason == reasons.ERROR_REASON_ETAG_MISMATCH
    assert (await desk.run(incident)).state is State.TRIGGERED


async def test_the_same_request_id_is_done_once_and_its_answer_kept(desk: Desk) -> None:
    incident = await desk.opens()
    commands = Commands(desk.db, desk.effects, Notify(), Ingest())  # type: ignore[arg-type]
    request = pb.AcknowledgeIncidentRequest(request_id=str(uuid4()), name=f"incidents/{incident}")

    async def acknowledge(actor: str) -> pb.AcknowledgeIncidentResponse:
        def respond(done: Advanced) -> pb.AcknowledgeIncidentResponse:
            return pb.AcknowledgeIncidentResponse(already_acknowledged=done.already)

        return await commands.one(
            IdempotentCall(ORG, "Ack", request, pb.AcknowledgeIncidentResponse),
            Step(incident, Acknowledged(actor)),
            respond,
        )

    answers = await asyncio.gather(*(acknowledge("users/ana") for _ in range(5)))
    assert [answer.already_acknowledged for answer in answers] == [False] * 5
    assert (await desk.said(incident)).count("acknowledged") == 1


async def test_ok_means_that_notify_has_confirmed(desk: Desk) -> None:
    incident = await desk.opens()
    notify = Notify()
    commands = Commands(desk.db, desk.effects, notify, Ingest())  # type: ignore[arg-type]
    request = pb.AcknowledgeIncidentRequest(request_id=str(uuid4()), name=f"incidents/{incident}")
    step = Step(incident, Acknowledged("users/ana"))
    response = pb.AcknowledgeIncidentResponse
    notify.away = TocsinError(reasons.ERROR_REASON_SERVICE_UNAVAILABLE, "no answer")
    with pytest.raises(TocsinError) as caught:
        await commands.one(IdempotentCall(ORG, "Ack", request, response), step, lambda done: response())
    assert caught.value.reason == reasons.ERROR_REASON_CANCEL_UNCONFIRMED
    assert (await desk.run(incident)).state is State.ACKNOWLEDGED
    notify.away = None
    await commands.one(IdempotentCall(ORG, "Ack", request, response), step, lambda done: response())
    assert [(c.incident, c.generation) for c in notify.cancelled] == [(f"incidents/{incident}", 1)]


@pytest.mark.parametrize("before", [[], [Acknowledged("users/ana")], [Snoozed("users/ben", timedelta(minutes=5))]])
async def test_who_passes_an_incident_on_has_ok_while_notify_is_away(desk: Desk, before: list[Event]) -> None:
    """Told to repeat the call, a caller without a request id would pass it on once more, and wake the next level as well.

    `before`: the stop of this command is not confirmed either.
    """
    incident = await desk.opens()
    for event in before:
        await desk.take(incident, event)
    notify = Notify()
    notify.away = TocsinError(reasons.ERROR_REASON_SERVICE_UNAVAILABLE, "no answer")
    request, response = pb.EscalateIncidentRequest(name=f"incidents/{incident}"), pb.EscalateIncidentResponse
    relay = Relay()
    commands = Commands(desk.db, replace(desk.effects, relay=relay), notify, Ingest())  # type: ignore[arg-type]
    await commands.one(
        IdempotentCall(ORG, "Escalate", request, response),
        Step(incident, Escalated("users/ana")),
        lambda done: response(),
    )
    assert relay.nudges == 1, "it tells notify at once"
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT due_time <= app_now() AS due FROM outbox WHERE kind = 'cancel' ORDER BY id")
    assert len(rows) == len(before) + 1
    assert rows[-1]["due"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE escalations SET state = 'asleep'",
        "UPDATE escalations SET state = 'resolved'",
        "UPDATE escalations SET state = 'acknowledged'",
        "UPDATE escalations SET policy = NULL",
        "UPDATE escalations SET generation = 0",
        "INSERT INTO timers SELECT incident_id, org_id, gen_random_uuid(), kind, generation, due_time FROM timers",
    ],
)
async def test_wrong_states_are_impossible(desk: Desk, db: Database, statement: str) -> None:
    await desk.opens()
    with pytest.raises((asyncpg.IntegrityConstraintViolationError, TocsinError)):
        async with db.system() as tx:
            await tx.execute(statement)


async def test_new_escalations_are_kept_as_they_are_whether_or_not_all_of_them_are_usual(desk: Desk) -> None:
    then = datetime(2026, 3, 1, tzinfo=UTC)
    facts = Facts(
        "db down", "db1", 1, "integrations/prom", then, {"host": "db1"}, (("https://example.com", "graph"),), 3
    )
    usual = Escalation(
        ORG, uuid4(), facts, State.TRIGGERED, POLICY, level=1, assignees=("ana",), paged_users=("ana", "ben")
    )
    other = replace(POLICY, id="day", team="core")
    resolved = replace(
        usual,
        incident_id=uuid4(),
        state=State.RESOLVED,
        policy=other,
        repeat=2,
        reached=Reached.NOBODY,
        acknowledged_by="users/ana",
        acknowledge_time=then,
        resolved_by="users/ben",
        resolve_time=then,
        added_alerts_noted=True,
        severity_set=True,
        handed_on=1,
        version=1,
    )
    merged = replace(usual, incident_id=uuid4(), state=State.MERGED, policy=None, merged_into=usual.incident_id)
    for together in (
        [usual],
        [resolved, merged],
        [replace(usual, incident_id=uuid4()), replace(resolved, incident_id=uuid4())],
    ):
        async with desk.db.system() as tx:
            ids = [run.incident_id for run in together]
            assert await escalations.insert(tx, together) == set(ids)
            assert await escalations.insert(tx, together) == set(), "they are there now"
            assert await escalations.lock(tx, ids) == {run.incident_id: run for run in together}


async def test_events_of_openings_are_written_for_tenants_with_a_feed_and_no_other(desk: Desk) -> None:
    async with desk.db.system() as tx:
        await feeds.open_feeds(tx, ["fed"])
    fed = [desk.opening(org_id="fed"), desk.opening(org_id="fed")]
    await apply_events(desk.db, desk.effects, [fed[0], desk.opening(), fed[1]])
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT org_id, ordering_key FROM outbox WHERE kind = 'incident_event'")
    assert {(row["org_id"], row["ordering_key"]) for row in rows} == {
        ("fed", f"event:{each.incident_id}") for each in fed
    }


async def test_the_relay_of_events_is_told_of_them_and_of_no_other_tenants(desk: Desk) -> None:
    events, messages = Relay(), Relay()
    effects = replace(desk.effects, events=events, follower_messages=messages)
    async with desk.db.system() as tx:
        await feeds.open_feeds(tx, ["fed"])
    await apply_events(desk.db, effects, [desk.opening()])
    assert (events.nudges, messages.nudges) == (0, 0)
    await apply_events(desk.db, effects, [desk.opening(org_id="fed")])
    assert (events.nudges, messages.nudges) == (1, 0)


async def test_the_relay_of_messages_is_told_of_what_followers_are_to_hear(desk: Desk) -> None:
    events, messages = Relay(), Relay()
    desk.effects = replace(desk.effects, events=events, follower_messages=messages)
    incident = await desk.opens()
    assert messages.nudges == 0, "no user follows it yet"
    async with desk.db.transaction(ORG) as tx:
        await followers.follow(tx, incident, "ben", "")
    await desk.take(incident, Acknowledged("users/ana"))
    assert messages.nudges == 1

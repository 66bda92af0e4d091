"""What one page costs escalation in PostgreSQL: its incident's opening, what notify tells of it, and its answer."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.notify.v1.internal_service_pb2 import CancelNotificationsRequest
from tocsin_escalation.app.incidents.apply_events import Opening, Result, apply_events
from tocsin_escalation.app.incidents.apply_outcomes import OutcomeArrival, OutcomeResult, apply_outcomes
from tocsin_escalation.app.incidents.command import Commands, IdempotentCall
from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.domain.escalation import Escalation, State
from tocsin_escalation.domain.events import Acknowledged, OutcomeKind, PageOutcome
from tocsin_escalation.store.incidents import escalations
from tocsin_kit.auth import INTERNAL, Principal
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.beside import told_beside
from tocsin_kit.rpc.call import Call, enter

from tests.store.escalation.merges import Ingest
from tests.store.escalation.recorders import ORG, Desk, Notify, Relay
from tests.store.round_trips import recorded


async def test_the_round_trips_of_an_incident_that_is_opened_and_paged(desk: Desk) -> None:
    with recorded(desk.url) as trips:
        assert await apply_events(desk.db, desk.effects, [desk.opening()]) == [Result.APPLIED]
    [opened] = trips.writing({"escalations"})
    # Which incidents are known and what time it is, the policies, the people; then all that follows from it at once.
    assert opened == ["BEGIN", "SELECT", "SELECT", "WITH", "timers+outbox+timeline+escalations", "COMMIT"]
    assert len(trips.transactions) == 1, trips.transactions


async def test_the_round_trips_of_a_page_that_was_sent(desk: Desk) -> None:
    incident = await desk.opens()
    [page] = (await desk.run(incident)).pages
    sent = PageOutcome(page, "ana", OutcomeKind.SENT, level=1, channel="webhook", attempts=1)
    with recorded(desk.url) as trips:
        assert await apply_outcomes(desk.db, desk.effects, [OutcomeArrival(ORG, incident, sent)]) == [
            OutcomeResult.APPLIED
        ]
    [told] = trips.writing({"escalations"})
    # The incident is locked and what its pages need is read, and the timeline is asked what it holds.
    assert told == ["BEGIN", "SELECT", "SELECT", "escalations+timeline", "COMMIT"]
    assert len(trips.transactions) == 1, trips.transactions


async def test_the_round_trips_of_an_acknowledge(desk: Desk) -> None:
    """And who does not work: the relay would deliver the same cancellation a second time at the same moment."""
    incident, notify, relay = await desk.opens(), Notify(), Relay()
    commands = Commands(desk.db, replace(desk.effects, relay=relay), notify, Ingest())
    request = pb.AcknowledgeIncidentRequest(request_id=str(uuid4()), name=f"incidents/{incident}")
    step, response = Step(incident, Acknowledged("users/ana")), pb.AcknowledgeIncidentResponse
    with recorded() as trips:
        await commands.one(IdempotentCall(ORG, "Ack", request, response), step, lambda done: response())
        assert len(trips.transactions) == 1, "the person is answered before the row is deleted"
        await commands.close()
    # Whether the request came before is asked with BEGIN. The incident, locked and then read; all that follows from it at once.
    written = "requests+escalations+timers+outbox+timeline"
    acknowledged = ["BEGIN", "SELECT", "SELECT", written, "COMMIT"]
    assert trips.writing({"escalations", "outbox"}) == [acknowledged, ["outbox"]]
    assert [(each.incident, each.generation) for each in notify.cancelled] == [(f"incidents/{incident}", 1)]
    assert relay.nudges == 0


async def test_notify_gets_what_an_answer_stops_beside_it_and_is_not_called_back(desk: Desk) -> None:
    """It stops the pages itself before it tells the person. The relay delivers the cancellation once more."""
    incident, notify = await desk.opens(), Notify()
    commands = Commands(desk.db, desk.effects, notify, Ingest())
    request = pb.AcknowledgeIncidentRequest(request_id=str(uuid4()), name=f"incidents/{incident}")
    step, response = Step(incident, Acknowledged("users/ana")), pb.AcknowledgeIncidentResponse
    call = Call("Ack", Principal(ORG, "users/ana", frozenset({INTERNAL})), "", None)

    async def acknowledge() -> None:
        enter(call)
        await commands.one(IdempotentCall(ORG, "Ack", request, response), step, lambda done: response())
        await commands.close()

    await asyncio.create_task(acknowledge())
    told = told_beside(call.beside, CancelNotificationsRequest)
    assert told is not None
    assert [(each.incident, each.generation) for each in told.cancellations] == [(f"incidents/{incident}", 1)]
    assert notify.cancelled == []
    async with desk.db.transaction(ORG) as tx:
        assert await tx.fetchval("SELECT count(*) FROM outbox WHERE kind = 'cancel'") == 1


async def test_an_acknowledge_that_notify_does_not_confirm_is_left_to_the_relay(desk: Desk) -> None:
    incident, notify, relay = await desk.opens(), Notify(), Relay()
    notify.away = TocsinError(reasons.ERROR_REASON_SERVICE_UNAVAILABLE, "no answer")
    commands = Commands(desk.db, replace(desk.effects, relay=relay), notify, Ingest())
    request, step = (
        pb.AcknowledgeIncidentRequest(name=f"incidents/{incident}"),
        Step(incident, Acknowledged("users/ana")),
    )
    with pytest.raises(TocsinError):
        await commands.one(IdempotentCall(ORG, "Ack", request, type(request)), step, lambda done: request)
    await commands.close()
    assert relay.nudges == 1
    async with desk.db.transaction(ORG) as tx:
        [(due,)] = await tx.fetch(
            "SELECT due_time <= app_now() + interval '1 second' FROM outbox WHERE kind = 'cancel'"
        )
    assert due


async def test_an_incident_that_another_replica_opens_in_this_moment_is_paged_by_that_one_alone(desk: Desk) -> None:
    """Its row cannot be seen when the second replica begins, and is there when that one writes."""
    twin, other = desk.opening(), desk.opening()
    assert isinstance(twin.event, Opening)
    as_the_first_left_it = Escalation(ORG, twin.incident_id, twin.event.facts, State.EXHAUSTED, last_sequence=1)
    async with desk.db.system() as tx:
        await escalations.insert(tx, [as_the_first_left_it])
        second = asyncio.create_task(apply_events(desk.db, desk.effects, [twin, other]))
        async with asyncio.timeout(30):
            while not await _waits(desk):
                await asyncio.sleep(0.01)
    assert await second == [Result.DUPLICATE, Result.APPLIED]
    assert (await desk.paged(twin.incident_id), await desk.paged(other.incident_id)) == ([], [(1, "ana")])
    assert await desk.said(twin.incident_id) == []


async def _waits(desk: Desk) -> bool:
    async with desk.db.system() as tx:
        return bool(await tx.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"))

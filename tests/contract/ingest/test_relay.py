"""Events on their way to escalation: order, folding, refusals, outages; resolving for a person."""

import asyncio
import time
import uuid

import grpc
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_RESOLVED, AlertOutcome
from tocsin.ingest.v1.alert_service_pb2 import GetAlertRequest, SendAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import RoutingRule
from tocsin.ingest.v1.internal_service_pb2 import ResolveIncidentsRequest
from tocsin_kit.errors import from_rpc_error
from tocsin_stack.ports import free_port
from tocsin_testkit.busy import within

from tests.store.ingest.support import (
    FakeEscalation,
    Ingest,
    bearer,
    internal,
    key,
    new_org,
    peer,
    resolve,
    running,
    trigger,
    until,
)


async def taken(ingest: Ingest, count: int, secret: str) -> set[AlertOutcome.ValueType]:
    """What was answered in the end. The same request again, as a sender does, while a busy machine refuses some of it."""
    batch = SendAlertsRequest(alerts=[trigger("storm", request_id=str(uuid.uuid4())) for _ in range(count)])
    async with asyncio.timeout(within(60)):
        while True:
            response = await ingest.alerts.SendAlerts(batch, metadata=key(secret))
            if not any(each.HasField("error") for each in response.results):
                return {each.response.outcome for each in response.results}


async def test_a_storm_is_one_incident_with_the_right_count_and_few_events(
    database_url: str, escalation: FakeEscalation
) -> None:
    async with running(database_url, escalation.target, rate_burst=20_000) as ingest:
        org = new_org()
        _, secret = await ingest.integration(org)
        first = await ingest.alerts.SendAlert(trigger("storm"), metadata=key(secret))
        began = time.monotonic()
        for _ in range(10):
            assert await taken(ingest, 1000, secret) == {AlertOutcome.ALERT_OUTCOME_DEDUPLICATED}
        read = await ingest.alerts.GetAlert(GetAlertRequest(name=first.alert), metadata=bearer(org))
        assert read.alert.count == 10_001
        over = await ingest.alerts.SendAlert(resolve("storm"), metadata=key(secret))
        assert over.incident_resolved
        # The resolve takes the waiting count along instead of standing behind its second.
        await until(lambda: escalation.kinds(first.incident)[-1:] == ["resolved"])
        events = escalation.events[first.incident]
        # The count is told about once a second, however many alerts came in it.
        assert len(events) <= 8 + (time.monotonic() - began)
        assert events[-2].alerts_added.alert_count == 10_001
        assert all(each.event_id and each.HasField("create_time") for each in events)


async def test_an_outage_loses_nothing_and_keeps_order(database_url: str) -> None:
    async with peer() as flaky:
        flaky.unavailable = True
        async with running(database_url, flaky.target) as ingest:
            org = bearer(new_org())
            incidents = []
            for number in range(5):
                opened = await ingest.alerts.SendAlert(trigger(f"k{number}"), metadata=org)
                await ingest.alerts.SendAlert(trigger(f"k{number}"), metadata=org)
                await ingest.alerts.SendAlert(resolve(f"k{number}"), metadata=org)
                incidents.append(opened.incident)
            await until(lambda: flaky.calls >= 2)
            flaky.unavailable = False
            await until(lambda: all("resolved" in flaky.kinds(each) for each in incidents))
            for each in incidents:
                assert flaky.kinds(each) == ["opened", "alerts_added", "resolved"]


async def test_what_waited_goes_within_a_second_of_the_peers_return(database_url: str) -> None:
    """The floor is an alert's road with the peer there, in the same run."""
    first = FakeEscalation()
    # Not one of those that the kernel assigns: no other process may get it while the peer is away.
    port = free_port()
    await first.start(port)
    async with running(database_url, first.target) as ingest:
        org = bearer(new_org())
        began = time.monotonic()
        opened = await ingest.alerts.SendAlert(trigger("warm"), metadata=org)
        await until(lambda: first.kinds(opened.incident))
        floor = time.monotonic() - began
        await first.stop()
        waiting: list[str] = []
        # The outage lasts: what used to grow with it was the pause of each row that had been tried in vain.
        while time.monotonic() - began < 3.0:
            sent = await ingest.alerts.SendAlert(trigger(f"k{len(waiting)}"), metadata=org)
            waiting.append(sent.incident)
            await asyncio.sleep(0.05)
        async with ingest.database.system() as tx:
            [row] = await tx.fetch("SELECT count(*), max(due_time - app_now()) < interval '1 s' AS soon FROM outbox")
        assert (row["count"], row["soon"]) == (len(waiting), True)
        again = FakeEscalation()
        await again.start(port)
        back = time.monotonic()
        await until(lambda: all(again.kinds(each) == ["opened"] for each in waiting))
        assert time.monotonic() - back < within(1.0) + 5 * floor
        await again.stop()


async def test_an_event_escalation_refuses_dies_alone_and_is_kept(database_url: str) -> None:
    async with peer() as picky:
        picky.refuse = lambda event: event.opened.title == "refused"
        async with running(database_url, picky.target) as ingest:
            org = new_org()
            requests = [trigger(f"k{number}", summary="refused" if number == 3 else "good") for number in range(8)]
            sent = await ingest.alerts.SendAlerts(SendAlertsRequest(alerts=requests), metadata=bearer(org))
            good = [each.response.incident for index, each in enumerate(sent.results) if index != 3]
            await until(lambda: all(picky.kinds(each) == ["opened"] for each in good))

            async def dead() -> list[str]:
                async with ingest.database.transaction(org) as tx:
                    rows = await tx.fetch("SELECT last_error FROM outbox WHERE dead_time IS NOT NULL")
                return [row["last_error"] for row in rows]

            await until(dead, 30.0)
            assert len(await dead()) == 1


async def test_a_person_resolves_incidents_through_ingest(ingest: Ingest, escalation: FakeEscalation) -> None:
    org = new_org()
    _, secret = await ingest.integration(org, rules=[RoutingRule(group_by=["x"])])
    one = await ingest.alerts.SendAlert(trigger("a"), metadata=key(secret))
    await ingest.alerts.SendAlert(trigger("b"), metadata=key(secret))
    other = await ingest.alerts.SendAlert(trigger("c"), metadata=bearer(org))
    await ingest.alerts.SendAlert(resolve("c"), metadata=bearer(org))
    unknown = f"incidents/{uuid.uuid4()}"
    request = ResolveIncidentsRequest(org_id=org, actor="users/ana", incidents=[other.incident, one.incident, unknown])
    first = await ingest.internal.ResolveIncidents(request, metadata=internal())
    assert [(each.found, each.already_resolved, each.incident) for each in first.results] == [
        (True, True, other.incident),
        (True, False, one.incident),
        (False, False, unknown),
    ]
    again = await ingest.internal.ResolveIncidents(request, metadata=internal())
    assert [each.already_resolved for each in again.results] == [True, True, False]
    assert again.results[1].sequence == first.results[1].sequence > 0
    await until(lambda: escalation.kinds(one.incident)[-1:] == ["resolved"])
    event = escalation.events[one.incident][-1]
    assert (event.sequence, event.resolved.actor) == (first.results[1].sequence, "users/ana")
    read = await ingest.alerts.GetAlert(GetAlertRequest(name=one.alert), metadata=bearer(org))
    assert read.alert.state == ALERT_STATE_RESOLVED
    # The key is free again: what fires now is a new incident.
    new = await ingest.alerts.SendAlert(trigger("a"), metadata=key(secret))
    assert new.outcome == AlertOutcome.ALERT_OUTCOME_OPENED


async def test_only_tocsins_own_services_resolve_for_others(ingest: Ingest) -> None:
    org = new_org()
    opened = await ingest.alerts.SendAlert(trigger("a"), metadata=bearer(org))

    async def reason(request: ResolveIncidentsRequest, metadata: tuple[tuple[str, str], ...]) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ingest.internal.ResolveIncidents(request, metadata=metadata)
        return from_rpc_error(caught.value).reason_name

    request = ResolveIncidentsRequest(org_id=org, actor="users/a", incidents=[opened.incident])
    assert await reason(request, bearer(org)) == "SCOPE_MISSING"
    bad = ResolveIncidentsRequest(org_id=org, actor="users/a", incidents=["incidents/x"])
    assert await reason(bad, internal()) == ErrorReason.Name(ErrorReason.ERROR_REASON_INVALID_FIELD)[13:]
    other = ResolveIncidentsRequest(org_id=new_org(), actor="users/a", incidents=[opened.incident])
    answer = await ingest.internal.ResolveIncidents(other, metadata=internal())
    assert not answer.results[0].found

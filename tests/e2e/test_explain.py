"""One call says, over all services, why a user was or was not paged; another who would be paged, and when."""

from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import incident_pb2 as ip
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SimulateAlertRequest, SimulateAlertResponse
from tocsin.ingest.v1.integration_service_pb2 import MATCH_OPERATOR_EQUAL as EQUAL
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, RoutingRule
from tocsin_testkit.clients import Clients
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Tenant

from tests.e2e.schedule_calls import now, override


async def explain(tenant: Tenant, incident: str, person: Person | str) -> pb.ExplainPageResponse:
    name = person if isinstance(person, str) else person.name
    request = pb.ExplainPageRequest(incident=incident, user=name)
    return await tenant.admin.incidents.ExplainPage(request)  # type: ignore[no-any-return]


def of(found: pb.ExplainPageResponse, kind: int) -> list[pb.ExplanationStatement]:
    return [statement for statement in found.statements if statement.kind == kind]


async def test_why_was_this_person_paged_and_that_one_not(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    began = await now(tenant)
    schedule = await tenant.schedule("web", ana, start=f"{began - timedelta(days=1):%Y-%m-%dT%H:%M}")
    made = await override(tenant, schedule, began - timedelta(hours=1), began + timedelta(days=2), ben.name)
    policy = await tenant.policy([schedule], [cem], name="web")
    incident = await (await tenant.integration(policy)).triggers("db down")
    await ben.is_paged(incident, level=1)

    paged = await explain(tenant, incident, ben)
    assert paged.deliveries_known
    assert not paged.truncated
    assert paged.verdict in (pb.PAGE_VERDICT_PAGED, pb.PAGE_VERDICT_WAITING), "the provider's yes may be on its way"
    [page] = of(paged, pb.EXPLANATION_KIND_PAGED)
    entries = {entry.name: entry for entry in await tenant.timeline(incident)}
    assert entries[page.evidence[0]].pages == page.evidence[1:]
    [swapped] = of(paged, pb.EXPLANATION_KIND_OVERRIDE)
    assert list(swapped.evidence) == [made.name]
    [notification] = of(paged, pb.EXPLANATION_KIND_NOTIFICATION)
    assert notification.evidence[0].startswith("notifications/")
    assert notification.evidence[1] == page.evidence[1]
    [attempt] = of(paged, pb.EXPLANATION_KIND_ATTEMPT)
    assert attempt.message.startswith("attempt 1 by ")
    assert len(of(paged, pb.EXPLANATION_KIND_CONTACT)) == 1

    other = await explain(tenant, incident, ana)
    assert other.verdict == pb.PAGE_VERDICT_NOT_PAGED
    assert f"schedules/web has {ben.name} on call" in other.summary
    [reason] = of(other, pb.EXPLANATION_KIND_NOT_PAGED)
    assert set(reason.evidence) == {page.evidence[0], schedule}

    later = await explain(tenant, incident, cem)
    assert later.verdict == pb.PAGE_VERDICT_NOT_PAGED
    shown = await tenant.incident(incident)
    assert later.next_page_time == shown.next_step_time

    stranger = await explain(tenant, incident, "users/nobody-of-that-name")
    assert "does not exist" in stranger.summary


async def test_who_would_be_paged_when(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = await now(tenant)
    schedule = await tenant.schedule("web", ana, start=f"{began + timedelta(days=1):%Y-%m-%dT%H:%M}")
    policy = await tenant.policy([schedule], [ben], minutes=10, name="web")
    start = Timestamp()
    start.FromDatetime(began + timedelta(days=2))
    request = pb.SimulateIncidentRequest(policy=policy, start_time=start)
    tomorrow = await tenant.admin.incidents.SimulateIncident(request)
    assert [(each.kind, list(each.paged_users)) for each in tomorrow.steps] == [
        (ip.TIMELINE_KIND_OPENED, []),
        (ip.TIMELINE_KIND_LEVEL_PAGED, [ana.name]),
        (ip.TIMELINE_KIND_LEVEL_PAGED, [ben.name]),
        (ip.TIMELINE_KIND_EXHAUSTED, []),
    ]
    assert [each.time.seconds - start.seconds for each in tomorrow.steps] == [0, 0, 600, 1200]
    assert (tomorrow.end_state, tomorrow.reachability_known) == (ip.INCIDENT_STATE_EXHAUSTED, True)
    today = await tenant.admin.incidents.SimulateIncident(pb.SimulateIncidentRequest(policy=policy))
    assert [each.kind for each in today.steps][:3] == [
        ip.TIMELINE_KIND_OPENED,
        ip.TIMELINE_KIND_LEVEL_SKIPPED,
        ip.TIMELINE_KIND_LEVEL_PAGED,
    ]
    counted = await tenant.admin.incidents.CountIncidents(pb.CountIncidentsRequest())
    assert counted.total == 0, "nothing is stored"

    incident = await (await tenant.integration(policy)).triggers("db down")
    await ben.is_paged(incident, level=2)
    going_on = await tenant.admin.incidents.SimulateIncident(pb.SimulateIncidentRequest(incident=incident))
    assert [each.kind for each in going_on.steps] == [ip.TIMELINE_KIND_EXHAUSTED]
    assert going_on.steps[0].time == (await tenant.incident(incident)).next_step_time


async def test_from_the_labels_of_an_alert_to_the_dated_plan_of_pages_in_one_call(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = await now(tenant)
    schedule = await tenant.schedule("web", ana, start=f"{began + timedelta(days=1):%Y-%m-%dT%H:%M}")
    calm = await tenant.policy([ben], minutes=10, name="calm")
    web = await tenant.policy([schedule], [ben], minutes=10, name="web")
    of_db = [LabelMatcher(label="service", operator=EQUAL, value="db")]
    slow = [LabelMatcher(label="service", operator=EQUAL, value="slow")]
    rules = [
        RoutingRule(matchers=of_db, policy=web),
        RoutingRule(matchers=slow, policy=web, pause=Duration(seconds=300)),
    ]
    sender = await tenant.integration(calm, routing_rules=rules)

    async def simulate(service: str, days: int = 0, dedup_key: str = "new") -> SimulateAlertResponse:
        alert = AlertInput(summary="it broke", labels={"service": service}, dedup_key=dedup_key)
        request = SimulateAlertRequest(integration=sender.name, alert=alert, simulate_pages=True)
        if days:
            request.time.FromDatetime(began + timedelta(days=days))
        return await tenant.admin.alerts.SimulateAlert(request)  # type: ignore[no-any-return]

    def paged(found: SimulateAlertResponse) -> list[tuple[float, list[str]]]:
        """Minutes after the alert, and who."""
        since = found.time.ToDatetime()
        steps = [each for each in found.pages.steps if each.paged_users]
        return [
            (round((each.time.ToDatetime() - since) / timedelta(minutes=1)), list(each.paged_users)) for each in steps
        ]

    tomorrow = await simulate("db", days=2)
    assert paged(tomorrow) == [(0, [ana.name]), (10, [ben.name])]
    assert (tomorrow.pages.end_state, tomorrow.pages.reachability_known) == (ip.INCIDENT_STATE_EXHAUSTED, True)
    assert tomorrow.pages.steps[0].message == "it broke"
    assert tomorrow.explanation[-1].startswith(f"first paged, if nobody answers: {ana.name} at ")
    assert paged(await simulate("db")) == [(0, [ben.name])], "nobody is on call before tomorrow"
    assert paged(await simulate("disk", days=2)) == [(0, [ben.name])]
    assert paged(await simulate("slow", days=2)) == [(5, [ana.name]), (15, [ben.name])], "after its pause"
    with pytest.raises(grpc.aio.AioRpcError, match="time: must be at most 92 days"):
        await simulate("db", days=93)
    counted = await tenant.admin.incidents.CountIncidents(pb.CountIncidentsRequest())
    assert counted.total == 0, "nothing is stored"

    incident = await sender.triggers("it broke", labels={"service": "db"}, dedup_key="db-1")
    await ben.is_paged(incident, level=2)
    again = await simulate("db", dedup_key="db-1")
    assert (again.incident, paged(again)) == (incident, []), "a repeat pages nobody"
    assert again.pages.steps[-1].kind == ip.TIMELINE_KIND_EXHAUSTED
    later = await simulate("db", days=2, dedup_key="db-1")
    assert not later.HasField("pages")
    assert "until then is not simulated" in later.explanation[-1]
    over = AlertInput(dedup_key="db-1", action=ALERT_ACTION_RESOLVE)
    ended = await tenant.admin.alerts.SimulateAlert(SimulateAlertRequest(alert=over, simulate_pages=True))
    assert not ended.HasField("pages"), "of another integration: its key is not firing there"


async def test_who_would_be_paged_is_told_to_those_only_who_may_read_incidents(tenant: Tenant) -> None:
    alert = AlertInput(summary="it broke")
    world = tenant.world
    asks = Clients(world.channels, world.token(tenant.org_id, ["alerts:read"])).alerts.SimulateAlert
    assert not (await asks(SimulateAlertRequest(alert=alert))).HasField("pages")
    with pytest.raises(grpc.aio.AioRpcError, match="incidents:read"):
        await asks(SimulateAlertRequest(alert=alert, simulate_pages=True))

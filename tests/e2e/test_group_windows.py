"""Alerts of one service that come in waves, from the alert to the telephone."""

from google.protobuf.duration_pb2 import Duration
from tocsin.ingest.v1 import alert_pb2, integration_service_pb2
from tocsin_testkit.tenant import Tenant


async def test_what_comes_after_the_window_pages_although_the_incident_before_is_still_open(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    rule = integration_service_pb2.RoutingRule(group_by=["service"], group_window=Duration(seconds=300))
    shop = await tenant.integration(await tenant.policy([ana]), routing_rules=[rule])
    web = {"service": "web"}
    first = await shop.sends("web-1 is slow", dedup_key="web-1", labels=web)
    await ana.is_paged(first.incident)
    await tenant.passes(minutes=3)
    joined = await shop.sends("web-2 is slow", dedup_key="web-2", labels=web)
    assert (joined.outcome, joined.incident) == (alert_pb2.ALERT_OUTCOME_GROUPED, first.incident)

    await tenant.passes(minutes=6)
    repeated = await shop.sends("web-1 is slow", dedup_key="web-1", labels=web)
    assert (repeated.outcome, repeated.incident) == (alert_pb2.ALERT_OUTCOME_DEDUPLICATED, first.incident)
    later = await shop.sends("web-3 is slow", dedup_key="web-3", labels=web)
    assert later.outcome == alert_pb2.ALERT_OUTCOME_OPENED
    assert later.incident != first.incident
    await ana.is_paged(later.incident)
    assert ana.pages(first.incident)[1:] == [], "nobody is paged again for what they know"

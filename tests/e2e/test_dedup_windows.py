"""A sender that never says that something is over, from the alert to the telephone."""

from google.protobuf.duration_pb2 import Duration
from tocsin.ingest.v1 import alert_pb2, integration_service_pb2
from tocsin_testkit.tenant import Tenant


async def test_what_fires_again_after_the_window_pages_anew_and_takes_nothing_from_those_who_are_to_be_paged(
    tenant: Tenant,
) -> None:
    ana, ben = await tenant.people("ana", "ben")
    rule = integration_service_pb2.RoutingRule(dedup_window=Duration(seconds=300))
    mails = await tenant.integration(await tenant.policy([ana], [ben], minutes=8), routing_rules=[rule])
    first = await mails.sends("the backup failed", dedup_key="backup")
    await ana.is_paged(first.incident)
    await tenant.passes(minutes=4)
    repeated = await mails.sends("the backup failed", dedup_key="backup")
    assert (repeated.outcome, repeated.incident) == (alert_pb2.ALERT_OUTCOME_DEDUPLICATED, first.incident)

    await tenant.passes(minutes=5)
    await ben.is_paged(first.incident, level=2)
    later = await mails.sends("the backup failed", dedup_key="backup")
    assert later.outcome == alert_pb2.ALERT_OUTCOME_OPENED
    assert later.incident != first.incident
    await ana.is_paged(later.incident)
    assert ana.pages(first.incident)[1:] == [], "nobody is paged again for what they know"
    await ben.acknowledges(first.incident)
    await ana.is_told(first.incident, "acknowledgment")

    over = await mails.resolves("backup")
    assert (over.incident, over.incident_resolved) == (later.incident, True)
    await ana.is_told(later.incident, "resolution")
    noted = [each.message for each in await tenant.timeline(first.incident) if "fired again" in each.message]
    assert [later.incident in each for each in noted] == [True]

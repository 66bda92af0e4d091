"""A maintenance window and a pause, from the alert to the telephone."""

from google.protobuf.duration_pb2 import Duration
from tocsin.ingest.v1 import alert_pb2, alert_service_pb2, integration_service_pb2, silence_service_pb2
from tocsin_testkit.tenant import Tenant


async def test_no_user_is_paged_in_a_maintenance_window_and_for_what_is_left_at_its_end(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    before = await prom.triggers("the cache is slow", dedup_key="cache")
    await ana.is_paged(before)
    database = integration_service_pb2.LabelMatcher(
        label="job", operator=integration_service_pb2.MATCH_OPERATOR_EQUAL, value="db"
    )
    silence = silence_service_pb2.Silence(matchers=[database], reason="the database is upgraded")
    request = silence_service_pb2.CreateSilenceRequest(silence=silence, duration=Duration(seconds=1800))
    await tenant.admin.silences.CreateSilence(request)

    for key in ("db1", "db2"):
        answer = await prom.sends(f"{key} is down", dedup_key=key, labels={"job": "db"})
        assert answer.outcome == alert_pb2.ALERT_OUTCOME_SILENCED
    await prom.resolves("db2")
    await tenant.passes(minutes=29)
    assert ana.pages(before)[1:] == [], "the policy has one level"
    await tenant.passes(minutes=2)
    [incident] = await tenant.incidents_titled("db1 is down")
    await ana.is_paged(incident)


async def test_an_alert_that_is_soon_over_pages_no_user_and_one_that_goes_on_does(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    rule = integration_service_pb2.RoutingRule(pause=Duration(seconds=120))
    links = await tenant.integration(await tenant.policy([ana]), routing_rules=[rule])
    for key in ("link-7", "link-8"):
        answer = await links.sends(f"{key} is down", dedup_key=key)
        assert (answer.outcome, answer.incident) == (alert_pb2.ALERT_OUTCOME_PAUSED, "")
    await links.resolves("link-7")
    request = alert_service_pb2.GetAlertRequest(name=answer.alert)
    alert = (await tenant.admin.alerts.GetAlert(request)).alert
    assert alert.state == alert_pb2.ALERT_STATE_SUPPRESSED
    assert alert.pause_end_time == answer.pause_end_time
    await tenant.passes(seconds=115)
    await links.sends("link-8 is down", dedup_key="link-8")
    await tenant.passes(seconds=6)
    [incident] = await tenant.incidents_titled("link-8 is down")
    await ana.is_paged(incident)
    assert not (await tenant.admin.alerts.GetAlert(request)).alert.HasField("pause_end_time")

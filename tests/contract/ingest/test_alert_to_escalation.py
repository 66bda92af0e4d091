"""An alert's way: SendAlert, PostgreSQL, outbox, escalation."""

from tocsin.ingest.v1.alert_pb2 import AlertOutcome
from tocsin.ingest.v1.alert_service_pb2 import GetAlertRequest

from tests.store.ingest.support import FakeEscalation, Ingest, bearer, key, new_org, resolve, trigger, until


async def test_an_alert_opens_an_incident_and_escalation_hears_of_it(
    ingest: Ingest, escalation: FakeEscalation
) -> None:
    org = new_org()
    _, secret = await ingest.integration(org)
    opened = await ingest.alerts.SendAlert(trigger("disk", source="db1", labels={"team": "db"}), metadata=key(secret))
    assert opened.outcome == AlertOutcome.ALERT_OUTCOME_OPENED
    again = await ingest.alerts.SendAlert(trigger("disk"), metadata=key(secret))
    assert (again.outcome, again.count, again.incident) == (
        AlertOutcome.ALERT_OUTCOME_DEDUPLICATED,
        2,
        opened.incident,
    )
    over = await ingest.alerts.SendAlert(resolve("disk"), metadata=key(secret))
    assert (over.outcome, over.incident_resolved) == (AlertOutcome.ALERT_OUTCOME_RESOLVED, True)
    await until(lambda: "resolved" in escalation.kinds(opened.incident))
    assert escalation.kinds(opened.incident)[0] == "opened"
    assert escalation.events[opened.incident][0].opened.labels == {"team": "db"}
    read = await ingest.alerts.GetAlert(GetAlertRequest(name=opened.alert), metadata=bearer(org))
    assert read.alert.count == 2

"""What ExplainAlert answers."""

from tocsin.ingest.v1.alert_pb2 import Alert
from tocsin.ingest.v1.alert_service_pb2 import ExplainAlertResponse

from tocsin_ingest.app.alerts.explain_alert import explain
from tocsin_ingest.store.alerts.decisions import Decided


def explained_to(alert: Alert, decided: Decided) -> ExplainAlertResponse:
    """The answer."""
    response = ExplainAlertResponse(alert=alert, decisions=decided.decisions)
    if response.decisions and not response.decisions[0].HasField("time"):
        # The first one made the alert.
        response.decisions[0].time.CopyFrom(alert.create_time)
    response.explanation.extend(explain(alert, response.decisions, decided.incident_open))
    return response

"""Rows and errors to messages of the contract."""

from typing import Final

from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from tocsin.ingest.v1.alert_pb2 import Alert, AlertInput, AlertState
from tocsin_kit.errors import to_status
from tocsin_kit.ids import format_name
from tocsin_kit.rpc.failures import masked

from tocsin_ingest.domain import decision
from tocsin_ingest.store.alerts.alerts import AlertRow

STATES: Final = {
    decision.AlertState.FIRING: AlertState.ALERT_STATE_FIRING,
    decision.AlertState.RESOLVED: AlertState.ALERT_STATE_RESOLVED,
    decision.AlertState.SUPPRESSED: AlertState.ALERT_STATE_SUPPRESSED,
}
STATES_BACK: Final = {number: state for state, number in STATES.items()}


def status_of(error: BaseException) -> Status:
    """What a single SendAlert would have failed with."""
    if not isinstance(error, Exception):
        raise error
    return to_status(masked(error))


def alert_of(row: AlertRow) -> Alert:
    """The alert in full."""
    newest = AlertInput.FromString(row.newest)
    alert = Alert(
        name=format_name("alerts", row.id),
        dedup_key=row.dedup_key,
        state=STATES.get(row.state, AlertState.ALERT_STATE_UNSPECIFIED),
        incident=format_name("incidents", row.incident_id) if row.incident_id else "",
        integration=format_name("integrations", row.integration_id) if row.integration_id else "",
        summary=newest.summary,
        source=newest.source,
        severity=row.severity,  # type: ignore[arg-type]
        labels=newest.labels,
        links=newest.links,
        count=row.count,
    )
    if newest.HasField("details"):
        alert.details.CopyFrom(newest.details)
    if newest.HasField("client_time"):
        alert.client_time.CopyFrom(newest.client_time)
    alert.create_time.FromDatetime(row.create_time)
    alert.last_receive_time.FromDatetime(row.last_receive_time)
    if row.silence_id is not None and row.due_time is not None:
        alert.silence = format_name("silences", row.silence_id)
        alert.silence_end_time.FromDatetime(row.due_time)
    if row.pause_time is not None:
        alert.pause_end_time.FromDatetime(row.pause_time)
    if row.threshold_count is not None and row.threshold_lasts is not None:
        alert.threshold.triggers, alert.threshold.count = row.threshold_triggers, row.threshold_count
        alert.threshold.window.FromTimedelta(row.threshold_lasts)
    if row.resolve_time is not None:
        alert.resolve_time.FromDatetime(row.resolve_time)
    return alert

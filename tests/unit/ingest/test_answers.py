"""Answers as bytes: what is put together from pieces is the message that it stands for."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_ingest.app.alerts.answers import counted, decided, joined
from tocsin_ingest.domain.decision import Alert, AlertState, Decision, Outcome
from tocsin_ingest.domain.events import Event, Noted, Resolved
from tocsin_ingest.domain.pauses import Pause

ALERT, INCIDENT = UUID(int=1), UUID(int=2)


@given(
    st.sampled_from(Outcome),
    st.text(min_size=1, max_size=300),
    st.integers(1, 2**63 - 1) | st.sampled_from([1, 127, 128, 2**14 - 1, 2**14]),
)
def test_an_answer_is_read_as_it_was_meant(outcome: Outcome, dedup_key: str, count: int) -> None:
    answer = joined(outcome, dedup_key, ALERT, INCIDENT)
    assert SendAlertResponse.FromString(counted(answer, count)) == SendAlertResponse(
        outcome=outcome,  # type: ignore[arg-type]
        dedup_key=dedup_key,
        alert=f"alerts/{ALERT}",
        incident=f"incidents/{INCIDENT}",
        count=count,
    )


@pytest.mark.parametrize(
    ("event", "resolved"), [(Resolved("users/a"), True), (Noted("users/a", "x"), False), (None, False)]
)
def test_the_answer_tells_whether_the_incident_was_resolved(event: Event | None, resolved: bool) -> None:
    alert = Alert(ALERT, ALERT, AlertState.RESOLVED, INCIDENT, 3)
    answer = SendAlertResponse.FromString(decided("k", Decision(Outcome.RESOLVED, alert, event=event)))
    assert (answer.incident_resolved, answer.incident) == (resolved, f"incidents/{INCIDENT}")


def test_the_answer_tells_what_keeps_an_alert_back_that_has_an_incident() -> None:
    until = datetime(2100, 1, 1, tzinfo=UTC)
    alert = Alert(ALERT, ALERT, AlertState.SUPPRESSED, INCIDENT, 1, pause=Pause(until, None))
    answer = SendAlertResponse.FromString(decided("k", Decision(Outcome.PAUSED, alert)))
    assert answer.pause_end_time.ToDatetime(UTC) == until

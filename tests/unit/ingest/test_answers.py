"""Answers as bytes: what is put together from pieces is the message that it stands for."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_ingest.app.alerts.answers import counted, repeated
from tocsin_ingest.domain.decision import Outcome

ALERT, INCIDENT = UUID(int=1), UUID(int=2)


@given(st.text(max_size=300), st.integers(1, 2**63 - 1) | st.sampled_from([1, 127, 128, 2**14 - 1, 2**14]))
def test_an_answer_to_a_repeat_is_read_as_it_was_meant(dedup_key: str, count: int) -> None:
    assert SendAlertResponse.FromString(counted(repeated(dedup_key, ALERT, INCIDENT), count)) == SendAlertResponse(
        outcome=Outcome.DEDUPLICATED,  # type: ignore[arg-type]
        dedup_key=dedup_key,
        alert=f"alerts/{ALERT}",
        incident=f"incidents/{INCIDENT}",
        count=count,
    )

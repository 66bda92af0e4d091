"""Answers to senders, as the bytes of a `SendAlertResponse`: in a storm only the counts differ."""

from functools import lru_cache
from typing import Final
from uuid import UUID

from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_kit.ids import format_name

from tocsin_ingest.domain.decision import Decision, Outcome
from tocsin_ingest.store.alerts.decisions import progress

_COUNT: Final = SendAlertResponse.DESCRIPTOR.fields_by_name["count"].number << 3
_MORE: Final = 0x80


def decided(dedup_key: str, decision: Decision) -> bytes:
    """The answer to a message, without the count."""
    alert = decision.alert
    if alert is None:
        # An outcome of the domain has the number of the contract's.
        return SendAlertResponse(
            outcome=decision.outcome,  # type: ignore[arg-type]
            dedup_key=dedup_key,
        ).SerializeToString()
    response = SendAlertResponse(
        outcome=decision.outcome,  # type: ignore[arg-type]
        dedup_key=dedup_key,
        incident_resolved=decision.incident_resolved,
        alert=format_name("alerts", alert.id),
        incident="" if alert.incident_id is None else format_name("incidents", alert.incident_id),
    )
    if alert.hold is not None:
        response.silence = format_name("silences", alert.hold.silence_id)
    if alert.pause is not None:
        response.pause_end_time.FromDatetime(alert.pause.until)
    if alert.below is not None:
        response.threshold.CopyFrom(progress(alert.below))
    return response.SerializeToString()


def repeated(dedup_key: str, alert_id: UUID, incident_id: UUID) -> bytes:
    """The answer to one more of an alert that fires, without the count."""
    return SendAlertResponse(
        outcome=Outcome.DEDUPLICATED,  # type: ignore[arg-type]
        dedup_key=dedup_key,
        alert=format_name("alerts", alert_id),
        incident=format_name("incidents", incident_id),
    ).SerializeToString()


def counted(answer: bytes, count: int) -> bytes:
    """An answer with its count: the fields of a message may stand in any order (protobuf, "Encoding")."""
    return answer + _count(count)


@lru_cache(4096)
def _count(count: int) -> bytes:
    """Keys of a storm are repeated equally often."""
    field = bytearray((_COUNT,))
    while count >= _MORE:
        field.append(count & (_MORE - 1) | _MORE)
        count >>= 7
    field.append(count)
    return bytes(field)

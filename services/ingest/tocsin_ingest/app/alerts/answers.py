"""Answers to senders, as the bytes of a `SendAlertResponse`: in a storm only the counts differ."""

from functools import lru_cache
from typing import Final
from uuid import UUID

from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_kit.ids import format_name
from tocsin_kit.rpc.raw_fields import length_delimited

from tocsin_ingest.domain.decision import Decision, Outcome
from tocsin_ingest.store.alerts.decisions import progress

_NUMBERS: Final = {field.name: field.number for field in SendAlertResponse.DESCRIPTOR.fields}
_COUNT: Final = _NUMBERS["count"] << 3
_DEDUP_KEY: Final = _NUMBERS["dedup_key"]
_UUID_BYTES: Final = 36


def _named(field: str, collection: str) -> bytes:
    """The field with a name of the collection, whose id is to be filled in."""
    return length_delimited(_NUMBERS[field], f"{collection}/{'x' * _UUID_BYTES}".encode()).replace(
        b"x" * _UUID_BYTES, b"%b"
    )


_ALERT: Final = _named("alert", "alerts")
_INCIDENT: Final = _named("incident", "incidents")
_OUTCOMES: Final = {
    outcome: SendAlertResponse(outcome=outcome).SerializeToString()  # type: ignore[arg-type]
    for outcome in Outcome
}
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
    kept = alert.hold or alert.pause or alert.below
    if alert.incident_id is not None and kept is None and not decision.incident_resolved:
        return joined(decision.outcome, dedup_key, alert.id, alert.incident_id)
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


def joined(outcome: Outcome, dedup_key: str, alert_id: UUID, incident_id: UUID) -> bytes:
    """The answer about an alert of an open incident that nothing keeps back, without the count.

    It is put together from its fields: making the message takes twice as long, and nearly all answers of a storm are such.
    """
    names = _ALERT % str(alert_id).encode() + _INCIDENT % str(incident_id).encode()
    return names + _OUTCOMES[outcome] + length_delimited(_DEDUP_KEY, dedup_key.encode())


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

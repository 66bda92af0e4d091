"""The maximum size of an alert, chosen so that every later step can carry it.

An alert becomes an outbox row, a message to escalation, a page and a message to people. Each carries parts of it, and each can
hold LIMIT bytes and the additions of that step (half of the smallest GRPC_MAX_MESSAGE_BYTES that can be set).
"""

from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin_kit.errors import FieldViolation, TocsinError

from tocsin_ingest.domain.fingerprint import fingerprint

LIMIT: Final = 128 << 10
"""Bytes, serialized; the contract says so."""
_SHORT: Final = 48
"""Characters that a label's value keeps when it has to be shortened."""
_CUT: Final = "…"
_NOTE: Final = "left_out"


def check_size(alert: AlertInput) -> None:
    """Raises ALERT_TOO_LARGE."""
    check_bytes(alert.ByteSize())


def check_bytes(size: int) -> None:
    """The same for an alert of so many bytes."""
    if size > LIMIT:
        rule = f"must be at most {LIMIT} bytes in all, has {size}; send fewer or shorter labels, links or details"
        raise TocsinError(
            ErrorReason.ERROR_REASON_ALERT_TOO_LARGE,
            f"alert: {rule}",
            metadata={"limit_bytes": str(LIMIT), "size_bytes": str(size)},
            fields=(FieldViolation("alert", rule),),
        )


def shorten(alert: AlertInput) -> None:
    """Makes a larger alert fit, for senders that would lose it: its details list the parts that were left out.

    First the details are dropped, then the links, then the longest labels are shortened. The identity of the alert is decided by
    what was sent: an alert without a key gets the key of its whole labels.
    """
    size = alert.ByteSize()
    if size <= LIMIT:
        return
    if not alert.dedup_key:
        alert.dedup_key = fingerprint(dict(alert.labels), alert.source, alert.summary)
    left_out = []
    if alert.HasField("details"):
        left_out.append("details")
        alert.ClearField("details")
    _note(alert, size, left_out)
    if alert.ByteSize() > LIMIT and alert.links:
        left_out.append(f"{len(alert.links)} links")
        alert.ClearField("links")
    shortened = 0
    for name in sorted(alert.labels, key=lambda name: len(alert.labels[name]), reverse=True):
        if alert.ByteSize() <= LIMIT:
            break
        if len(alert.labels[name]) > _SHORT:
            alert.labels[name] = alert.labels[name][: _SHORT - 1] + _CUT
            shortened += 1
    if shortened:
        left_out.append(f"the ends of {shortened} labels")
    _note(alert, size, left_out)


def _note(alert: AlertInput, size: int, left_out: list[str]) -> None:
    parts = ", ".join(left_out) or "nothing yet"
    alert.details.update({_NOTE: f"the alert had {size} bytes, at most {LIMIT} are kept; left out: {parts}"})

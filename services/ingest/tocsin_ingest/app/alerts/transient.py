"""Which refused alerts can be accepted later."""

from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError
from tocsin_kit.http import http_status

from tocsin_ingest.app.alerts.intake_times import THROTTLED

_SERVER_ERROR: Final = 500
_TRANSIENT: Final = (*THROTTLED, ErrorReason.ERROR_REASON_CONFLICT)


def is_transient(error: TocsinError) -> bool:
    """Whether the same alert can be accepted later."""
    return error.reason in _TRANSIENT or http_status(error) >= _SERVER_ERROR

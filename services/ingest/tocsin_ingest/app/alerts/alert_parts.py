"""An alert in two parts: its core, which decides its effect, and its words, which are only shown.

A storm repeats alerts with another value in their words. Such an alert has the core of one that was read before, so only its
words are read, and the request id, which differs each time. Each field is in one of the parts, and each part keeps the rules of
its fields (`buf.validate`). One of the rules for the whole alert is about the words: code that reads only them must check that
the summary does not become empty.

The summary is part of the decision where a routing rule or a silence matches it, or the key is a hash of it: there it must be the
same.
"""

from typing import Any, Final

from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.raw_fields import partial_type
from tocsin_kit.rpc.validation import is_valid, validate

from tocsin_ingest.app.alerts.details import FEW, check_details

WORDS: Final = ("summary", "details", "client_time")

_NAMES: Final = frozenset(field.name for field in AlertInput.DESCRIPTOR.fields)
_WordsOnly: Final[Any] = partial_type(
    *(SendAlertRequest.DESCRIPTOR, "words", ["request_id", "alert"]),
    {"alert": partial_type(AlertInput.DESCRIPTOR, "words", WORDS)},
)
_CoreOnly: Final[Any] = partial_type(
    *(SendAlertRequest.DESCRIPTOR, "core", ["integration", "alert"]),
    {"alert": partial_type(AlertInput.DESCRIPTOR, "core", _NAMES.difference(WORDS), closed=True)},
    closed=True,
)


def core_of(request: bytes) -> bytes:
    """The core of the alert in a SendAlertRequest: two alerts with the same core differ only in their words. Raises DecodeError.

    Lists and maps are in the order in which they were sent.
    """
    core = _CoreOnly.FromString(request)
    # The words are among what is unknown to it.
    core.DiscardUnknownFields()
    data: bytes = core.SerializeToString()
    return data


def words_of(request: bytes) -> Any:
    """The words: a SendAlertRequest with the request id and an alert of nothing else, not validated. Raises DecodeError."""
    return _WordsOnly.FromString(request)


def serialized_words(words: Any) -> bytes | None:
    """The alert with the words as it is stored, serialized; text that cannot be stored is repaired in `words`. None: they break a
    rule."""
    words.DiscardUnknownFields()
    alert = words.alert
    data: bytes = alert.SerializeToString()
    if not words.request_id and len(data) <= FEW and is_valid(alert, data):
        return data
    try:
        validate(words)
        check_details(alert.details)
    except TocsinError:
        # The error is written where the whole alert is read.
        return None
    mended: bytes = alert.SerializeToString()
    return mended


def without_words(content: bytes) -> bytes:
    """A serialized AlertInput without its words: followed by the words of another one, it is that other alert."""
    alert = AlertInput.FromString(content)
    for name in WORDS:
        alert.ClearField(name)
    return alert.SerializeToString()

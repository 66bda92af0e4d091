"""What a format is made of, and the parts most of them share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_kit.errors import TocsinError
from tocsin_kit.http import HTTP_STATUS, error_response

Json = Mapping[str, Any]
Answer = SendAlertResponse | TocsinError

_PERMANENT = 500
_TRANSIENT = (
    ErrorReason.ERROR_REASON_RATE_LIMITED,
    ErrorReason.ERROR_REASON_OVERLOADED,
    ErrorReason.ERROR_REASON_CONFLICT,
)


@dataclass(frozen=True, slots=True)
class Item:
    """One alert of a payload, or why it is none. `place` tells the sender which one: `alerts[3]`."""

    place: str
    alert: AlertInput | TocsinError


@dataclass(frozen=True, slots=True)
class Payload:
    """What a body says. `notes` go into the answer as they are."""

    items: Sequence[Item]
    notes: Mapping[str, Any] = field(default_factory=dict)


def header_or_path_key(request: web.Request, _body: Json) -> str:
    """The integration key in `Authorization: Bearer …` or in the path; empty when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.match_info.get("key", "")


def answer_each(payload: Payload, answers: Sequence[Answer]) -> web.Response:
    """200 once all are committed. Otherwise the rest is committed all the same, and the answer says which are not.

    503 when a repeat can help, which makes senders repeat; they may repeat everything, as what is committed is only
    counted once more. 400 when it cannot.
    """
    failed = [
        (item, answer) for item, answer in zip(payload.items, answers, strict=True) if isinstance(answer, TocsinError)
    ]
    body = {**payload.notes, "accepted": len(answers) - len(failed)}
    if not failed:
        return web.json_response({"status": "success", **body})
    errors = [{"alert": item.place, "reason": error.reason_name, "message": error.message} for item, error in failed]
    body |= {"status": "partial" if len(failed) < len(answers) else "failed", "errors": errors}
    waits = [error.retry_after or 1.0 for _, error in failed if is_transient(error)]
    if waits:
        return web.json_response(body, status=503, headers=retry_after(max(waits)))
    return web.json_response(body, status=400)


def refuse(status: int, error: TocsinError) -> web.Response:
    """The whole request is refused."""
    response = error_response(error)
    response.set_status(status)
    return response


def is_transient(error: TocsinError) -> bool:
    """Whether the same alert can be taken in later."""
    return error.reason in _TRANSIENT or HTTP_STATUS.get(error.code, 500) >= _PERMANENT


def retry_after(seconds: float) -> dict[str, str]:
    """The header; whole seconds, at least one (RFC 9110 §10.2.3)."""
    return {"Retry-After": str(max(1, round(seconds)))}


@dataclass(frozen=True, slots=True)
class Format:
    """One format of one sender. `decode` raises TocsinError for a body that is no such payload."""

    paths: tuple[str, ...]
    decode: Callable[[Json], Payload]
    key: Callable[[web.Request, Json], str] = header_or_path_key
    answer: Callable[[Payload, Sequence[Answer]], web.Response] = answer_each
    refuse: Callable[[int, TocsinError], web.Response] = refuse

"""What became of the alerts of one body, and the answers that most senders understand."""

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiohttp import web
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_kit.errors import TocsinError
from tocsin_kit.http import error_response

from tocsin_ingest.app.alerts.alert_request import AlertRequest
from tocsin_ingest.app.alerts.intake_times import THROTTLED
from tocsin_ingest.app.alerts.transient import is_transient

Answer = bytes | TocsinError
"""The result of one alert: a serialized SendAlertResponse, or the error."""

MAX_ERRORS: Final = 50
"""In one answer; the others are counted."""


@dataclass(slots=True)
class Results:
    """The results of the alerts of one body. `notes` go into the answer as they are."""

    notes: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    """When the work on them began, by the monotonic clock."""
    accepted: int = 0
    first: SendAlertResponse | None = None
    refused: int = 0
    """Refused for good: a repeat would be refused too."""
    delayed: int = 0
    """Not accepted now; a repeat can help."""
    limited: int = 0
    """Of these, those that a limit or a full queue refused."""
    wait: float = 0.0
    """Seconds until a repeat can help."""
    errors: list[tuple[str, TocsinError]] = field(default_factory=list)
    """Place and error of the first `MAX_ERRORS` that were not accepted."""
    refusal: TocsinError | None = None
    """Why the first that was refused for good was refused."""
    sent: AlertRequest | None = None
    """The alert that the whole body is, of formats with `known_by_bytes`, once it is committed."""

    def add(self, place: str, answer: Answer) -> None:
        """One alert's answer. `place` tells the sender which alert: `alerts[3]`."""
        if isinstance(answer, bytes):
            self.accepted += 1
            if self.first is None:
                self.first = SendAlertResponse.FromString(answer)
            return
        if is_transient(answer):
            self.delayed += 1
            self.limited += answer.reason in THROTTLED
            self.wait = max(self.wait, answer.retry_after or 1.0)
        else:
            self.refused += 1
            self.refusal = self.refusal or answer
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((place, answer))


def answer_each(results: Results, *, limited: int = 429) -> web.Response:
    """200 once all are committed. Otherwise the other alerts are still committed, and the answer names those that are not.

    503 when a repeat can help, or `limited` when only limits are the cause; senders may repeat everything, as committed alerts
    are only counted once more. 400 when it cannot.
    """
    body: dict[str, Any] = {**results.notes, "accepted": results.accepted}
    failed = results.refused + results.delayed
    if not failed:
        return web.json_response({"status": "success", **body})
    body |= {
        "status": "partial" if results.accepted else "failed",
        "failed": failed,
        "errors": [
            {"alert": place, "reason": error.reason_name, "message": error.message} for place, error in results.errors
        ],
    }
    if results.delayed:
        status = limited if results.limited == results.delayed else 503
        return web.json_response(body, status=status, headers=retry_after(results.wait))
    return web.json_response(body, status=400)


def refuse(status: int, error: TocsinError, *, limited: int = 429) -> web.Response:
    """The whole request is refused, with the status `limited` if a limit or a full queue is the cause."""
    response = error_response(error)
    response.set_status(limited if error.reason in THROTTLED else status)
    return response


answer_each_or_503: Final = partial(answer_each, limited=503)
"""For formats whose senders repeat what is answered 5xx, and nothing that is answered 4xx."""
refuse_or_503: Final = partial(refuse, limited=503)
"""See `answer_each_or_503`."""


def retry_after(seconds: float) -> dict[str, str]:
    """The header; whole seconds, at least one (RFC 9110 §10.2.3)."""
    return {"Retry-After": str(max(1, round(seconds)))}

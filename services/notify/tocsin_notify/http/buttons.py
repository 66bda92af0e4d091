"""Buttons of messages that answer in place: each has a URL that this service made and signed (`channels.callbacks`).

Only a POST acts, since previews and scanners fetch URLs. The answer is a line of text, which apps show or ignore.
"""

from collections.abc import Iterable
from typing import Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.presses import Answer, Press, Presses
from tocsin_notify.channels.callbacks import BUTTON, CallbackUrls
from tocsin_notify.domain.action import Action
from tocsin_notify.http.attempts import attempt_of

_log = get_logger(__name__)

_DONE: Final = {Action.ACKNOWLEDGE: "Acknowledged.", Action.ESCALATE: "The next level is paged."}
_NOT_DONE: Final = {
    Answer.UNKNOWN: (404, "Nothing was done: the page is no longer known."),
    Answer.STALE: (410, "Nothing was done: the page is too old."),
    Answer.OVER: (409, "Nothing was done: the incident is over."),
    Answer.LAST_LEVEL: (409, "Nothing was done: there is no further level."),
    Answer.LATER: (503, "It is not certain that it was done. Press it again."),
}


class Buttons:
    """The route that phones and providers call when a button is pressed."""

    def __init__(self, callbacks: CallbackUrls, presses: Presses) -> None:
        self._callbacks = callbacks
        self._presses = presses

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        return (web.post(BUTTON, self.press),)

    async def press(self, request: web.Request) -> web.Response:
        """Act as the person whom the message was for. What the body says is not read."""
        names = self._callbacks.read_button(request.query)
        if names is None:
            _log.warning(
                "button_not_ours", path=BUTTON, meaning="somebody made it up, or its key is no longer configured"
            )
            raise TocsinError(ErrorReason.ERROR_REASON_CREDENTIAL_INVALID, "this service has not made this URL")
        action = Action(names["action"])
        press = Press(attempt_of(names), action, names["via"], "button", f"button {action}")
        answer = await self._presses.take(press)
        if answer is Answer.DONE:
            return web.Response(text=_DONE[action])
        status, text = _NOT_DONE[answer]
        return web.Response(status=status, text=text)

"""Buttons that act without opening a page: each has a URL that this service made and signed (`channels.callbacks`).

Only a POST acts, since previews and scanners fetch URLs. The answer is a line of text, which apps show or ignore.
"""

from collections.abc import Iterable
from typing import Final
from uuid import uuid4

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.presses import Answer, Press, Presses
from tocsin_notify.channels.callbacks import BUTTON, CallbackUrls
from tocsin_notify.domain.action import Action
from tocsin_notify.domain.page import Channel
from tocsin_notify.http.attempts import attempt_of

_log = get_logger(__name__)

_STATUS: Final = {
    Answer.DONE: 200,
    Answer.UNKNOWN: 404,
    Answer.STALE: 410,
    Answer.OVER: 409,
    Answer.MERGED: 409,
    Answer.LAST_LEVEL: 409,
    Answer.REFUSED: 400,
    Answer.LATER: 503,
    Answer.SEVERAL: 409,
    Answer.STRANGER: 403,
}
_NAMELESS: Final = frozenset({Channel.NTFY, Channel.WEB_PUSH})


class Buttons:
    """The route that phones and providers call when a button is pressed."""

    def __init__(self, callbacks: CallbackUrls, presses: Presses) -> None:
        self._callbacks = callbacks
        self._presses = presses

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        return (web.post(BUTTON, self.press),)

    async def press(self, request: web.Request) -> web.Response:
        """Act as the person whom the message was for. The body is ignored."""
        names = self._callbacks.read_signed(request.query)
        if names is None or "action" not in names:
            _log.warning(
                "button_not_ours", path=BUTTON, meaning="a caller invented it, or its key is no longer configured"
            )
            raise TocsinError(ErrorReason.ERROR_REASON_CREDENTIAL_INVALID, "this service has not made this URL")
        action = Action(names["action"])
        # ntfy's app and service workers give a press no name. A second acknowledge does nothing; but a press after the
        # acknowledgement has lapsed must not get the answer of the first press. Pushover reports an acknowledgement,
        # and may report it twice.
        again = action is Action.ACKNOWLEDGE and names["via"] in _NAMELESS
        once_each = str(uuid4()) if again else ""
        press = Press(attempt_of(names), action, names["via"], "button", f"button {action}", occurrence=once_each)
        taken = await self._presses.take(press)
        return web.Response(status=_STATUS[taken.answer], text=taken.said(action))

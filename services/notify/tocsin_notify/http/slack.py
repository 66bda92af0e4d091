"""Requests of a Slack app: buttons that were pressed (docs.slack.dev/interactivity/handling-user-interaction).

Each request must be signed with the app's signing secret within the last five minutes; others are refused before they
are read.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.presses import Answer, Presser, Presses, Taken
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.slack import SlackChannel
from tocsin_notify.channels.slack_account import SlackAccount, is_fresh, is_signed
from tocsin_notify.domain.action import Action
from tocsin_notify.domain.attempt import Sent
from tocsin_notify.domain.page import Channel
from tocsin_notify.http.attempts import attempt_of
from tocsin_notify.http.forms import object_of, read_bytes

_log = get_logger(__name__)

PATH: Final = "/v1/slack"
_PREFIX: Final = "tocsin_"
_OPEN: Final = "tocsin_open"
_MOST_BYTES: Final = 262_144
"""An event holds a message of up to 40,000 characters several times. If it were refused, Slack would end the
subscription to all events."""


class SignedBySlack:
    """Reads what the app's signing secret has signed within the last five minutes, and refuses everything else."""

    def __init__(self, account: SlackAccount, now: Callable[[], Awaitable[float]]) -> None:
        """`now`: unix seconds of the database's clock."""
        self._account = account
        self._now = now

    async def read(self, request: web.Request) -> bytes:
        """The body. Raises CREDENTIAL_INVALID."""
        body = await read_bytes(request, _MOST_BYTES)
        stamp = request.headers.get("X-Slack-Request-Timestamp", "")
        given = request.headers.get("X-Slack-Signature", "")
        # The database is asked for the time only after the signature was verified: this path is open to anyone.
        if not is_signed(self._account, stamp, body, given) or not is_fresh(stamp, await self._now()):
            _log.warning(
                "slack_signature_wrong",
                meaning="it is not from Slack, it is older than five minutes, or SLACK_SIGNING_SECRET is wrong",
            )
            raise TocsinError(
                ErrorReason.ERROR_REASON_CREDENTIAL_INVALID, "the app has not signed this request just now"
            )
        return body


class SlackInteractions:
    """The route for the app's interactivity."""

    def __init__(self, signed: SignedBySlack, channel: SlackChannel, callbacks: CallbackUrls, presses: Presses) -> None:
        """`channel` tells people why an action was not done."""
        self._signed = signed
        self._channel = channel
        self._callbacks = callbacks
        self._presses = presses

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        return (web.post(PATH, self.interaction),)

    async def interaction(self, request: web.Request) -> web.Response:
        """Act as the person who pressed, if Slack's member ID is a verified contact method of theirs."""
        payload = _payload(await self._signed.read(request))
        actions, user = payload.get("actions"), payload.get("user")
        if payload.get("type") != "block_actions" or not isinstance(actions, list) or not isinstance(user, dict):
            return web.Response()
        member = str(user.get("id", ""))
        for pressed in actions:
            if isinstance(pressed, dict) and str(pressed.get("action_id", "")).startswith(_PREFIX):
                await self._press(pressed, member, payload)
        return web.Response()

    async def _press(self, pressed: dict[str, Any], member: str, payload: dict[str, Any]) -> None:
        if pressed.get("action_id") == _OPEN:
            return
        value = str(pressed.get("value", ""))
        names = self._callbacks.read_signed(MultiDict(parse_qsl(value, keep_blank_values=True)))
        if names is None:
            action, taken = Action.ACKNOWLEDGE, Taken(Answer.UNKNOWN)
        else:
            action = Action(names["action"])
            by = Presser(Channel.SLACK, member)
            press = by.press(attempt_of(names), action, str(pressed.get("action_ts", "")))
            taken = await self._presses.take(press)
        if taken.answer is Answer.DONE:
            return  # the message itself will show it
        container = payload.get("container")
        where = str(container.get("channel_id", "")) if isinstance(container, dict) else ""
        told = await self._channel.whisper(where, member, taken.said(action))
        if not isinstance(told, Sent):
            _log.warning("slack_answer_not_told", answer=taken.answer.name, reason=told.reason)


def _payload(body: bytes) -> dict[str, Any]:
    try:
        fields = dict(parse_qsl(body.decode("ascii"), max_num_fields=10, errors="strict"))
        return object_of(fields["payload"])
    except (ValueError, KeyError, RecursionError) as error:
        raise invalid("body", "must be a form whose payload is a JSON object") from error

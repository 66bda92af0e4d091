"""Events of channels that Slack sends (docs.slack.dev/apis/events-api): replies in the threads of pages.

Slack sends every message of a channel that the app is in. Events that concern no page are accepted and dropped:
otherwise Slack would send them again, and it ends the subscription of an app that refuses too many.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from tocsin_kit.errors import invalid
from tocsin_kit.logging import get_logger

from tocsin_notify.app.chat.slack_replies import SlackReplies, SlackReply
from tocsin_notify.channels.slack import SlackChannel
from tocsin_notify.channels.slack_text import plain
from tocsin_notify.domain.attempt import Sent
from tocsin_notify.http.forms import object_of
from tocsin_notify.http.slack import SignedBySlack

_log = get_logger(__name__)

PATH: Final = "/v1/slack/events"
_LAST_RETRY: Final = "3"
"""docs.slack.dev/apis/events-api#retries: at once, after a minute and after five."""
_LONGEST_CHALLENGE: Final = 1024
_WRITTEN: Final = (None, "file_share", "thread_broadcast")
"""Subtypes of what a person writes (docs.slack.dev/reference/events/message#subtypes). Edits, deletions and joins have others."""
_EVENT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHANNEL: Final = re.compile(r"[CDG][A-Z0-9]{1,20}")
_MEMBER: Final = re.compile(r"[UW][A-Z0-9]{1,20}")
_STAMP: Final = re.compile(r"[0-9]{1,11}\.[0-9]{1,9}")


class SlackEvents:
    """The route of the app's event subscriptions."""

    def __init__(self, signed: SignedBySlack, channel: SlackChannel, replies: SlackReplies) -> None:
        """`channel` tells people why an action was not done."""
        self._signed = signed
        self._channel = channel
        self._replies = replies

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        return (web.post(PATH, self.event),)

    async def event(self, request: web.Request) -> web.Response:
        """503 if a reply may not have become a note, so that Slack sends it again; after the last time its author is
        told."""
        body = await self._signed.read(request)
        try:
            told = object_of(body)
        except (ValueError, RecursionError) as error:
            raise invalid("body", "must be a JSON object") from error
        if told.get("type") == "url_verification":
            return web.Response(text=str(told.get("challenge", ""))[:_LONGEST_CHALLENGE])
        reply = reply_in(told)
        if reply is None:
            return web.Response()
        heard = await self._replies.take(reply)
        if heard.again and request.headers.get("X-Slack-Retry-Num", "") != _LAST_RETRY:
            return web.Response(status=503)
        if heard.tell:
            outcome = await self._channel.whisper(reply.channel, reply.member, heard.tell, reply.thread)
            if not isinstance(outcome, Sent):
                _log.warning("slack_answer_not_told", event_id=reply.event, reason=outcome.reason)
        return web.Response()


def reply_in(told: dict[str, Any]) -> SlackReply | None:
    """The reply of a person in a thread that the event tells of, if it does."""
    event, time = told.get("event"), told.get("event_time")
    if told.get("type") != "event_callback" or not isinstance(event, dict) or event.get("type") != "message":
        return None
    if event.get("subtype") not in _WRITTEN or event.get("bot_id") or event.get("hidden"):
        return None
    id, channel = _named(_EVENT, told.get("event_id")), _named(_CHANNEL, event.get("channel"))
    member, thread = _named(_MEMBER, event.get("user")), _named(_STAMP, event.get("thread_ts"))
    if not id or not channel or not member or not thread or thread == event.get("ts"):
        return None
    if not isinstance(time, int) or not 0 <= time < 1 << 36:
        return None
    text = event.get("text")
    said = plain(text) if isinstance(text, str) else ""
    return SlackReply(channel, thread, member, said, id, datetime.fromtimestamp(time, UTC))


def _named(form: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and form.fullmatch(value) else ""

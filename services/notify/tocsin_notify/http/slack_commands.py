"""Slack commands (docs.slack.dev/interactivity/implementing-slash-commands): list one's incidents; acknowledge one.

Only the member who typed one sees the answer, which is plain text: nothing of an alert is read as a mention or a link.
"""

import asyncio
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web
from tocsin_kit.errors import invalid

from tocsin_notify.app.answers.presses import Presses
from tocsin_notify.app.chat.slack_commands import SlackCommands
from tocsin_notify.app.chat.slack_replies import SlackReplies
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.slack import SlackChannel
from tocsin_notify.channels.slack_account import SlackAccount
from tocsin_notify.domain.storable import storable
from tocsin_notify.http.slack import SignedBySlack, SlackInteractions
from tocsin_notify.http.slack_events import SlackEvents

PATH: Final = "/v1/slack/command"
_SECONDS: Final = 2.5
"""After three seconds Slack shows an error of its own, and the result is lost."""
_MOST_FIELDS: Final = 50
_LONGEST: Final = 3000
_LATE: Final = "It is not certain that it was done: it takes too long. Send it again."


def slack_routes(
    account: SlackAccount,
    channel: SlackChannel,
    callbacks: CallbackUrls,
    presses: Presses,
    commands: SlackCommands,
    replies: SlackReplies,
) -> Iterable[web.AbstractRouteDef]:
    """Everything that the app may be told of."""
    signed = SignedBySlack(account, presses.now)
    interactions = SlackInteractions(signed, channel, callbacks, presses)
    events = SlackEvents(signed, channel, replies)
    return (*interactions.routes(), *SlackCommandRoute(signed, commands).routes(), *events.routes())


class SlackCommandRoute:
    """The route of the app's command."""

    def __init__(self, signed: SignedBySlack, commands: SlackCommands) -> None:
        self._signed = signed
        self._commands = commands

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        return (web.post(PATH, self.command),)

    async def command(self, request: web.Request) -> web.Response:
        """Answer the member who typed it."""
        body = await self._signed.read(request)
        try:
            read = parse_qsl(body.decode("ascii"), max_num_fields=_MOST_FIELDS, errors="strict")
            fields = {name: storable(value) for name, value in read}
            member, occurrence = fields["user_id"], fields["trigger_id"]
        except (ValueError, KeyError) as error:
            raise invalid("body", "must be a form with user_id and trigger_id") from error
        try:
            async with asyncio.timeout(_SECONDS):
                said = await self._commands.take(member, fields.get("text", ""), occurrence)
        except TimeoutError:
            said = _LATE
        plain = {"type": "plain_text", "text": said[:_LONGEST], "emoji": False}
        return web.json_response({"response_type": "ephemeral", "blocks": [{"type": "section", "text": plain}]})

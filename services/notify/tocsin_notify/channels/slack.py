"""Messages with buttons by an app of Slack, to a channel or a person (docs.slack.dev/reference/methods/chat.postMessage).

Once the incident is answered the message loses its buttons and shows what happened. Slack does not report who has read
it: a press is the only evidence.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import Always, BadAddress, Delivery, Permit, Sequel
from tocsin_notify.channels.brief import brief
from tocsin_notify.channels.callbacks import CallbackUrls, labels_of
from tocsin_notify.channels.channel_type import TITLED, ChannelType
from tocsin_notify.channels.posting import Post, Poster, printable, read_object, retry_after
from tocsin_notify.channels.slack_account import SlackAccount
from tocsin_notify.channels.slack_codes import DONE_BEFORE, refusal
from tocsin_notify.channels.slack_text import literal
from tocsin_notify.channels.text import one_line, subject
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel

_ANSWER_BYTES: Final = 65_536
_ID: Final = re.compile(r"[CGDUW][A-Z0-9]{6,20}")


class SlackChannel:
    """One request for each attempt, and one for what follows it."""

    rings = False

    def __init__(self, account: SlackAccount, callbacks: CallbackUrls, *, timeout: float, concurrency: int) -> None:
        """`timeout`: seconds for the whole attempt. `callbacks` signs the values of buttons."""
        self.concurrency = concurrency
        self._account = account
        self._callbacks = callbacks
        # The operator chose the address, so it may lead anywhere.
        self._poster = Poster(timeout=timeout, allow_private=True)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        if not self._account.token:
            return Permanent("this installation sends nothing by Slack (SLACK_BOT_TOKEN)")
        blocks = _text(subject(delivery), brief(delivery))
        buttons = self._buttons(delivery)
        if buttons:
            blocks.append({"type": "actions", "elements": buttons})
        message = {
            "channel": delivery.target.address,
            "text": literal(subject(delivery)),
            "blocks": blocks,
            "unfurl_links": False,
        }
        return await self._call("chat.postMessage", message, permit, delivery.start_time)

    async def follow(self, sequel: Sequel, permit: Permit) -> Outcome:
        """Replace the buttons by what happened (docs.slack.dev/reference/methods/chat.update)."""
        channel, _, stamp = sequel.provider_id.partition(" ")
        if not self._account.token or not stamp:
            return Sent()
        title = one_line(sequel.job.title)
        message = {
            "channel": channel,
            "ts": stamp,
            "text": literal(f"{title}: {sequel.words}"),
            "blocks": _text(title, sequel.words),
        }
        return await self._call("chat.update", message, permit)

    async def whisper(self, channel: str, user: str, text: str, thread: str = "") -> Outcome:
        """Show a message to one person in a channel, or in a thread of it
        (docs.slack.dev/reference/methods/chat.postEphemeral)."""
        message = {"channel": channel, "user": user, "text": text}
        return await self._call("chat.postEphemeral", message | ({"thread_ts": thread} if thread else {}), Always())

    async def set_group(self, group: str, members: Sequence[str]) -> Outcome:
        """Set the members of a user group, at least one (docs.slack.dev/reference/methods/usergroups.users.update)."""
        return await self._call("usergroups.users.update", {"usergroup": group, "users": ",".join(members)}, Always())

    async def disable_group(self, group: str) -> Outcome:
        """A mention of it reaches no one until it is enabled (docs.slack.dev/reference/methods/usergroups.disable)."""
        return await self._call("usergroups.disable", {"usergroup": group}, Always())

    async def enable_group(self, group: str) -> Outcome:
        """With the members that it had (docs.slack.dev/reference/methods/usergroups.enable)."""
        return await self._call("usergroups.enable", {"usergroup": group}, Always())

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()

    def _buttons(self, delivery: Delivery) -> list[dict[str, Any]]:
        buttons: list[dict[str, Any]] = []
        if self._account.secrets:
            for label, action in labels_of(delivery).items():
                names = self._callbacks.named(delivery, action)
                if names:
                    buttons.append(_button(label, f"tocsin_{action}", value=urlencode(names)))
        if delivery.link:
            buttons.append(_button(delivery.words.button_open, "tocsin_open", url=delivery.link))
        return buttons

    async def _call(
        self, method: str, message: dict[str, Any], permit: Permit, sent_at: datetime | None = None
    ) -> Outcome:
        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            answer = read_object(await beginning(response, _ANSWER_BYTES))
            if answer.get("ok") is True:
                return Sent(printable(f"{answer.get('channel', '')} {answer.get('ts', '')}")[:64])
            word = printable(str(answer.get("error", "")))[:64]
            if word in DONE_BEFORE:
                return Sent()
            if 200 <= response.status < 300 and not word:
                return Retryable(f"{response.status} without a word of Slack's")
            return refusal(word, response.status, retry_after(response, sent_at))

        headers = {"Authorization": f"Bearer {self._account.token}", "Accept": "application/json"}
        url = URL(f"{self._account.base_url}/api/{method}", encoded=True)
        content = json.dumps(message, separators=(",", ":")).encode()
        post = Post(url, content, "application/json; charset=utf-8", headers, says_in_body=True)
        return await self._poster.send(post, permit, judge)


def _text(title: str, words: str) -> list[dict[str, Any]]:
    """Plain text: no part of an alert is read as a mention or a link."""
    return [
        {"type": "section", "text": {"type": "plain_text", "text": title[:3000], "emoji": False}},
        {"type": "context", "elements": [{"type": "plain_text", "text": words[:3000], "emoji": False}]},
    ]


def _button(label: str, action_id: str, **more: str) -> dict[str, Any]:
    return {"type": "button", "text": {"type": "plain_text", "text": label}, "action_id": action_id, **more}


def _check(address: str, allow_private: bool) -> str:
    if not _ID.fullmatch(address):
        raise BadAddress("must be the ID of a channel or a member, such as C0123456789 or U0123456789")
    return address


TYPE: Final = ChannelType(
    Channel.SLACK,
    "Slack",
    lambda settings, callbacks: SlackChannel(
        settings.slack_account, callbacks, timeout=settings.attempt_timeout_seconds, concurrency=settings.concurrency
    ),
    address_field="id",
    parts=TITLED,
    check=_check,
    missing=lambda settings: (
        "" if settings.slack_account.token else "is not possible here: the operator has set no SLACK_BOT_TOKEN"
    ),
)

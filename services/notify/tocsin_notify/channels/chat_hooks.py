"""Messages to chats by an incoming webhook, whose URL is the only credential: Mattermost, Discord, Microsoft Teams.

None of them reports anything back, and none has buttons that act: Mattermost's and Discord's need an app, and Teams' a
bot. So each message has the signed link. It acts as the person whose contact method it is, even if another person opens
it.

Sources: developers.mattermost.com/integrate/webhooks/incoming, discord.com/developers/docs/resources/webhook#execute-webhook,
learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook (Workflows).
"""

import json
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.brief import brief
from tocsin_notify.channels.channel_type import TITLED, ChannelType, mask_url
from tocsin_notify.channels.posting import DETAIL_LIMIT, Post, Poster, may_pass, printable, read_object, retry_after
from tocsin_notify.channels.text import subject
from tocsin_notify.channels.urls import BadUrl, check_url, read_url
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel

_ANSWER_BYTES: Final = 16_384
_UNKNOWN_WEBHOOK: Final = 10015
"""Discord: the webhook was deleted (discord.com/developers/docs/topics/opcodes-and-status-codes#json)."""

Build = Callable[[Delivery], dict[str, Any]]


class ChatHookChannel:
    """One POST for each attempt."""

    def __init__(self, build: Build, *, query: str = "", timeout: float, allow_private: bool, concurrency: int) -> None:
        """`build` makes the JSON; `query` is added to the URL. `timeout`: seconds for the whole attempt."""
        self.concurrency = concurrency
        self._build = build
        self._query = query
        self._allow_private = allow_private
        self._poster = Poster(timeout=timeout, allow_private=allow_private)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        address = delivery.target.secret.decode()
        if self._query:
            address += ("&" if "?" in address else "?") + self._query
        try:
            url = read_url(address, allow_private=self._allow_private)
        except BadUrl as error:
            return Permanent(f"the URL {error}")

        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            text = await beginning(response, _ANSWER_BYTES)
            answer = read_object(text)
            if 200 <= response.status < 300:
                return Sent(printable(str(answer.get("id", "")))[:64])
            said = f"{response.status} {printable(str(answer.get('message') or text))[:DETAIL_LIMIT]}".strip()
            if may_pass(response.status):
                return Retryable(said, _after(response, answer, delivery))
            return Permanent(said, gone=answer.get("code") == _UNKNOWN_WEBHOOK)

        content = json.dumps(self._build(delivery), separators=(",", ":")).encode()
        return await self._poster.send(Post(url, content, "application/json", {}), permit, judge)

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()


def _after(response: aiohttp.ClientResponse, answer: dict[str, Any], delivery: Delivery) -> float | None:
    """Discord gives the exact wait in the body (discord.com/developers/docs/topics/rate-limits)."""
    precise = answer.get("retry_after")
    if isinstance(precise, int | float) and precise >= 0:
        return float(precise)
    return retry_after(response, delivery.start_time)


def mattermost(delivery: Delivery) -> dict[str, Any]:
    """An attachment; its text is Markdown, so the text of an alert is escaped."""
    attachment = {"fallback": subject(delivery), "title": _plain(subject(delivery)), "text": _plain(brief(delivery))}
    return {"attachments": [attachment | ({"title_link": delivery.link} if delivery.link else {})]}


def discord(delivery: Delivery) -> dict[str, Any]:
    """An embed; the text of an alert mentions no user."""
    embed = {"title": subject(delivery)[:256], "description": brief(delivery)}
    return {
        "content": delivery.link,
        "embeds": [embed | ({"url": delivery.link} if delivery.link else {})],
        "allowed_mentions": {"parse": []},
        "username": "Tocsin",
    }


def teams(delivery: Delivery) -> dict[str, Any]:
    """An adaptive card. `Action.OpenUrl` is the only action that a Workflows webhook shows and that works."""
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {
                "type": "TextBlock",
                "text": _plain(subject(delivery)),
                "weight": "bolder",
                "size": "medium",
                "wrap": True,
            },
            {"type": "TextBlock", "text": _plain(brief(delivery)), "wrap": True},
        ],
    }
    if delivery.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": delivery.words.button_answer, "url": delivery.link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


_MARKDOWN: Final = str.maketrans({each: f"\\{each}" for each in "\\`*_{}[]()<>#+-!|~@"})


def _plain(text: str) -> str:
    """No part of it is read as Markdown, a mention or a link."""
    return text.translate(_MARKDOWN)


def _type(channel: Channel, word: str, build: Build, *, query: str = "") -> ChannelType:
    return ChannelType(
        channel,
        word,
        lambda settings, _: ChatHookChannel(
            build,
            query=query,
            timeout=settings.attempt_timeout_seconds,
            allow_private=settings.allow_private_webhooks,
            concurrency=settings.concurrency,
        ),
        address_field="url",
        parts=TITLED,
        check=check_url,
        hosts=True,
        mask=mask_url,
    )


MATTERMOST: Final = _type(Channel.MATTERMOST, "Mattermost", mattermost)
DISCORD: Final = _type(Channel.DISCORD, "Discord", discord, query="wait=true")
TEAMS: Final = _type(Channel.TEAMS, "Microsoft Teams", teams)

"""Push by ntfy, at ntfy.sh or a server of one's own (docs.ntfy.sh/publish).

The notification has buttons that act without opening a page. A topic has no owner: anyone who knows its name can read
it and press buttons, so it should be long and random, or protected by an access token. Only buttons report back: ntfy
does not report that a phone received a message.
"""

import json
import re
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import BadAddress, Delivery, Permit
from tocsin_notify.channels.brief import Loudness, brief, loudness
from tocsin_notify.channels.callbacks import CallbackUrls, labels_of
from tocsin_notify.channels.channel_type import TITLED, ChannelType
from tocsin_notify.channels.posting import DETAIL_LIMIT, Post, Poster, may_pass, printable, read_object, retry_after
from tocsin_notify.channels.text import subject
from tocsin_notify.channels.urls import BadUrl, read_url
from tocsin_notify.domain.attempt import AWAY, Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import WAKING, Channel

_TOPIC: Final = re.compile(r"/[A-Za-z0-9_-]{1,64}")
_ANSWER_BYTES: Final = 16_384
_PRIORITIES: Final = {Loudness.NEWS: 2, Loudness.ASKED_FOR: 3, Loudness.PAGE: 4, Loudness.WAKES: 5}
# docs.ntfy.sh/publish#limitations, and server/errors.go of the server: limits of a whole day. Other limits behind a 429
# pass sooner.
_DAILY_LIMITS: Final = frozenset({42904, 42905, 42908})


class NtfyChannel:
    """One request for each attempt."""

    def __init__(self, callbacks: CallbackUrls, *, timeout: float, allow_private: bool, concurrency: int) -> None:
        """`timeout`: seconds for the whole attempt. `callbacks` gives the URLs of buttons, if there are any."""
        self.concurrency = concurrency
        self._callbacks = callbacks
        self._allow_private = allow_private
        self._poster = Poster(timeout=timeout, allow_private=allow_private)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        try:
            url = read_url(delivery.target.address, allow_private=self._allow_private)
        except BadUrl as error:
            return Permanent(f"the URL {error}")
        headers = {"Accept": "application/json"}
        if delivery.target.secret:
            headers["Authorization"] = f"Bearer {delivery.target.secret.decode()}"
        content = json.dumps(self._message(delivery, url.path[1:]), separators=(",", ":")).encode()

        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            answer = read_object(await beginning(response, _ANSWER_BYTES))
            if 200 <= response.status < 300:
                return Sent(printable(str(answer.get("id", "")))[:64])
            return _refusal(response, answer, delivery)

        return await self._poster.send(
            Post(URL.join(url, URL("/")), content, "application/json", headers), permit, judge
        )

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()

    def _message(self, delivery: Delivery, topic: str) -> dict[str, Any]:
        message: dict[str, Any] = {
            "topic": topic,
            "title": subject(delivery),
            "message": brief(delivery),
            "priority": _PRIORITIES[loudness(delivery)],
        }
        if delivery.link:
            message["click"] = delivery.link
        if delivery.kind in WAKING:
            message["actions"] = self._actions(delivery)
        return message

    def _actions(self, delivery: Delivery) -> list[dict[str, Any]]:
        """At most three (docs.ntfy.sh/publish#action-buttons)."""
        actions: list[dict[str, Any]] = []
        for label, action in labels_of(delivery).items():
            url = self._callbacks.button(delivery, action)
            if url:
                actions.append({"action": "http", "label": label, "url": url, "method": "POST", "clear": True})
        if delivery.link:
            actions.append({"action": "view", "label": delivery.words.button_open, "url": delivery.link})
        return actions


def _refusal(response: aiohttp.ClientResponse, answer: dict[str, Any], delivery: Delivery) -> Outcome:
    status, code = response.status, answer.get("code", 0)
    words = printable(str(answer.get("error", "")))[:DETAIL_LIMIT]
    said = " ".join(filter(None, (str(status), str(code or ""), words)))
    if may_pass(status):
        after = retry_after(response, delivery.start_time)
        return Retryable(said, max(AWAY, after or 0.0) if code in _DAILY_LIMITS else after)
    if status in (401, 403):
        return Permanent(f"{said} (the topic does not take messages with this token)")
    return Permanent(said)


def _check(address: str, allow_private: bool) -> str:
    read_url(address, allow_private=allow_private)
    parts = urlsplit(address)
    if not _TOPIC.fullmatch(parts.path) or parts.query or parts.fragment:
        raise BadAddress("must be a server and a topic of letters, digits, _ and -, such as https://ntfy.sh/my-topic")
    return address


TYPE: Final = ChannelType(
    Channel.NTFY,
    "ntfy",
    lambda settings, callbacks: NtfyChannel(
        callbacks,
        timeout=settings.attempt_timeout_seconds,
        allow_private=settings.allow_private_webhooks,
        concurrency=settings.concurrency,
    ),
    address_field="url",
    parts=TITLED,
    hidden_field="token",
    check=_check,
    hosts=True,
)

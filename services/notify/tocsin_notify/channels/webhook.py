"""Webhooks: one signed POST of JSON.

`Tocsin-Signature: t=<unix seconds>,kid=<key id>,v1=<hex HMAC-SHA256 of "<t>.<body>">` proves who sent it and when;
`Tocsin-Delivery` is the same for every attempt of one notification. A receiver answers 2xx once it has taken it.
"""

import hashlib
import hmac
import json
from datetime import datetime
from typing import Final

import aiohttp

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.channel_type import ChannelType
from tocsin_notify.channels.posting import DETAIL_LIMIT, Post, Poster, may_pass, printable, retry_after
from tocsin_notify.channels.text import payload
from tocsin_notify.channels.urls import BadUrl, check_url, read_url
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel

SIGNATURE_HEADER: Final = "Tocsin-Signature"
DELIVERY_HEADER: Final = "Tocsin-Delivery"
# json.dumps makes an encoder for each call that asks for other separators.
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class WebhookChannel:
    """One POST for each attempt."""

    def __init__(self, *, timeout: float, allow_private: bool, concurrency: int) -> None:
        """`timeout`: seconds for the whole attempt, name resolution included."""
        self.concurrency = concurrency
        self._allow_private = allow_private
        self._poster = Poster(timeout=timeout, allow_private=allow_private)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`. Redirects are not followed: the owner verified this URL and no other."""
        try:
            url = read_url(delivery.target.address, allow_private=self._allow_private)
        except BadUrl as error:
            return Permanent(f"the URL {error}")
        content = _encode(payload(delivery)).encode()
        stamp = int(delivery.start_time.timestamp())
        headers = {
            SIGNATURE_HEADER: sign(delivery.target.secret, delivery.target.key_id, stamp, content),
            DELIVERY_HEADER: delivery.key,
        }

        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            body = printable(await beginning(response))[:DETAIL_LIMIT]
            return classify(response, body, delivery.start_time)

        return await self._poster.send(Post(url, content, "application/json", headers), permit, judge)

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()


def sign(secret: bytes, key_id: str, stamp: int, content: bytes) -> str:
    """The value of `Tocsin-Signature`; `stamp` is in unix seconds."""
    digest = hmac.new(secret, f"{stamp}.".encode() + content, hashlib.sha256).hexdigest()
    return f"t={stamp},kid={key_id},v1={digest}"


def classify(response: aiohttp.ClientResponse, body: str, sent_at: datetime) -> Outcome:
    """What a receiver's answer means."""
    status = response.status
    said = f"{status} {response.reason or ''}".strip() + (f": {body}" if body else "")
    if 200 <= status < 300:
        return Sent(printable(response.headers.get("X-Request-Id", ""))[:128])
    if may_pass(status):
        return Retryable(said, retry_after(response, sent_at))
    if 300 <= status < 400:
        return Permanent(f"{said} (redirects are not followed)")
    return Permanent(said)


TYPE: Final = ChannelType(
    Channel.WEBHOOK,
    "webhook",
    lambda settings, _: WebhookChannel(
        timeout=settings.attempt_timeout_seconds,
        allow_private=settings.allow_private_webhooks,
        concurrency=settings.concurrency,
    ),
    address_field="url",
    hidden_field="secret",
    signs=True,
    check=check_url,
    hosts=True,
)

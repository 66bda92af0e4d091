"""Push to a browser, on a phone or a desk, without an app: the Push API, through the browser maker's push service (RFC 8030).

The message is encrypted for the browser, so the push service cannot read it. The service worker that shows it reports
that it has arrived, and has buttons that act without opening a page (`http.devices`).
"""

import json
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import BadAddress, Delivery, Permit
from tocsin_notify.channels.brief import Loudness, brief, loudness
from tocsin_notify.channels.callbacks import CallbackUrls, labels_of
from tocsin_notify.channels.channel_type import TITLED, ChannelType
from tocsin_notify.channels.posting import DETAIL_LIMIT, Post, Poster, may_pass, printable, retry_after
from tocsin_notify.channels.text import subject
from tocsin_notify.channels.urls import read_url
from tocsin_notify.channels.web_push_sealing import LONGEST, Vapid, encode, read_subscription, seal, write_subscription
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind

_ANSWER_BYTES: Final = 4096
_LONGEST_TITLE: Final = 300
_URGENCIES: Final = {  # RFC 8030 §5.3
    Loudness.NEWS: "low",
    Loudness.ASKED_FOR: "normal",
    Loudness.PAGE: "high",
    Loudness.WAKES: "high",
}
_KEPT_SECONDS: Final = 3600
"""How long the push service keeps a message for a browser that is offline (RFC 8030 §5.2). Later the page is of no use."""
_OVER: Final = frozenset({404, 410})


class WebPushChannel:
    """One request for each attempt."""

    def __init__(
        self, vapid: Vapid, callbacks: CallbackUrls, *, timeout: float, allow_private: bool, concurrency: int
    ) -> None:
        """`timeout`: seconds for the whole attempt. `callbacks` says where buttons and receipts lead, if anywhere."""
        self.concurrency = concurrency
        self._vapid = vapid
        self._callbacks = callbacks
        self._allow_private = allow_private
        self._poster = Poster(timeout=timeout, allow_private=allow_private)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        if not self._vapid.private_key:
            return Permanent("this installation sends nothing by web push (VAPID_PRIVATE_KEY)")
        try:
            subscription = read_subscription(delivery.target.secret.decode())
            url = read_url(subscription.endpoint, allow_private=self._allow_private)
        except BadAddress as error:
            return Permanent(f"the subscription {error}")
        headers = {
            "Authorization": self._vapid.authorization(subscription.endpoint, delivery.start_time),
            "Content-Encoding": "aes128gcm",
            "TTL": str(_KEPT_SECONDS),
            "Urgency": _URGENCIES[loudness(delivery)],
        }

        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            if 200 <= response.status < 300:
                return Sent(printable(response.headers.get("Location", "").rpartition("/")[2])[:64])
            return _refusal(response, await beginning(response, _ANSWER_BYTES), delivery)

        content = seal(self._message(delivery), subscription)
        return await self._poster.send(Post(url, content, "application/octet-stream", headers), permit, judge)

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()

    def _message(self, delivery: Delivery) -> bytes:
        """The message for the service worker; `WEB_PUSH.md` has its contract."""
        message: dict[str, Any] = {
            "title": subject(delivery)[:_LONGEST_TITLE],
            "body": brief(delivery),
            "loudness": loudness(delivery).name.lower(),
            "tag": encode(delivery.notification.bytes),
            "receipt": self._callbacks.receipt(delivery),
            "link": delivery.link,
            "failed": delivery.words.push_failed,
            "buttons": [
                {"label": label, "url": url}
                for label, action in labels_of(delivery).items()
                if (url := self._callbacks.button(delivery, action))
            ],
        }
        if delivery.kind is Kind.VERIFICATION:
            message["code"] = delivery.code
        content = _json(message)
        if (over := len(content) - LONGEST) > 0:
            # What is not ASCII takes more bytes than it has characters, so the text is cut by bytes.
            body = message["body"].encode()
            content = _json(message | {"body": body[: max(0, len(body) - over - 1)].decode(errors="ignore") + "…"})
        return content


def _json(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def _refusal(response: aiohttp.ClientResponse, text: str, delivery: Delivery) -> Outcome:
    """RFC 8030 §7.3, §8.3, §8.4; RFC 8292 §4.2."""
    said = f"{response.status} {printable(text)[:DETAIL_LIMIT]}".strip()
    if may_pass(response.status):
        return Retryable(said, retry_after(response, delivery.start_time))
    if response.status in _OVER:
        return Permanent(f"{said} (the browser is not subscribed any more: subscribe it again)", gone=True)
    if response.status in (401, 403):
        return Permanent(f"{said} (the browser was subscribed with another VAPID key: subscribe it again)")
    return Permanent(said)


def _check(address: str, allow_private: bool) -> str:
    subscription = read_subscription(address)
    try:
        url = read_url(subscription.endpoint, allow_private=allow_private)
    except BadAddress as error:
        raise BadAddress(f"must have an endpoint that {error}") from None
    if url.scheme != "https" and not allow_private:
        raise BadAddress("must have an endpoint with https")
    return write_subscription(subscription)


def _mask(address: str) -> str:
    endpoint = read_subscription(address).endpoint
    return f"https://{urlsplit(endpoint).netloc}/…{endpoint[-4:]}"


TYPE: Final = ChannelType(
    Channel.WEB_PUSH,
    "web push",
    lambda settings, callbacks: WebPushChannel(
        settings.vapid,
        callbacks,
        timeout=settings.attempt_timeout_seconds,
        allow_private=settings.allow_private_webhooks,
        concurrency=settings.concurrency,
    ),
    address_field="subscription",
    personal=True,
    parts=TITLED,
    check=_check,
    hosts=True,
    mask=_mask,
    missing=lambda settings: (
        "" if settings.vapid.private_key else "is not possible here: the operator has set no VAPID_PRIVATE_KEY"
    ),
)

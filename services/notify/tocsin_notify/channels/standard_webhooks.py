"""Requests to subscriptions, signed as the Standard Webhooks specification (standardwebhooks.com, version 1.0) says.

`webhook-signature: v1,<base64 HMAC-SHA256 of "<webhook-id>.<webhook-timestamp>.<body>">`; while a secret is rotated there are
two of them, separated by a space. A secret is `whsec_` and the base64 of its bytes; the bytes are the key.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

import aiohttp
from yarl import URL

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import Always
from tocsin_notify.channels.posting import Post, Poster, printable, retry_after
from tocsin_notify.channels.urls import BadUrl, read_url
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.subscription import EndpointAnswer

ID_HEADER: Final = "webhook-id"
TIME_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
SHOWN_AS: Final = "whsec_"
_SECRET_BYTES: Final = 32
_DETAIL: Final = 300


def new_secret() -> bytes:
    """The key of a new subscription. The specification asks for 24 to 64 bytes."""
    return secrets.token_bytes(_SECRET_BYTES)


def shown(key: bytes) -> str:
    """A key as its owner is told it."""
    return SHOWN_AS + base64.b64encode(key).decode()


def signatures(keys: Sequence[bytes], message_id: str, stamp: int, content: bytes) -> str:
    """The value of `webhook-signature`; `stamp` is in unix seconds."""
    signed = f"{message_id}.{stamp}.".encode() + content
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)


class StandardWebhooks:
    """Sends to endpoints of subscriptions by the client of webhooks: the same addresses are refused, no redirect is followed."""

    def __init__(self, *, timeout: float, allow_private: bool) -> None:
        """`timeout`: seconds for the whole request, name resolution included."""
        self._allow_private = allow_private
        self._poster = Poster(timeout=timeout, allow_private=allow_private)

    async def send(
        self, url: str, keys: Sequence[bytes], message_id: str, stamp: int, content: bytes
    ) -> EndpointAnswer:
        """One request. What goes wrong is an answer; an exception is a defect."""
        status = 0

        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            nonlocal status
            status = response.status
            said = printable(await beginning(response))[:_DETAIL]
            if 200 <= status < 300:
                return Sent(said)
            line = f"{status} {response.reason or ''}".strip()
            return Retryable(f"{line}: {said}" if said else line, retry_after(response))

        try:
            target: URL = read_url(url, allow_private=self._allow_private)
        except BadUrl as error:
            return EndpointAnswer(False, 0, f"the URL {error}")
        headers = {
            ID_HEADER: message_id,
            TIME_HEADER: str(stamp),
            SIGNATURE_HEADER: signatures(keys, message_id, stamp, content),
        }
        outcome = await self._poster.send(Post(target, content, "application/json", headers), Always(), judge)
        match outcome:
            case Sent(provider_id=said):
                return EndpointAnswer(True, status, said)
            case Permanent(reason=reason):
                return EndpointAnswer(False, status, reason)
            case Retryable(reason=reason, after=after):
                return EndpointAnswer(False, status, reason, after)

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()

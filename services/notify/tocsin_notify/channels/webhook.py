"""Webhooks: one signed POST of JSON.

`Tocsin-Signature: t=<unix seconds>,kid=<key id>,v1=<hex HMAC-SHA256 of "<t>.<body>">` proves who sent it and when;
`Tocsin-Delivery` is the same for every attempt of one notification. A receiver answers 2xx once it has taken it.
"""

import hashlib
import hmac
import json
import re
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload
from yarl import URL

from tocsin_notify.channels.addresses import ForbiddenAddress, PublicResolver, is_public, literal
from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.text import payload
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent

SIGNATURE_HEADER: Final = "Tocsin-Signature"
DELIVERY_HEADER: Final = "Tocsin-Delivery"
_RETRYABLE: Final = frozenset({408, 425, 429})
_BODY_LIMIT: Final = 2048
_DETAIL_LIMIT: Final = 300
_DNS_CACHE_SECONDS: Final = 10
_KEEPALIVE_SECONDS: Final = 15
_TEXT: Final = re.compile(r"[^\x20-\x7e]+")


class WebhookChannel:
    """Sends through one keep-alive session."""

    def __init__(self, *, timeout: float, allow_private: bool, concurrency: int, user_agent: str = "Tocsin") -> None:
        """`timeout`: seconds for the whole attempt, name resolution included."""
        self.concurrency = concurrency
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._allow_private = allow_private
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`. Redirects are not followed: the owner verified this URL and no other."""
        url = URL(delivery.target.address)
        address = literal(url.host or "")
        if address is not None and not self._allow_private and not is_public(address):
            return Permanent(f"{url.host} is a private address")
        content = json.dumps(payload(delivery), separators=(",", ":")).encode()
        stamp = int(delivery.start_time.timestamp())
        headers = {
            SIGNATURE_HEADER: sign(delivery.target.secret, delivery.target.key_id, stamp, content),
            DELIVERY_HEADER: delivery.key,
        }
        request = _Request(content, permit)
        connection = _Connection()
        try:
            try:
                return await self._post(url, request, headers, delivery.start_time, connection)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not connection.reused:
                    raise
                # An idle connection that the server closed in this very moment says nothing about the receiver.
                return await self._post(url, request, headers, delivery.start_time, connection)
        except TimeoutError:
            return Retryable(f"no answer within {self._timeout.total:g} s")
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
            return Retryable(f"TLS: {_describe(error)}")
        except aiohttp.InvalidURL:
            return Permanent("not a URL that can be called")
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ForbiddenAddress):  # the resolver said so
                return Permanent(str(error.os_error))
            return Retryable(f"no connection: {_describe(error.os_error)}")
        except (aiohttp.ClientError, OSError) as error:
            return Retryable(f"no answer: {_describe(error)}")

    async def close(self) -> None:
        """Drop idle connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(
        self, url: URL, request: "_Request", headers: dict[str, str], sent_at: datetime, connection: "_Connection"
    ) -> Outcome:
        async with self._open().post(
            url, data=request, headers=headers, allow_redirects=False, trace_request_ctx=connection
        ) as response:
            body = await _beginning(response)
            return classify(response, body, sent_at)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_reuseconn.append(_note_reuse)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the deliverer bounds how many are under way; a call must never queue in here
                    resolver=PublicResolver(allow_private=self._allow_private),
                    ttl_dns_cache=_DNS_CACHE_SECONDS,
                    keepalive_timeout=_KEEPALIVE_SECONDS,
                ),
                timeout=self._timeout,
                headers={"User-Agent": self._user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                trace_configs=[trace],
            )
        return self._session


def sign(secret: bytes, key_id: str, stamp: int, content: bytes) -> str:
    """The value of `Tocsin-Signature`; `stamp` is in unix seconds."""
    digest = hmac.new(secret, f"{stamp}.".encode() + content, hashlib.sha256).hexdigest()
    return f"t={stamp},kid={key_id},v1={digest}"


def classify(response: aiohttp.ClientResponse, body: str, sent_at: datetime) -> Outcome:
    """What a receiver's answer means."""
    status = response.status
    said = f"{status} {response.reason or ''}".strip() + (f": {body}" if body else "")
    if 200 <= status < 300:
        return Sent(_clean(response.headers.get("X-Request-Id", ""))[:128])
    if status in _RETRYABLE or status >= 500:
        return Retryable(said, _retry_after(response, sent_at))
    if 300 <= status < 400:
        return Permanent(f"{said} (redirects are not followed)")
    return Permanent(said)


def _retry_after(response: aiohttp.ClientResponse, sent_at: datetime) -> float | None:
    """Seconds. A date counts from the receiver's own clock if it shows it: clocks differ (RFC 9110 §10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    until = _date(value)
    if until is None:
        return None
    since = _date(response.headers.get("Date", "")) or sent_at
    return max(0.0, (until - since) / timedelta(seconds=1))


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The first words of the answer, for the record; never more than a page of a hostile stream."""
    content = b""
    while len(content) < _BODY_LIMIT and not response.content.at_eof():
        content += await response.content.read(_BODY_LIMIT - len(content))
    if not response.content.at_eof():
        response.close()  # the rest is not worth the connection
    return _clean(content.decode("utf-8", "replace"))[:_DETAIL_LIMIT]


def _clean(text: str) -> str:
    return _TEXT.sub(" ", text).strip()


def _describe(error: BaseException) -> str:
    return _clean(str(error) or type(error).__name__)[:_DETAIL_LIMIT]


class _Request(BytesPayload):
    """The body. The client holds the head back until the body is written, so nothing leaves before the permit is asked."""

    def __init__(self, content: bytes, permit: Permit) -> None:
        super().__init__(content, content_type="application/json")
        self._permit = permit
        self._written = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Called once for each connection the request is sent on."""
        repeat, self._written = self._written, True
        write = super().write_with_length
        await self._permit.begin(lambda: write(writer, content_length), repeat=repeat)


class _Connection:
    reused = False


async def _note_reuse(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
    context.trace_request_ctx.reused = True

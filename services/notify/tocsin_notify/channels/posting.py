"""One POST to an HTTP server outside: what every channel over HTTP shares.

The body asks the permit before its first byte leaves. A 2xx status line counts as accepted; the rest of the answer does not
matter. A reused connection that the server closed is replaced once.
"""

import asyncio
import json
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from aiohttp.payload import BytesPayload
from tocsin_kit.addresses import PublicResolver
from tocsin_kit.time_limit import TimeLimit
from yarl import URL

from tocsin_notify.channels.answers import AnswerProtocol, Connector, StatusLine
from tocsin_notify.channels.base import Permit
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent

DETAIL_LIMIT: Final = 300
_PASSING: Final = frozenset({408, 425, 429})
_DNS_CACHE_SECONDS: Final = 10
_KEEPALIVE_SECONDS: Final = 15
_TEXT: Final = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Post:
    """What is sent where."""

    url: URL
    content: bytes
    content_type: str
    headers: dict[str, str]
    says_in_body: bool = False
    """A 2xx alone is no success: the body may report a failure."""


class Poster:
    """Sends through one keep-alive session."""

    def __init__(self, *, timeout: float, allow_private: bool, user_agent: str = "Tocsin") -> None:
        """`timeout`: seconds for the whole attempt, name resolution included."""
        self._timeout = timeout
        # The client's own would make a timer for each request.
        self._limit = TimeLimit(timeout)
        self._allow_private = allow_private
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, post: Post, permit: Permit, judge: Callable[[aiohttp.ClientResponse], Awaitable[Outcome]]
    ) -> Outcome:
        """The result of `judge` for the answer, or the outcome of a missing answer. Redirects are not followed."""
        request = _Request(post, permit)
        try:
            outcome = await self._exchange(post, request, judge)
        except asyncio.CancelledError:
            if not request.was_taken or post.says_in_body:
                raise
            return Sent()  # the caller that cut this off needs the outcome
        taken = request.was_taken and not post.says_in_body
        return Sent() if taken and not isinstance(outcome, Sent) else outcome

    async def close(self) -> None:
        """Drop idle connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _exchange(
        self,
        post: Post,
        request: "_Request",
        judge: Callable[[aiohttp.ClientResponse], Awaitable[Outcome]],
    ) -> Outcome:
        try:
            return await self._limit.wait(self._post_on_live_connection(post, request, judge))
        except TimeoutError:
            return Retryable(f"no answer within {self._timeout:g} s")
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
            return Retryable(f"TLS: {_describe(error)}")
        except aiohttp.InvalidURL:
            return Permanent("not a URL that can be called")
        except aiohttp.ClientConnectorError as error:
            return Retryable(f"no connection: {_describe(error.os_error)}")
        except (aiohttp.ClientError, OSError) as error:
            return Retryable(f"no answer: {_describe(error)}")

    async def _post_on_live_connection(
        self,
        post: Post,
        request: "_Request",
        judge: Callable[[aiohttp.ClientResponse], Awaitable[Outcome]],
    ) -> Outcome:
        try:
            return await self._post(post, request, judge)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not request.on_kept_connection or request.was_taken:
                raise
            # An idle connection that the server closed at this moment says nothing about the receiver.
            return await self._post(post, request, judge)

    async def _post(
        self,
        post: Post,
        request: "_Request",
        judge: Callable[[aiohttp.ClientResponse], Awaitable[Outcome]],
    ) -> Outcome:
        async with self._open().post(post.url, data=request, headers=post.headers, allow_redirects=False) as response:
            return await judge(response)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=Connector(
                    limit=0,  # the deliverer limits how many are under way; no call may queue in here
                    resolver=PublicResolver(allow_private=self._allow_private),
                    ttl_dns_cache=_DNS_CACHE_SECONDS,
                    keepalive_timeout=_KEEPALIVE_SECONDS,
                ),
                timeout=aiohttp.ClientTimeout(),
                headers={"User-Agent": self._user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session


def may_pass(status: int) -> bool:
    """Whether the same request may succeed a little later, after a refusal with this HTTP status (RFC 9110 §15)."""
    return status in _PASSING or status >= 500


def retry_after(response: aiohttp.ClientResponse, sent_at: datetime | None = None) -> float | None:
    """Seconds. A date counts from the receiver's own clock if the answer has it, since clocks differ (RFC 9110
    §10.2.3), else from `sent_at`. Without either, the header is ignored."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    until = _date(value)
    if until is None:
        return None
    since = _date(response.headers.get("Date", "")) or sent_at
    return None if since is None else max(0.0, (until - since) / timedelta(seconds=1))


def read_object(text: str) -> dict[str, Any]:
    """The JSON object in an answer; empty when there is none."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def printable(text: str) -> str:
    """Printable ASCII, the rest as spaces."""
    return _TEXT.sub(" ", text).strip()


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _describe(error: BaseException) -> str:
    # The text of this error ends with the URL, which contains a provider's token or a hook's secret.
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return printable(text or type(error).__name__)[:DETAIL_LIMIT]


class _Request(BytesPayload):
    """The body. The client holds the head back until the body is written, so no byte leaves before the permit is asked."""

    def __init__(self, post: Post, permit: Permit) -> None:
        super().__init__(post.content, content_type=post.content_type)
        self._permit = permit
        self._written = False
        self._answer: StatusLine | None = None
        self.on_kept_connection = False
        """Whether the connection it was last written to had carried an earlier request."""

    @property
    def was_taken(self) -> bool:
        """Whether the status line of the answer said 2xx."""
        return self._answer is not None and 200 <= self._answer.status < 300

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Called once for each connection the request is sent on."""
        repeat, self._written = self._written, True
        if isinstance(writer, StreamWriter) and isinstance(writer.protocol, AnswerProtocol):
            self._answer = writer.protocol.answer
            self.on_kept_connection = writer.protocol.requests > 1
        write = super().write_with_length
        await self._permit.begin(lambda: write(writer, content_length), repeat=repeat)

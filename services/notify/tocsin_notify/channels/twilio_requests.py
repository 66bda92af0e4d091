"""Requests to Twilio's API that make it send or call.

Twilio's library builds the fields, the resource and the login; our own session sends the request: with the permit,
within the attempt's time, once. The answer is judged here, since the library drops Retry-After, and raises for a body
that it cannot read although the message was accepted.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

import aiohttp
from tocsin_kit.logging import get_logger
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.rest import Client
from yarl import URL

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.posting import DETAIL_LIMIT, Post, Poster, printable, read_object, retry_after
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.twilio_codes import CALLBACK_URLS, refusal
from tocsin_notify.domain.attempt import Outcome, Sent

_log = get_logger(__name__)

Ask = Callable[..., Awaitable[object]]
"""Makes one request with the library's client; further arguments are fields of the request."""

_ANSWER_BYTES: Final = 16_384
_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_ENVIRONMENT: Final = {"TWILIO_EDGE": "", "TWILIO_REGION": ""}
"""The library's own environment variables would override TWILIO_BASE_URL."""


class TwilioRequests:
    """Over one keep-alive session."""

    def __init__(self, account: TwilioAccount, *, timeout: float) -> None:
        """`timeout`: seconds for the whole attempt."""
        self._account = account
        # The operator chose the address, so it may lead anywhere.
        self._poster = Poster(timeout=timeout, allow_private=True)

    async def create(self, ask: Ask, callbacks: Mapping[str, object], delivery: Delivery, permit: Permit) -> Outcome:
        """Create a message or a call, whose state is reported to `callbacks`.

        If the provider refuses a callback's URL, it is created without callbacks: a page without a receipt is better
        than none.
        """
        outcome, code = await self._send(lambda client: ask(client, **callbacks), permit, delivery.start_time)
        if callbacks and code in CALLBACK_URLS:
            _log.error(
                "twilio_callback_refused",
                code=code,
                channel=str(delivery.target.channel),
                remedy="NOTIFY_PUBLIC_URL must be reachable by Twilio",
            )
            outcome, _ = await self._send(ask, permit, delivery.start_time)
        return outcome

    async def update(self, ask: Ask, permit: Permit) -> tuple[Outcome, int]:
        """Change something; the outcome, and the error code of a refusal or 0."""
        return await self._send(ask, permit)

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()

    async def _send(self, ask: Ask, permit: Permit, sent_at: datetime | None = None) -> tuple[Outcome, int]:
        carrier = _Carrier(self._poster, permit, sent_at)
        client = Client(self._account.sid, self._account.tokens[0], http_client=carrier, environment=_NO_ENVIRONMENT)
        client.api.base_url = self._account.base_url
        await ask(client)
        return carrier.outcome, carrier.code


class _Carrier(AsyncHttpClient):  # type: ignore[misc] # the library brings no types
    """Carries one request of the library, and judges the answer. The library is told that the request succeeded."""

    outcome: Outcome
    code: int = 0

    def __init__(self, poster: Poster, permit: Permit, sent_at: datetime | None) -> None:
        super().__init__(logging.getLogger(__name__), is_async=True)
        self._poster = poster
        self._permit = permit
        self._sent_at = sent_at

    async def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """See `AsyncHttpClient`. What makes a provider act is a POST without parameters."""
        assert headers is not None
        assert auth is not None
        content_type = headers.pop("Content-Type")
        login = aiohttp.encode_basic_auth(*auth)
        post = Post(
            URL(uri, encoded=True),
            urlencode(data or {}, doseq=True).encode(),
            content_type,
            headers | {"Authorization": login},
        )
        self.outcome = await self._poster.send(post, self._permit, self._judge)
        return Response(200, "{}")

    async def _judge(self, response: aiohttp.ClientResponse) -> Outcome:
        answer = read_object(await beginning(response, _ANSWER_BYTES))
        if 200 <= response.status < 300:
            sid = answer.get("sid")
            return Sent(sid if isinstance(sid, str) and _SID.fullmatch(sid) else "")
        self.code = answer["code"] if isinstance(answer.get("code"), int) else 0
        message = printable(str(answer.get("message", "")))[:DETAIL_LIMIT]
        said = " ".join(filter(None, (str(response.status), str(self.code or ""), message)))
        return refusal(self.code, response.status, said, retry_after(response, self._sent_at))

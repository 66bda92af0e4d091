"""Requests to Twilio's API that make it send or call (twilio.com/docs/usage/requests-to-twilio)."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

import aiohttp
from tocsin_kit.logging import get_logger
from yarl import URL

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.posting import DETAIL_LIMIT, Post, Poster, printable, read_object, retry_after
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.twilio_codes import CALLBACK_URLS, refusal
from tocsin_notify.domain.attempt import Outcome, Sent

_log = get_logger(__name__)

Fields = Sequence[tuple[str, str]]

_ANSWER_BYTES: Final = 16_384
_FORM: Final = "application/x-www-form-urlencoded"
_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class TwilioRequests:
    """Over one keep-alive session."""

    def __init__(self, account: TwilioAccount, *, timeout: float) -> None:
        """`timeout`: seconds for the whole attempt."""
        self._account = account
        # The operator chose the address, so it may lead anywhere.
        self._poster = Poster(timeout=timeout, allow_private=True)

    async def create(
        self, resource: str, fields: Fields, callbacks: Fields, delivery: Delivery, permit: Permit
    ) -> Outcome:
        """Create a resource such as `Messages.json`, which tells by `callbacks` what becomes of it.

        Where the provider refuses a callback's URL it is created without them: a page without a receipt is better than none.
        """
        outcome, code = await self._post(resource, [*fields, *callbacks], permit, delivery.start_time)
        if callbacks and code in CALLBACK_URLS:
            _log.error(
                "twilio_callback_refused",
                resource=resource,
                code=code,
                remedy="NOTIFY_PUBLIC_URL must be reachable by Twilio",
            )
            outcome, _ = await self._post(resource, fields, permit, delivery.start_time)
        return outcome

    async def update(self, resource: str, fields: Fields, permit: Permit) -> tuple[Outcome, int]:
        """Change a resource such as `Calls/CA….json`; the outcome, and the error code of a refusal or 0."""
        return await self._post(resource, fields, permit)

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()

    async def _post(
        self, resource: str, fields: Fields, permit: Permit, sent_at: datetime | None = None
    ) -> tuple[Outcome, int]:
        """The outcome, and the error code of a refusal; 0 when there is none."""
        code = 0

        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            answer = read_object(await beginning(response, _ANSWER_BYTES))
            if 200 <= response.status < 300:
                sid = answer.get("sid")
                return Sent(sid if isinstance(sid, str) and _SID.fullmatch(sid) else "")
            nonlocal code
            code = answer["code"] if isinstance(answer.get("code"), int) else 0
            message = printable(str(answer.get("message", "")))[:DETAIL_LIMIT]
            said = " ".join(filter(None, (str(response.status), str(code or ""), message)))
            return refusal(code, response.status, said, retry_after(response, sent_at))

        post = Post(
            URL(self._account.resource(resource), encoded=True),
            urlencode(fields).encode(),
            _FORM,
            {"Authorization": self._account.authorization, "Accept": "application/json"},
        )
        return await self._poster.send(post, permit, judge), code

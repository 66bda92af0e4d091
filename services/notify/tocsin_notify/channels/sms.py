"""Text messages by Twilio's Messages resource (twilio.com/docs/messaging/api/message-resource).

The API knows no idempotency key, so a request whose answer is lost may send a second copy. A status callback of the first
one that comes before the second is due proves that it was taken (`app.receipts`), and the second is not sent.
"""

import json
import re
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from tocsin_kit.logging import get_logger
from yarl import URL

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.posting import DETAIL_LIMIT, Post, Poster, printable, retry_after
from tocsin_notify.channels.sms_text import sms_text
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.twilio_codes import CALLBACK_URL, refusal
from tocsin_notify.domain.attempt import Outcome, Permanent, Sent

_log = get_logger(__name__)

_ANSWER_BYTES: Final = 16_384
_FORM: Final = "application/x-www-form-urlencoded"
_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SmsChannel:
    """One request for each attempt."""

    def __init__(self, account: TwilioAccount, callbacks: CallbackUrls, *, timeout: float, concurrency: int) -> None:
        """`timeout`: seconds for the whole attempt. `callbacks` says where receipts are to be sent, if anywhere."""
        self.concurrency = concurrency
        self._account = account
        self._callbacks = callbacks
        # The operator chose the address, so it may lead anywhere.
        self._poster = Poster(timeout=timeout, allow_private=True)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        account = self._account
        if not account.sid:
            return Permanent("this installation sends no text messages (TWILIO_ACCOUNT_SID)")
        fields = {
            "To": delivery.target.address,
            "MessagingServiceSid" if account.sender.startswith("MG") else "From": account.sender,
            "Body": sms_text(delivery, account.sms_segments),
            "ValidityPeriod": str(account.sms_validity),
        }
        callback = self._callbacks.twilio_status(delivery)
        given = {"StatusCallback": callback} if callback else {}
        outcome, code = await self._post(fields | given, delivery, permit)
        if callback and code == CALLBACK_URL:
            # A page without a receipt is better than none.
            _log.error("twilio_callback_refused", url=callback, remedy="NOTIFY_PUBLIC_URL must be reachable by Twilio")
            outcome, _ = await self._post(fields, delivery, permit)
        return outcome

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()

    async def _post(self, fields: dict[str, str], delivery: Delivery, permit: Permit) -> tuple[Outcome, int]:
        """The outcome, and the error code of a refusal; 0 when there is none."""
        code = 0

        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            answer = _read(await beginning(response, _ANSWER_BYTES))
            if 200 <= response.status < 300:
                sid = answer.get("sid")
                return Sent(sid if isinstance(sid, str) and _SID.fullmatch(sid) else "")
            nonlocal code
            code = answer["code"] if isinstance(answer.get("code"), int) else 0
            message = printable(str(answer.get("message", "")))[:DETAIL_LIMIT]
            said = " ".join(filter(None, (str(response.status), str(code or ""), message)))
            return refusal(code, response.status, said, retry_after(response, delivery.start_time))

        post = Post(
            URL(self._account.resource("Messages.json"), encoded=True),
            urlencode(fields).encode(),
            _FORM,
            {"Authorization": self._account.authorization, "Accept": "application/json"},
        )
        return await self._poster.send(post, permit, judge), code


def _read(text: str) -> dict[str, Any]:
    """The JSON object in the answer; empty when there is none."""
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}

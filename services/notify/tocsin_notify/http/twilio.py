"""Twilio's reports about messages (twilio.com/docs/messaging/guides/track-outbound-message-status).

Requests that the account has not signed are refused. A provider that gets no 2xx may repeat a report.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from twilio.request_validator import SIGNATURE_HEADER
from twilio.twiml.messaging_response import MessagingResponse

from tocsin_notify.app.answers.sms_replies import SmsReplies
from tocsin_notify.app.delivery.receipts import Receipts
from tocsin_notify.channels.callbacks import TWILIO_REPLY, TWILIO_STATUS
from tocsin_notify.channels.posting import printable
from tocsin_notify.channels.sms_text import fit
from tocsin_notify.channels.twilio import TwilioAccount, is_signed
from tocsin_notify.channels.twilio_codes import Fault, fault_of
from tocsin_notify.channels.voice_text import plain
from tocsin_notify.domain.evidence import Evidence, Receipt
from tocsin_notify.domain.page import DeathReason
from tocsin_notify.http.attempts import attempt_of
from tocsin_notify.http.forms import read_form

_log = get_logger(__name__)

LONGEST_ID: Final = 64
_MESSAGE_STATUS: Final = {
    "accepted": Evidence.ACCEPTED,
    "scheduled": Evidence.ACCEPTED,
    "queued": Evidence.ACCEPTED,
    "sending": Evidence.ACCEPTED,
    "sent": Evidence.ACCEPTED,
    "delivered": Evidence.DELIVERED,
    "read": Evidence.READ,
    "undelivered": Evidence.FAILED,
    "failed": Evidence.FAILED,
    "canceled": Evidence.FAILED,
}
_LONGEST_NUMBER: Final = 9
_NUMBER: Final = re.compile(r"\+[1-9][0-9]{3,14}")
"""Short codes and sender names belong to no person."""
_LONGEST_REPLY: Final = 1600
_REPLY_SEGMENTS: Final = 2


class SignedByTwilio:
    """Reads requests of the account, and no others."""

    def __init__(self, account: TwilioAccount, public_url: str) -> None:
        """`public_url`: the URL that the provider was given and signs, even if a proxy changed the request."""
        self._account = account
        self._public_url = public_url

    async def fields(self, request: web.Request) -> Mapping[str, str]:
        """The fields of a request that the account signed. Raises CREDENTIAL_INVALID."""
        given = await read_form(request)
        if not is_signed(self._account, self.url(request), given, request.headers.get(SIGNATURE_HEADER, "")):
            _log.warning(
                "twilio_signature_wrong",
                path=request.path,
                meaning="it is not from Twilio, or TWILIO_AUTH_TOKEN or NOTIFY_PUBLIC_URL differ from what the provider uses",
            )
            raise TocsinError(ErrorReason.ERROR_REASON_CREDENTIAL_INVALID, "the account has not signed this request")
        return dict(reversed(given))  # of a field that comes twice the first counts

    def url(self, request: web.Request) -> str:
        """The public URL that was called, unchanged: decoding and encoding a path can change it."""
        target = urlsplit(request.raw_path)
        return self._public_url + target._replace(scheme="", netloc="").geturl()


class TwilioMessages:
    """The routes that Twilio calls when the state of a message changes, and when a reply comes in."""

    def __init__(self, signed: SignedByTwilio, receipts: Receipts, replies: SmsReplies) -> None:
        self._signed = signed
        self._receipts = receipts
        self._replies = replies

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        return web.post(TWILIO_STATUS, self.status), web.post(TWILIO_REPLY, self.reply)

    async def status(self, request: web.Request) -> web.Response:
        """A report about the state of a message. 404: of one that is not known here (any more)."""
        fields = await self._signed.fields(request)
        evidence = _MESSAGE_STATUS.get(fields.get("MessageStatus", ""))
        if evidence is None:
            _log.info("twilio_status_unknown", status=printable(fields.get("MessageStatus", ""))[:LONGEST_ID])
            return web.Response(status=204)
        known = await self._receipts.take(attempt_of(request.query), _receipt(evidence, fields))
        return web.Response(status=204 if known else 404)

    async def reply(self, request: web.Request) -> web.Response:
        """The answer to a received message, as TwiML (twilio.com/docs/messaging/twiml)."""
        fields = await self._signed.fields(request)
        number, sid = fields.get("From", ""), printable(fields.get("MessageSid", ""))[:LONGEST_ID]
        if not _NUMBER.fullmatch(number) or not sid:
            _log.info("twilio_reply_of_no_number", sid=sid)
            return _message("")
        return _message(await self._replies.take(number, fields.get("Body", "")[:_LONGEST_REPLY], sid))


def answer(content: str) -> web.Response:
    """TwiML."""
    return web.Response(text=content, content_type="text/xml", charset="utf-8", headers={"Cache-Control": "no-store"})


def _message(text: str) -> web.Response:
    reply = MessagingResponse()
    if text:
        reply.message(plain(fit(text, _REPLY_SEGMENTS)))
    return answer(str(reply))


def error_code(fields: Mapping[str, str]) -> int:
    """The provider's error code; 0 if it gave none."""
    code = fields.get("ErrorCode", "")
    return int(code) if code.isascii() and code.isdigit() and len(code) < _LONGEST_NUMBER else 0


def _receipt(evidence: Evidence, fields: Mapping[str, str]) -> Receipt:
    word = fields["MessageStatus"]
    sid = printable(fields.get("MessageSid", ""))[:LONGEST_ID]
    if evidence is not Evidence.FAILED:
        return Receipt(evidence, sid, word)
    number = error_code(fields)
    fault, why = fault_of(number)
    said = " ".join(filter(None, (word, str(number or ""))))
    reason = f"the provider could not deliver it: {said}" + (f" ({why})" if why else "")
    death = DeathReason.PERMANENT_FAILURE if fault is Fault.RECIPIENT else DeathReason.ATTEMPTS_EXHAUSTED
    return Receipt(evidence, sid, said, reason, death)

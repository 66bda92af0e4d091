"""Calls by Twilio's Calls resource (twilio.com/docs/voice/api/call-resource).

What is said goes along in the request, so that the provider fetches it from nowhere. Who picks up is found out while the
text is being read (`AsyncAmd`): a person hears it at once. The API knows no idempotency key: see `sms`.
"""

from typing import Final

from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.channel_type import NO_TWILIO, ChannelType
from tocsin_notify.channels.phones import check_number
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.twilio_requests import TwilioRequests
from tocsin_notify.channels.voice_text import spoken
from tocsin_notify.domain.attempt import Outcome, Permanent
from tocsin_notify.domain.page import Channel

_LONGEST_CALL: Final = 240
"""Seconds after which the provider ends a call that is not hung up."""


class VoiceChannel:
    """One request for each attempt."""

    def __init__(self, account: TwilioAccount, callbacks: CallbackUrls, *, timeout: float, concurrency: int) -> None:
        """`timeout`: seconds for the whole request. `callbacks` says where keys and receipts are to be sent, if anywhere."""
        self.concurrency = concurrency
        self._account = account
        self._callbacks = callbacks
        self._requests = TwilioRequests(account, timeout=timeout)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        account = self._account
        if not account.sid:
            return Permanent("this installation calls nobody (TWILIO_ACCOUNT_SID)")
        if not account.caller:
            return Permanent("this installation has no number to call from (TWILIO_VOICE_FROM)")
        fields = [
            ("To", delivery.target.address),
            ("From", account.caller),
            ("Twiml", spoken(delivery, self._callbacks.twilio_key(delivery))),
            ("Timeout", str(account.ring_seconds)),
            ("TimeLimit", str(_LONGEST_CALL)),
        ]
        status = self._callbacks.twilio_call(delivery)
        callbacks = [
            ("StatusCallback", status),
            *(("StatusCallbackEvent", event) for event in ("ringing", "answered", "completed")),
            ("MachineDetection", "Enable"),
            ("AsyncAmd", "true"),
            ("AsyncAmdStatusCallback", status),
        ]
        return await self._requests.create("Calls.json", fields, callbacks if status else [], delivery, permit)

    async def close(self) -> None:
        """Drop idle connections."""
        await self._requests.close()


TYPE: Final = ChannelType(
    Channel.VOICE,
    "call",
    lambda settings, callbacks: VoiceChannel(
        settings.twilio_account, callbacks, timeout=settings.attempt_timeout, concurrency=settings.concurrency
    ),
    address_field="number",
    check=check_number,
    missing=lambda settings: (
        NO_TWILIO
        if not settings.twilio_account_sid
        else ""
        if settings.twilio_account.caller
        else "is not possible here: TWILIO_FROM is no number, and the operator has set no TWILIO_VOICE_FROM"
    ),
)

"""Calls by Twilio's Calls resource (twilio.com/docs/voice/api/call-resource).

The text is part of the request, so the provider fetches it from nowhere. The provider detects who picked up while the
text is read (`AsyncAmd`), so a person hears it at once. The API knows no idempotency key: see `sms`.
"""

from typing import Final

from tocsin_notify.channels.base import Delivery, Permit, Sequel
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.channel_type import NO_TWILIO, ChannelType
from tocsin_notify.channels.phones import check_number
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.twilio_requests import TwilioRequests
from tocsin_notify.channels.voice_text import spoken
from tocsin_notify.domain.attempt import Outcome, Permanent, Sent
from tocsin_notify.domain.page import Channel
from tocsin_notify.domain.template import Part

_NOT_RINGING: Final = frozenset({20404, 21220})
"""The call is over, or was never there (twilio.com/docs/api/errors)."""
_LONGEST_CALL: Final = 240
"""Seconds after which the provider ends a call that is not hung up."""


class VoiceChannel:
    """One request for each attempt, and one that ends the ringing."""

    rings = False
    """A phone stops by itself after `ring_seconds`: retries for hours are of no use."""

    def __init__(self, account: TwilioAccount, callbacks: CallbackUrls, *, timeout: float, concurrency: int) -> None:
        """`timeout`: seconds for the whole request. `callbacks` gives the URLs for keys and receipts, if there are any."""
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
        call = {
            "to": delivery.target.address,
            "from_": account.caller,
            "twiml": spoken(delivery, self._callbacks.twilio_key(delivery)),
            "timeout": account.ring_seconds,
            "time_limit": _LONGEST_CALL,
        }
        status = self._callbacks.twilio_call(delivery)
        callbacks = {
            "status_callback": status,
            "status_callback_event": ["ringing", "answered", "completed"],
            "machine_detection": "Enable",
            "async_amd": "true",
            "async_amd_status_callback": status,
        }
        return await self._requests.create(
            lambda client, **told: client.calls.create_async(**call, **told),
            callbacks if status else {},
            delivery,
            permit,
        )

    async def follow(self, sequel: Sequel, permit: Permit) -> Outcome:
        """A call that still rings for an answered incident is hung up. A person who has picked up is listening and is
        not cut off: `canceled` ends calls that wait or ring and no others
        (twilio.com/docs/voice/api/call-resource#update-a-call-resource).
        """
        if not sequel.provider_id or not self._account.sid:
            return Sent()
        outcome, code = await self._requests.update(
            lambda client: client.calls(sequel.provider_id).update_async(status="canceled"), permit
        )
        return Sent() if code in _NOT_RINGING else outcome

    async def close(self) -> None:
        """Drop idle connections."""
        await self._requests.close()


TYPE: Final = ChannelType(
    Channel.VOICE,
    "call",
    lambda settings, callbacks: VoiceChannel(
        settings.twilio_account, callbacks, timeout=settings.attempt_timeout_seconds, concurrency=settings.concurrency
    ),
    address_field="number",
    parts=(Part.VOICE,),
    check=check_number,
    missing=lambda settings: (
        NO_TWILIO
        if not settings.twilio_account_sid
        else ""
        if settings.twilio_account.caller
        else "is not possible here: TWILIO_FROM is no number, and the operator has set no TWILIO_VOICE_FROM"
    ),
)

"""Text messages by Twilio's Messages resource (twilio.com/docs/messaging/api/message-resource).

The API knows no idempotency key, so a request whose answer is lost may send a second copy. A status callback of the first
one that comes before the second is due proves that it was taken (`app.delivery.receipts`), and the second is not sent.
"""

from typing import Final

from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.channel_type import NO_TWILIO, ChannelType
from tocsin_notify.channels.phones import check_number
from tocsin_notify.channels.sms_text import sms_text
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.twilio_requests import TwilioRequests
from tocsin_notify.domain.attempt import Outcome, Permanent
from tocsin_notify.domain.page import Channel
from tocsin_notify.domain.template import Part


class SmsChannel:
    """One request for each attempt."""

    def __init__(self, account: TwilioAccount, callbacks: CallbackUrls, *, timeout: float, concurrency: int) -> None:
        """`timeout`: seconds for the whole attempt. `callbacks` says where receipts are to be sent, if anywhere."""
        self.concurrency = concurrency
        self._account = account
        self._callbacks = callbacks
        self._requests = TwilioRequests(account, timeout=timeout)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        account = self._account
        if not account.sid:
            return Permanent("this installation sends no text messages (TWILIO_ACCOUNT_SID)")
        sender = "messaging_service_sid" if account.sender.startswith("MG") else "from_"
        message = {
            "to": delivery.target.address,
            sender: account.sender,
            "body": sms_text(delivery, account.sms_segments, replies=account.replies),
            "validity_period": account.sms_validity,
        }
        status = self._callbacks.twilio_status(delivery)
        return await self._requests.create(
            lambda client, **callbacks: client.messages.create_async(**message, **callbacks),
            {"status_callback": status} if status else {},
            delivery,
            permit,
        )

    async def close(self) -> None:
        """Drop idle connections."""
        await self._requests.close()


TYPE: Final = ChannelType(
    Channel.SMS,
    "text message",
    lambda settings, callbacks: SmsChannel(
        settings.twilio_account, callbacks, timeout=settings.attempt_timeout_seconds, concurrency=settings.concurrency
    ),
    address_field="number",
    personal=True,
    parts=(Part.SMS,),
    check=check_number,
    missing=lambda settings: "" if settings.twilio_account_sid else NO_TWILIO,
)

"""Which channels there are. A new one is a file beside this, a value in `domain.page.Channel` and a line here."""

from tocsin_notify.channels.base import ChannelSender
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.console import ConsoleChannel
from tocsin_notify.channels.email import EmailChannel, MailServer
from tocsin_notify.channels.sms import SmsChannel
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.webhook import WebhookChannel
from tocsin_notify.domain.page import Channel

Registry = dict[Channel, ChannelSender]


def open_channels(
    mail: MailServer,
    twilio: TwilioAccount,
    callbacks: CallbackUrls,
    *,
    mail_sessions: int,
    timeout: float,
    allow_private_webhooks: bool,
    concurrency: int,
) -> Registry:
    """Every channel. `timeout` is in seconds per attempt, `concurrency` how many attempts one replica makes at once."""
    return {
        Channel.EMAIL: EmailChannel(mail, timeout=timeout, concurrency=mail_sessions),
        Channel.WEBHOOK: WebhookChannel(timeout=timeout, allow_private=allow_private_webhooks, concurrency=concurrency),
        Channel.CONSOLE: ConsoleChannel(),
        Channel.SMS: SmsChannel(twilio, callbacks, timeout=timeout, concurrency=concurrency),
    }


async def close_channels(channels: Registry) -> None:
    """Give back every connection."""
    for channel in channels.values():
        await channel.close()

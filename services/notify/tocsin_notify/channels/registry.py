"""Which channels there are. A new one is a file beside this, with a `ChannelType` at its end, and a row here."""

from typing import TYPE_CHECKING, Final

from tocsin_notify.channels import (
    apprise,
    chat_hooks,
    console,
    email,
    ntfy,
    pushover,
    slack,
    sms,
    telegram,
    voice,
    web_push,
    webhook,
)
from tocsin_notify.channels.base import ChannelSender
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.channel_type import ChannelType
from tocsin_notify.domain.page import Channel

if TYPE_CHECKING:
    from tocsin_notify.settings import NotifySettings

Registry = dict[Channel, ChannelSender]

_ROWS: Final = (
    email.TYPE,
    webhook.TYPE,
    console.TYPE,
    sms.TYPE,
    voice.TYPE,
    ntfy.TYPE,
    pushover.TYPE,
    telegram.TYPE,
    slack.TYPE,
    chat_hooks.MATTERMOST,
    chat_hooks.DISCORD,
    chat_hooks.TEAMS,
    web_push.TYPE,
    apprise.TYPE,
)
TYPES: Final[dict[Channel, ChannelType]] = {row.channel: row for row in _ROWS}


def open_channels(settings: "NotifySettings", callbacks: CallbackUrls) -> Registry:
    """A sender of every channel."""
    return {channel: row.open(settings, callbacks) for channel, row in TYPES.items()}


async def close_channels(channels: Registry) -> None:
    """Give back every connection."""
    for channel in channels.values():
        await channel.close()

"""Settings and channels of a service that is started with some variables, without the service."""

from collections.abc import Mapping

import pytest
from tocsin_kit.settings import read
from tocsin_notify.channels.base import ChannelSender
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.page import Channel
from tocsin_notify.settings import NotifySettings

from tests.store.notify.support import KEYS


def open_channel(channel: Channel, environment: Mapping[str, str]) -> ChannelSender:
    """As `wiring` opens it, from these variables beside those that a service must have."""
    needed = {"NOTIFY_DATABASE_URL": "postgresql://localhost/none", "AUTH_SIGNING_KEYS": KEYS}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**needed, **environment}.items():
            patch.setenv(name, value)
        settings = read(NotifySettings)
    return TYPES[channel].open(settings, CallbackUrls(""))

"""The console channel: one line of JSON on standard output. For trying things out."""

import json
import sys
from typing import Final, TextIO

from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.channel_type import ChannelType
from tocsin_notify.channels.text import payload
from tocsin_notify.domain.attempt import Outcome, Sent
from tocsin_notify.domain.page import Channel


class ConsoleChannel:
    """Writes, and always succeeds."""

    concurrency = 1000

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""

        async def write() -> Outcome:
            return self._write(delivery)

        return await permit.begin(write)

    async def close(self) -> None:
        """Nothing is held."""

    def _write(self, delivery: Delivery) -> Outcome:
        out = self._out or sys.stdout
        out.write(json.dumps({"event": "console_notification", **payload(delivery)}) + "\n")
        out.flush()
        return Sent()


TYPE: Final = ChannelType(
    Channel.CONSOLE,
    "console",
    lambda _, __: ConsoleChannel(),
    missing=lambda settings: (
        "" if settings.console_contacts else "is switched off in this installation; use email or webhook"
    ),
)

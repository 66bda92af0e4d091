"""Whether the receiver of a relay answers. Kept per process, because each has its own connections."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Final, Literal

import grpc

from tocsin_kit.db.relay_verdicts import Failure, Verdict
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

_PROBE_EVERY: Final = 0.3
"""Seconds between two tests of a receiver that is away: a fraction of the delay that its return may cost (1 s)."""
_PROBE_ROWS: Final = 8
"""Rows of such a test."""
_LEAST: Final = 0.05
_REMIND_EVERY: Final = 60.0


class Receiver:
    """What a relay knows of its receiver."""

    def __init__(self, kinds: Sequence[str], channel: grpc.aio.Channel | None = None) -> None:
        self._channel = channel
        self._kinds = list(kinds)
        self._away_since: float | None = None
        self.probe_rows = _PROBE_ROWS
        """The number of rows for a test while it is away."""
        self._reminded = 0.0
        self._asked = float("-inf")
        self._accepted = float("-inf")
        self.works_at = float("-inf")
        """On the monotonic clock: the start of the newest call in which it accepted a row."""
        self._ask = asyncio.Event()

    @property
    def away(self) -> bool:
        """Whether the newest call got no answer."""
        return self._away_since is not None

    def accepted_since(self, moment: float) -> bool:
        """Whether it accepted a row after `moment` on the monotonic clock."""
        return self._accepted > moment

    def accepted(self, *, began: float) -> None:
        """It accepted a row of a call that began then, on the monotonic clock."""
        self._accepted = time.monotonic()
        self.works_at = max(self.works_at, began)

    def answered(self) -> bool:
        """It answered something. True when it was away until now."""
        if self._away_since is None:
            return False
        _log.info("relay_receiver_back", kinds=self._kinds, seconds=round(time.monotonic() - self._away_since, 3))
        self._away_since = None
        self._ask.set()
        return True

    def is_away(self, failure: Failure) -> None:
        """It gave no answer, or one that says nothing about the rows."""
        # A receiver that did not answer in time may hang because of a single row. That row is then sent alone, and another test
        # shows that the receiver works; together they would hang again and again.
        self.probe_rows = 1 if failure.verdict is Verdict.SLOW else _PROBE_ROWS
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = self._reminded = now
            _log.warning("relay_receiver_away", kinds=self._kinds, error=failure.error)
        elif now - self._reminded > _REMIND_EVERY:
            self._reminded = now
            seconds = round(now - self._away_since)
            _log.error("relay_receiver_still_away", kinds=self._kinds, error=failure.error, seconds=seconds)

    def nothing_to_ask(self) -> None:
        """No row is due: the next one is sent at once."""
        self._away_since = None

    def asked(self) -> None:
        """A delivery was started."""
        self._asked = time.monotonic()

    def ask_now(self) -> None:
        """It may be back: the next test is made at once."""
        self._ask.set()

    async def pause(self) -> None:
        """Return when it is time for the next test."""
        await asyncio.sleep(_LEAST)
        left = self._asked + _PROBE_EVERY * random.uniform(0.75, 1.25) - time.monotonic()
        waiters = [asyncio.create_task(self._ask.wait())]
        if self._channel is not None:
            waiters.append(asyncio.create_task(_connected(self._channel)))
        try:
            await asyncio.wait(waiters, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiters:
                each.cancel()
            await asyncio.gather(*waiters, return_exceptions=True)
        self._ask.clear()


async def _connected(channel: grpc.aio.Channel) -> Literal[True]:
    """Return when the channel has become ready; one that is ready already must lose its connection first."""
    state = channel.get_state(try_to_connect=True)
    while True:
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return True

"""Moves due timers into the streams, at the moment they are due."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from tocsin_timers.metrics import TimerMetrics
from tocsin_timers.shard import SLEEP_SECONDS, Shard

logger = logging.getLogger(__name__)

BATCH: Final = 500
"""Timers per call: about 1.5 ms of Redis' time, so that other commands get in between."""


class Promoter:
    """One per shard in every worker process; any number at once, and none fires twice (`lua/promote.lua`).

    Sleeps until the head is due or an earlier timer is armed, at most a second. All of them wake for the same timer and the first
    one gets it: letting one go first was tried, and made timers later whenever that one was busy.
    """

    def __init__(self, shard: Shard, metrics: TimerMetrics, looked: Callable[[bool], None]) -> None:
        """`looked(paused)` is called after every look."""
        self._shard = shard
        self._metrics = metrics
        self._looked = looked
        self._wake = asyncio.Event()
        self._offset_us: float | None = None

    async def promote(self) -> None:
        """Promote what is due, then sleep until there is more to do. Raises RedisError."""
        self._wake.clear()
        asked = time.monotonic()
        look = await self._shard.promote(BATCH)
        answered = time.monotonic()
        self._offset_us = look.now_us - (asked + answered) / 2 * 1_000_000
        self._looked(look.paused)
        self._metrics.promoted.inc(look.promoted)
        if look.orphans:
            logger.error("timers without a message, dropped (was the data key deleted?): %s", look.orphans)
        if look.promoted == BATCH:
            return
        sleep = SLEEP_SECONDS
        if look.head_us is not None:
            sleep = min(sleep, (look.head_us - look.now_us) / 1_000_000)
        try:
            async with asyncio.timeout(sleep):
                await self._wake.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        """Look again at once."""
        self._wake.set()

    def redis_now_us(self) -> float | None:
        """Redis' clock, to within half a round trip; None before the first answer."""
        return None if self._offset_us is None else self._offset_us + time.monotonic() * 1_000_000

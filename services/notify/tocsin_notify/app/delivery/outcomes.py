"""Keeps every outcome until it is written: a page must not be sent twice because a row could not be written."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tocsin_kit.batches import Batches
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import retry_until

from tocsin_notify.app.delivery.calls import Finished
from tocsin_notify.app.delivery.slots import Slot
from tocsin_notify.domain.page import Kind

_log = get_logger(__name__)

_MOST_PER_BATCH: Final = 200
_GATHER_SECONDS: Final = 0.02
"""From one write of messages' outcomes to the next one. When thousands of messages are due together, some ten of them end
while one write lasts, and a write costs as much for ten as for forty. A single message does not wait."""


class Outcomes:
    """Concludes in batches. While PostgreSQL is away it keeps the outcome and the slot of its call. So the slots bound
    what is kept, and no call starts whose outcome could not be kept."""

    def __init__(
        self,
        conclude: Callable[[list[Finished]], Awaitable[Sequence[None]]],
        stop: asyncio.Event,
        scarce: Callable[[Slot], bool],
    ) -> None:
        """`scarce`: whether others may wait for such a slot, which is free again only when its outcome is written."""
        self._batches: Batches[Finished, None] = Batches(conclude, most=_MOST_PER_BATCH)
        self._stop = stop
        self._scarce = scarce
        self._gathering: asyncio.Future[None] | None = None
        """Those of messages that come now wait for it."""
        self._gathered = 0
        """How many wait for it."""

    async def finished(self, finished: Finished) -> None:
        """Returns once the outcome is committed, or is given up because the process stops: then the lease ends, and the
        message is sent again under the same key."""
        start = finished.start
        if start.delivery.kind is Kind.MESSAGE and not self._scarce(start.slot) and not self._stop.is_set():
            await self._together()
        try:
            await retry_until(self._stop, lambda: self._batches.submit(finished))
        except Exception as error:
            # It cannot be written: each repeat would fail again, and would hold the slot of the call for ever.
            self._lost(finished, error)

    async def drain(self) -> None:
        """Return when every outcome is written."""
        await self._batches.drain()

    async def _together(self) -> None:
        """Wait for the next common write, if one began a moment ago."""
        if self._gathering is None:
            self._gather()
            return
        self._gathered += 1
        await asyncio.shield(self._gathering)

    def _gather(self) -> None:
        loop = asyncio.get_running_loop()
        self._gathering, self._gathered = loop.create_future(), 0
        loop.call_later(_GATHER_SECONDS, self._release)

    def _release(self) -> None:
        gathering, self._gathering = self._gathering, None
        assert gathering is not None, "only this function ends it"
        gathering.set_result(None)
        if self._gathered:
            self._gather()

    def _lost(self, finished: Finished, error: Exception) -> None:
        _log.error(
            "outcome_lost",
            notification=str(finished.start.delivery.notification),
            outcome=type(finished.outcome).__name__,
            error=repr(error),
        )

"""Keeps every outcome until it is written: a page must not be sent twice because a row could not be written."""

import asyncio
from typing import Final

from tocsin_kit.batches import Batches
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import retry_until

from tocsin_notify.app.delivery.calls import Finished
from tocsin_notify.app.delivery.conclude import Conclude

_log = get_logger(__name__)

_MOST_PER_BATCH: Final = 200


class Outcomes:
    """Concludes in batches. While PostgreSQL is away it keeps the outcome and the slot of its call. So the slots bound
    what is kept, and no call starts whose outcome could not be kept."""

    def __init__(self, conclude: Conclude, stop: asyncio.Event) -> None:
        self._batches: Batches[Finished, None] = Batches(conclude, most=_MOST_PER_BATCH)
        self._stop = stop

    async def finished(self, finished: Finished) -> None:
        """Returns once the outcome is committed, or is given up because the process stops: then the lease ends, and the
        message is sent again under the same key."""
        try:
            await retry_until(self._stop, lambda: self._batches.submit(finished))
        except Exception as error:
            # It cannot be written: each repeat would fail again, and would hold the slot of the call for ever.
            self._lost(finished, error)

    async def drain(self) -> None:
        """Return when every outcome is written."""
        await self._batches.drain()

    def _lost(self, finished: Finished, error: Exception) -> None:
        _log.error(
            "outcome_lost",
            notification=str(finished.start.delivery.notification),
            outcome=type(finished.outcome).__name__,
            error=repr(error),
        )

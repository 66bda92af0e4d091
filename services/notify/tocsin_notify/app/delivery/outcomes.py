"""Keeps every outcome until it is written down: a page that was sent must not be sent again for want of a row."""

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
    """Concludes in batches. With PostgreSQL away it holds on to the outcome, and to the call's slot with it: so what is
    kept here is bounded by the slots, and nothing new starts that could not be written down either."""

    def __init__(self, conclude: Conclude, stop: asyncio.Event) -> None:
        self._batches: Batches[Finished, None] = Batches(conclude, most=_MOST_PER_BATCH)
        self._stop = stop

    async def finished(self, finished: Finished) -> None:
        """Returns once it is committed, or given up because the process stops: then the lease ends, and it is sent again
        under the same key."""
        try:
            await retry_until(self._stop, lambda: self._batches.submit(finished))
        except Exception as error:
            # Not to be written down: tried again it would fail again, and hold the call's slot for ever.
            self._lost(finished, error)

    async def drain(self) -> None:
        """Return when everything that was handed over is written."""
        await self._batches.drain()

    def _lost(self, finished: Finished, error: Exception) -> None:
        _log.error(
            "outcome_lost",
            notification=str(finished.start.delivery.notification),
            outcome=type(finished.outcome).__name__,
            error=repr(error),
        )

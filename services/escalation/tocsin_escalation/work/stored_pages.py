"""Asks notify which of the pages that went through Redis it has stored, and deletes their outbox rows.

Such a row is due a second after it was written. The relay would claim it then, and send the whole page once more by RPC. Notify
mostly has the page within milliseconds, and one question tells that of a thousand pages.

Nothing here must succeed: a page of which notify does not say that it has it, and what was to be asked when a process dies, is
left to the relay.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, NamedTuple
from uuid import UUID

from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_for_any, wait_or_stop

from tocsin_escalation.app.incidents.reconcile_pages import Knowing

_log = get_logger(__name__)

ASK_AFTER: Final = 0.7
"""Seconds after a page was handed over: notify has had time for the pages of a storm, and the relay has not looked yet."""
YOUNGEST: Final = 0.2
"""Pages that are this old are asked about together with an older one, so that few pages take few calls."""
_ASKED_AGAIN: Final = 0.5
"""Pages that are younger and that notify does not have yet are asked about once more."""
_MOST_AT_ONCE: Final = 1000
MOST_WAITING: Final = 20_000


class HandedPage(NamedTuple):
    """A page, and its outbox row."""

    org_id: str
    page: UUID
    row: int


class StoredPages:
    """One object per process."""

    def __init__(self, database: Database, notify: Knowing, nudge: Callable[[], None]) -> None:
        """`nudge`: see `outbox.Confirmed`."""
        self._notify = notify
        self._confirmed = outbox.Confirmed(database, nudge)
        self._handed: deque[tuple[float, HandedPage]] = deque()
        self._arrived = asyncio.Event()

    def handed(self, pages: Sequence[HandedPage]) -> None:
        """Redis has taken these. Beyond the bound they are left to the relay."""
        now = monotonic()
        self._handed.extend((now, page) for page in pages[: max(0, MOST_WAITING - len(self._handed))])
        self._arrived.set()

    def stored(self, pages: Sequence[HandedPage]) -> None:
        """Notify has committed these."""
        self._confirmed.note([(each.row, each.org_id) for each in pages])

    async def run(self, stop: asyncio.Event) -> None:
        """The loop."""
        while not stop.is_set():
            await wait_for_any(self._arrived, stop)
            self._arrived.clear()
            while self._handed and not stop.is_set():
                left = self._handed[0][0] + ASK_AFTER - monotonic()
                if left <= 0:
                    await self._ask()
                else:
                    await wait_or_stop(stop, left)
        await self._confirmed.drain()

    async def _ask(self) -> None:
        asked, now = list[tuple[float, HandedPage]](), monotonic()
        while self._handed and self._handed[0][0] <= now - YOUNGEST and len(asked) < _MOST_AT_ONCE:
            asked.append(self._handed.popleft())
        try:
            known = await self._notify.knows([(each.org_id, each.page) for _, each in asked])
        except TocsinError as error:
            _log.info("pages_left_to_relay", pages=len(asked), error=error.message)
            return
        told = list(zip(asked, known, strict=True))
        self.stored([each for (_, each), stopped in told if stopped is not None])
        again = [page for page, stopped in told if stopped is None and page[0] > now - _ASKED_AGAIN]
        self._handed.extendleft(reversed(again))

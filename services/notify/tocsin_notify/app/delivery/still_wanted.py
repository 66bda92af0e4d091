"""Pages that have waited are sent only if their incidents still page people.

An acknowledge stops waiting pages by fences in notify's database. A database that is restored from a backup has lost
the fences of the last minutes, and a standby that takes over may lack those of the last seconds. Nothing in it shows that.
Escalation knows: it is asked before old pages are claimed, and the pages of the incidents that it names are stopped again.
While escalation does not answer, pages are sent: one page too many is better than none.

A restore and a failover end all sessions. What was stored while this process has had its present one is therefore complete, fences
included; everything that was stored before is old.

So is a page that arrived late (`domain.page.LATE`): while this service or the network stood still, its incident may have been
answered, and the stop is behind the page in escalation's outbox.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1.internal_service_pb2 import IncidentStop
from tocsin_kit.bounded import Bounded
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.pages.cancel import Cancel
from tocsin_notify.store.delivery.candidates import Candidate
from tocsin_notify.store.named import Named
from tocsin_notify.store.pages import bundles
from tocsin_notify.store.pages.pages import NOTHING, Fence

_log = get_logger(__name__)

_KNOWN_SECONDS: Final = 10.0
"""An answer is valid for this time: stops that follow are sent to this service. No database is restored in less."""
_PAUSE_SECONDS: Final = 10.0
"""Pause after a question without an answer: each question holds up a round."""
_OLD_SECONDS: Final = 30.0
"""Old in any case: a process that started after a failover never had a session of before."""
_MOST: Final = 1000
"""Incidents in one question."""
_SIZE: Final = 20_000
_REASON: Final = 1024


class StillWanted:
    """One object per process. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        db: Database,
        stops: Callable[[Sequence[Named]], Awaitable[Mapping[Named, IncidentStop]]],
        cancel: Cancel,
        connected_since: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stops`: asks escalation which of the incidents were stopped, and by what; raises TocsinError.

        `connected_since`: when the present session of the process began, by `clock`; None: it has none.
        """
        self._db = db
        self._stops = stops
        self._cancel = cancel
        self._connected_since = connected_since
        self._clock = clock
        self._known: Bounded[Named, float] = Bounded(_SIZE)
        self._silent_until = float("-inf")
        self._asking = asyncio.Lock()

    async def __call__(self, found: Sequence[Candidate]) -> None:
        """Stop the pages of incidents that were stopped. Raises DATABASE_UNAVAILABLE."""
        since = self._connected_since()
        oldest = 0.0 if since is None else min(_OLD_SECONDS, self._clock() - since)
        old = {(each.org_id, each.incident) for each in found if each.age >= oldest and each.incident is not None}
        if old:
            async with self._asking:  # or rounds at the same time would ask about the same incidents
                await self._ask(old)

    async def _ask(self, old: set[Named]) -> None:
        now = self._clock()
        asked = sorted(each for each in old if now - self._known.get(each, float("-inf")) > _KNOWN_SECONDS)
        if not asked or now < self._silent_until:
            return
        async with self._db.system() as tx:
            incidents = sorted({*asked, *await bundles.incidents(tx, asked)})
        try:
            fences = [
                _fence(named, stop)
                for start in range(0, len(incidents), _MOST)
                for named, stop in (await self._stops(incidents[start : start + _MOST])).items()
            ]
        except TocsinError as error:
            self._silent_until = self._clock() + _PAUSE_SECONDS
            _log.info("old_pages_not_confirmed", incidents=len(asked), error=error.message, effect="they are sent")
            return
        if fences:
            await self._stop(fences)
        now = self._clock()
        self._known |= dict.fromkeys(asked, now)

    async def _stop(self, fences: Sequence[Fence]) -> None:
        try:
            stopped = await self._cancel(fences)
        except TocsinError as error:
            if error.reason != ErrorReason.ERROR_REASON_CANCEL_UNCONFIRMED:
                raise
            return  # the fences are set, and no caller waits for the confirmation
        if stopped.cancelled:
            _log.warning(
                "forgotten_stops",
                pages=stopped.cancelled,
                meaning="escalation had stopped them: they came late, or notify's database was restored",
            )


def _fence(named: Named, stop: IncidentStop) -> Fence:
    org_id, incident = named
    final = stop.generation if stop.final else NOTHING
    return Fence(org_id, incident, stop.generation, stop.reason[:_REASON], final)

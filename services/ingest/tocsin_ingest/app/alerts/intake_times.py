"""The time since which alerts and heartbeats could be accepted: code that concludes something from silence must know it.

While no replica serves, or while a limit refuses a sender's alerts, a sender that is alive is not heard. Its incidents must not
be resolved because of that, and no user must be paged for its heartbeats.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError

from tocsin_ingest.store.alerts import intakes

EVERY: Final = 2.0
"""Seconds between two rounds: how late a refusal is stored."""
GAP: Final = timedelta(minutes=1)
"""When no replica could accept alerts for longer than this, it was an outage. A shorter time is none: a busy machine may be late
by as much."""
THROTTLED: Final = (ErrorReason.ERROR_REASON_RATE_LIMITED, ErrorReason.ERROR_REASON_OVERLOADED)
"""Refusals by a limit: the sender is alive, and is told to slow down and to repeat."""
_REASON: Final = 1000


class IntakeTimes:
    """The knowledge of one replica that serves. `round` stores it, for all replicas."""

    def __init__(self, database: Database, able: Callable[[], bool], elapsed: Callable[[], float]) -> None:
        """`able`: whether alerts can be taken here. `elapsed`: seconds that only grow, such as `time.monotonic`."""
        self._database = database
        self._able = able
        self._elapsed = elapsed
        self._renewed: float | None = None
        self._last: datetime | None = None
        self._refused: dict[tuple[str, str], tuple[int, str]] = {}

    def refused(self, org_id: str, integration_id: str | None, error: TocsinError, alerts: int = 1) -> None:
        """So many `alerts`, or a heartbeat (0), were not accepted. None: the integration is not known. It needs no statement."""
        if error.reason in THROTTLED:
            # At most one entry for each existing integration: a sender is known by its key, or by the integration that its call
            # names.
            self._add((org_id, integration_id or ""), alerts, error.message[:_REASON])

    def _add(self, integration: tuple[str, str], alerts: int, reason: str) -> None:
        self._refused[integration] = (self._refused.get(integration, (0, ""))[0] + alerts, reason)

    async def round(self) -> None:
        """Raises DATABASE_UNAVAILABLE."""
        refused, self._refused = self._refused, {}
        elapsed, able = self._elapsed(), self._able()
        paused = self._renewed is None or elapsed - self._renewed > GAP.total_seconds()

        async def work(tx: Tx) -> datetime | None:
            if refused:
                await intakes.refuse(tx, refused)
            return await intakes.renew(tx, GAP, paused=paused, last=self._last) if able else None

        try:
            last = await self._database.run(None, work)
        except BaseException:
            for integration, (alerts, reason) in refused.items():
                self._add(integration, alerts, reason)
            raise
        if last is not None:
            self._last, self._renewed = last, elapsed

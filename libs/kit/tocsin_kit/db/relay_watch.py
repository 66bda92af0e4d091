"""Measures an outbox again and again: for metrics, for the log, and for health."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tocsin_kit.db.outbox_figures import figures
from tocsin_kit.db.pool import Database
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import Sweep
from tocsin_kit.metrics import Metrics

_log = get_logger(__name__)

_MEASURE_EVERY: Final = 5.0
_SAY_EVERY: Final = 60.0


class OutboxLate(Exception):
    """A tenant's oldest undelivered row is older than the limit."""


@dataclass(frozen=True, slots=True)
class _Late:
    tenants: int
    worst_org: str
    worst_age: float


class OutboxWatch:
    """The figures of the rows of `kinds`. A row is late when it is older than `max_age` seconds."""

    def __init__(self, database: Database, kinds: Sequence[str], *, max_age: float, metrics: Metrics | None) -> None:
        self._database = database
        self._kinds = list(kinds)
        self._max_age = max_age
        self._metrics = metrics
        self._late: _Late | None = None
        self._said: dict[str, float] = {}
        self.sweep: Final = Sweep(_MEASURE_EVERY, self.measure, jitter=0.2, first=_MEASURE_EVERY)
        """A loop for the service to add."""

    async def check(self) -> None:
        """A health check that is not critical: raises OutboxLate, from the newest measurement.

        It must not make the service unready: one tenant's rows would then stop all tenants.
        """
        if (late := self._late) is not None:
            raise OutboxLate(
                f"{late.tenants} tenants have undelivered rows older than {self._max_age:.0f} s; "
                f"the oldest is {late.worst_age:.0f} s old"
            )

    async def measure(self) -> None:
        """Once. Raises DATABASE_UNAVAILABLE."""
        async with self._database.system() as tx:
            found = await figures(tx, self._kinds)
        late = [each for each in found.waiting if each.oldest_seconds > self._max_age]
        worst = max(late, key=lambda each: each.oldest_seconds, default=None)
        self._late = None
        if worst is not None:
            self._late = _Late(len({each.org_id for each in late}), worst.org_id, worst.oldest_seconds)
            self._say(
                "outbox_late",
                tenants=self._late.tenants,
                org_id=self._late.worst_org,
                kind=worst.kind,
                seconds=round(self._late.worst_age),
            )
        for kind, row in found.blocked.items():
            self._say("outbox_blocked", kind=kind, keys=row.rows, org_id=row.org_id, ordering_key=row.ordering_key)
        if self._metrics is None:
            return
        for kind in self._kinds:
            rows = found.waiting_of(kind)
            behind = {each.org_id for each in late if each.kind == kind}
            self._metrics.outbox_rows.labels(kind, "waiting").set(sum(each.rows for each in rows))
            self._metrics.outbox_rows.labels(kind, "dead").set(found.dead.get(kind, 0))
            blocked = found.blocked.get(kind)
            self._metrics.outbox_rows.labels(kind, "blocked").set(blocked.rows if blocked else 0)
            self._metrics.outbox_oldest_seconds.labels(kind).set(
                max((each.oldest_seconds for each in rows), default=0.0)
            )
            self._metrics.outbox_late_tenants.labels(kind).set(len(behind))

    def _say(self, event: str, **about: object) -> None:
        """At most once a minute each: it is measured every few seconds."""
        now = time.monotonic()
        if now - self._said.get(event, float("-inf")) >= _SAY_EVERY:
            self._said[event] = now
            _log.error(event, **about)

"""Gaps of the coming days in schedules that policies name: counted and logged while a person can still fill them.

`app.foresight.gap_warnings` says what they mean for each policy.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from tocsin_kit.db.pool import Database
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.schedules import reading
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Coverage, Schedule, Segment
from tocsin_escalation.domain.schedules.questions import times
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.warnings import stretch
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.people import policies
from tocsin_escalation.store.schedules import on_call

_log = get_logger(__name__)

_AT_ONCE: Final = 200


class Watch:
    """Checks the schedules that policies of all tenants name. A gap is logged once by each process, and counted always."""

    def __init__(self, db: Database, metrics: EscalationMetrics, days: int) -> None:
        self._db = db
        self._metrics = metrics
        self._days = days
        self._logged: set[tuple[on_call.Key, int]] = set()

    async def look(self) -> None:
        """One round over all schedules that policies name."""
        after, seen = ("", ""), dict[on_call.Key, tuple[int, int]]()
        while True:
            async with self._db.system() as tx:
                keys = await policies.schedules_named(tx, after, _AT_ONCE)
                now = await tx.now()
                until = now + timedelta(days=self._days)
                begun = await reading.begin(tx, keys, now, until)
            found = await begun.finish(self._db, None)
            segments = await asyncio.to_thread(_segments, found, now, until)
            seen |= {key: gaps[0] for key, each in segments.items() if (gaps := times(each, Coverage.GAP))}
            if len(keys) < _AT_ONCE:
                break
            after = keys[-1]
        self._metrics.gaps_ahead.set(len(seen))
        for (org_id, id), (start, end) in seen.items():
            # A gap is identified by its end: its start moves with the present time once it has begun.
            if ((org_id, id), end) not in self._logged:
                _log.warning("schedule_gap_ahead", org_id=org_id, schedule=id, gap=stretch(start, end))
        self._logged = {(key, end) for key, (_, end) in seen.items()}


def _segments(
    found: Mapping[on_call.Key, Schedule], since: datetime, until: datetime
) -> dict[on_call.Key, tuple[Segment, ...]]:
    return {key: resolve(schedule, minute_of(since), minute_of(until)) for key, schedule in found.items()}

"""Gaps of the coming days: what will leave a level without anybody, told while there is time to do something about it."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from tocsin_kit.db.pool import Database
from tocsin_kit.logging import get_logger

from tocsin_escalation.domain.policy import GapChoice, Level, Policy, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of, time_of
from tocsin_escalation.domain.schedules.model import Schedule, Segment
from tocsin_escalation.domain.schedules.questions import unmanned
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.warnings import Warned
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.people import policies
from tocsin_escalation.store.schedules import on_call

log = get_logger(__name__)

_AT_ONCE = 200
_FOLLOWS = {
    GapChoice.SKIP: "the next level is paged at once then",
    GapChoice.HOLD: "the level waits until somebody comes on call",
    GapChoice.FALLBACK: "the fallback target is paged instead",
}


async def of_policies(db: Database, org_id: str, wanted: Sequence[Policy], days: int) -> list[list[Warned]]:
    """For each policy the first such gap of each of its levels, within the coming days."""
    keys = [(org_id, id_) for policy in wanted for level in policy.levels for id_ in _only_schedules(level)]
    if not keys:
        return [[] for _ in wanted]
    async with db.transaction(org_id) as tx:
        now = await tx.now()
        until = now + timedelta(days=days)
        found = await on_call.load(tx, keys, now, until)
    segments = await asyncio.to_thread(_segments, found, now, until)
    return [_warn(org_id, policy, segments) for policy in wanted]


class Watch:
    """Looks at the schedules that policies of all tenants name. A gap is logged once by each process, and counted always."""

    def __init__(self, db: Database, metrics: EscalationMetrics, days: int) -> None:
        self._db = db
        self._metrics = metrics
        self._days = days
        self._told: set[tuple[on_call.Key, int]] = set()

    async def look(self) -> None:
        """One round."""
        after, seen = ("", ""), dict[on_call.Key, tuple[int, int]]()
        while True:
            async with self._db.system() as tx:
                keys = await policies.schedules_named(tx, after, _AT_ONCE)
                now = await tx.now()
                until = now + timedelta(days=self._days)
                found = await on_call.load(tx, keys, now, until)
            segments = await asyncio.to_thread(_segments, found, now, until)
            seen |= {key: gaps[0] for key, each in segments.items() if (gaps := unmanned([each]))}
            if len(keys) < _AT_ONCE:
                break
            after = keys[-1]
        self._metrics.gaps_ahead.set(len(seen))
        for (org_id, id_), (start, end) in seen.items():
            # The end names the gap: its start moves with the present once it has begun.
            if ((org_id, id_), end) not in self._told:
                log.warning("schedule_gap_ahead", org_id=org_id, schedule=id_, gap=_stretch(start, end))
        self._told = {(key, end) for key, (_, end) in seen.items()}


def _segments(
    found: Mapping[on_call.Key, Schedule], since: datetime, until: datetime
) -> dict[on_call.Key, tuple[Segment, ...]]:
    return {key: resolve(schedule, minute_of(since), minute_of(until)) for key, schedule in found.items()}


def _only_schedules(level: Level) -> list[str]:
    """The schedules of a level that names nothing else; a user or a team beside them is paged no matter what the schedules say."""
    ids = [target.id for target in level.targets if target.kind is TargetKind.SCHEDULE]
    return ids if len(ids) == len(level.targets) else []


def _warn(org_id: str, policy: Policy, segments: Mapping[on_call.Key, tuple[Segment, ...]]) -> list[Warned]:
    warned = []
    for number, level in enumerate(policy.levels, 1):
        known = [segments[org_id, id_] for id_ in _only_schedules(level) if (org_id, id_) in segments]
        if known and (gaps := unmanned(known)):
            names = ", ".join(map(str, level.targets))
            follows = _FOLLOWS.get(policy.on_gap, _FOLLOWS[GapChoice.SKIP])
            text = f"level {number} finds nobody {_stretch(*gaps[0])}, a gap of {names}: {follows}"
            warned.append(Warned(number, level.targets[0], text[:1024]))
    return warned


def _stretch(start: int, end: int) -> str:
    return f"from {time_of(start):%Y-%m-%d %H:%M} to {time_of(end):%Y-%m-%d %H:%M} UTC"

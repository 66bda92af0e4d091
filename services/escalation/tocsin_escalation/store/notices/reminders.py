"""Reminders in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns
from tocsin_kit.db.statements import Statement, constant, param

from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.reminders import ReminderState, Rhythm, Verdict
from tocsin_escalation.store import tables
from tocsin_escalation.store.listed import Cursor, Listed


@dataclass(frozen=True, slots=True)
class ReminderRow:
    """One reminder. `next_time`: None once it has ended. `user_id`: empty for that of a team."""

    id: UUID
    org_id: str
    incident_id: UUID | None
    user_id: str
    team_id: str | None
    text: str
    every_seconds: int | None
    next_time: datetime | None
    state: ReminderState
    state_reason: str
    sent_count: int
    creator: str
    create_time: datetime
    until_resolved: bool

    @property
    def rhythm(self) -> Rhythm:
        """How often it comes."""
        every = None if self.every_seconds is None else timedelta(seconds=self.every_seconds)
        return Rhythm(every, self.until_resolved)


@dataclass(frozen=True, slots=True)
class RemindedIncident:
    """The state of an incident, as far as its reminders need it. For a merged one it is the state of its target.

    People handle the target, so its end ends the reminders of all incidents merged into it.
    """

    incident_id: UUID
    org_id: str
    state: State
    generation: int
    title: str
    source: str
    severity: int
    acknowledged_by: str
    resolved_by: str

    @property
    def who(self) -> str:
        """Who resolved it, or acknowledged it if it is not resolved; empty for neither."""
        return self.resolved_by if self.state is State.RESOLVED else self.acknowledged_by


@dataclass(frozen=True, slots=True)
class NewReminder:
    """One to make. Its pause is whole seconds."""

    id: UUID
    incident_id: UUID | None
    user_id: str
    team_id: str | None
    text: str
    rhythm: Rhythm
    next_time: datetime
    creator: str


def _row(record: Record) -> ReminderRow:
    return ReminderRow(**{**record, "state": ReminderState(record["state"])})


_COLUMNS: Final = columns(ReminderRow)
_TABLE: Final = Listed(
    tables.reminders,
    ReminderRow,
    _row,
    written=("incident_id", "user_id", "team_id", "text", "every_seconds", "until_resolved", "next_time", "creator"),
    filters=("incident_id",),
)
get: Final = _TABLE.get
_MOVE: Final = Statement(
    sa.update(tables.reminders)
    .where(_TABLE.one, tables.reminders.c.state == constant("scheduled"))
    .values(next_time=param("next_time"))
    .returning(*_TABLE.columns)
)
_STOP: Final = Statement(
    sa.update(tables.reminders)
    .where(_TABLE.one)
    .values(state=constant("stopped"), state_reason=param("reason"), next_time=sa.null())
    .returning(*_TABLE.columns)
)
_DUE: Final = f"""
SELECT {_COLUMNS} FROM reminders WHERE state = 'scheduled' AND next_time <= app_now()
ORDER BY next_time, id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_ANY_DUE: Final = "SELECT EXISTS (SELECT FROM reminders WHERE state = 'scheduled' AND next_time <= app_now())"
_SETTLE: Final = """
UPDATE reminders r SET state = g.state, state_reason = g.reason, next_time = g.next_time, sent_count = r.sent_count + g.sent::int
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::boolean[])
  AS g(org_id, id, state, reason, next_time, sent)
WHERE r.id = g.id AND r.org_id = g.org_id
"""
_INSERT_ALL: Final = """
INSERT INTO reminders (org_id, id, incident_id, user_id, team_id, next_time, creator, text)
SELECT org_id, id, incident_id, user_id, team_id, next_time, creator, ''
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::text[])
  AS n(org_id, id, incident_id, user_id, team_id, next_time, creator)
"""
_STANDINGS: Final = f"""
SELECT g.incident_id AS asked, {columns(RemindedIncident, of="e")} FROM unnest($1::text[], $2::uuid[]) AS g(org_id, incident_id)
JOIN escalations own ON own.incident_id = g.incident_id AND own.org_id IS NOT DISTINCT FROM g.org_id
JOIN escalations e ON e.incident_id = CASE WHEN own.state = 'merged' THEN own.merged_into ELSE own.incident_id END
                  AND e.org_id = own.org_id
"""


async def insert(tx: Tx, new: NewReminder) -> ReminderRow:
    """A scheduled one."""
    call = _TABLE.inserting(
        org_id=tx.org_id,
        id=new.id,
        incident_id=new.incident_id,
        user_id=new.user_id,
        team_id=new.team_id,
        text=new.text,
        every_seconds=None if new.rhythm.every is None else new.rhythm.every // timedelta(seconds=1),
        until_resolved=new.rhythm.until_resolved,
        next_time=new.next_time,
        creator=new.creator,
    )
    return _TABLE.returned(await tx.fetchrow(*call))


async def insert_all(tx: Tx, news: Sequence[tuple[str, NewReminder]]) -> None:
    """Scheduled ones of several tenants, each of which comes once and has no text."""
    await tx.execute(
        _INSERT_ALL,
        [org_id for org_id, _ in news],
        [new.id for _, new in news],
        [new.incident_id for _, new in news],
        [new.user_id for _, new in news],
        [new.team_id for _, new in news],
        [new.next_time for _, new in news],
        [new.creator for _, new in news],
    )


async def page(tx: Tx, incident_id: UUID | None, after: Cursor, limit: int) -> list[ReminderRow]:
    """Those of an incident, or of all, oldest first, behind `after`."""
    call = _TABLE.paging(tx.org_id, after, limit, incident_id=incident_id)
    return [_row(record) for record in await tx.fetch(*call)]


async def move(tx: Tx, id: UUID, next_time: datetime) -> ReminderRow:
    """Give a locked, scheduled one another time."""
    return _TABLE.returned(await tx.fetchrow(*_MOVE(org_id=tx.org_id, id=id, next_time=next_time)))


async def stop(tx: Tx, id: UUID, reason: str) -> ReminderRow:
    """End a locked one."""
    return _TABLE.returned(await tx.fetchrow(*_STOP(org_id=tx.org_id, id=id, reason=reason)))


async def is_any_due(tx: Tx) -> bool:
    """Of all tenants, also if another replica works on it."""
    found: bool = await tx.fetchval(_ANY_DUE)
    return found


async def due(tx: Tx, limit: int) -> list[ReminderRow]:
    """Those of all tenants that are due, oldest first, locked; without those that another replica works on."""
    return [_row(record) for record in await tx.fetch(_DUE, limit)]


async def settle(tx: Tx, verdicts: Sequence[tuple[ReminderRow, Verdict]]) -> None:
    """Write the new state of locked ones."""
    await tx.execute(
        _SETTLE,
        [row.org_id for row, _ in verdicts],
        [row.id for row, _ in verdicts],
        [verdict.state for _, verdict in verdicts],
        [verdict.reason for _, verdict in verdicts],
        [verdict.next_time for _, verdict in verdicts],
        [verdict.sends for _, verdict in verdicts],
    )


async def standings(
    tx: Tx, incidents: Sequence[tuple[str, UUID]], *, lock: bool = False
) -> dict[UUID, RemindedIncident]:
    """The states of these incidents (tenant, id), by their own id. `lock`: none of them is deleted until the transaction ends."""
    sql = _STANDINGS + ("FOR KEY SHARE OF own" if lock else "")
    records = await tx.fetch(sql, [org for org, _ in incidents], [id for _, id in incidents])
    return {asked: RemindedIncident(**{**row, "state": State(row["state"])}) for asked, row in map(_asked, records)}


def _asked(record: Record) -> tuple[UUID, dict[str, Any]]:
    row = dict(record)
    return row.pop("asked"), row

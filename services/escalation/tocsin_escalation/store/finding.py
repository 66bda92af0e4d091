"""Finding escalations: filters, words, orders and counts. No query here grows with a tenant's history."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_escalation.store.escalations import COLUMNS, FROM, EscalationRow, to_row

MOST_WORDS: Final = 10
MOST_SCANNED: Final = 10_000
"""Rows that one page looks at when no index knows what is asked for: reading them takes some tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What ListIncidents can ask for; unset means any. Each word must be in the title, the source or a label."""

    states: tuple[str, ...] = ()
    policy: str = ""
    team: str = ""
    assignee: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    reached: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @property
    def scans(self) -> bool:
        """Whether rows must be looked at one by one, as no index of an order knows this."""
        return bool(self.reached or self.severities or self.labels or self.words)


@dataclass(frozen=True, slots=True)
class Found:
    """A page, and where the next one begins behind: `end` is None when nothing is left."""

    rows: list[EscalationRow]
    end: tuple[datetime, UUID] | None


@dataclass(frozen=True, slots=True)
class Count:
    """So many incidents are in this state and of this severity."""

    state: str
    severity: int
    count: int


class _Where:
    """Conditions with their numbered values."""

    def __init__(self, *values: object) -> None:
        self.values = list(values)
        self.conditions: list[str] = []

    def add(self, condition: str, *bound: object) -> None:
        names = [f"${len(self.values) + number}" for number in range(1, len(bound) + 1)]
        self.values.extend(bound)
        self.conditions.append(condition.format(*names))

    def __str__(self) -> str:
        return " AND ".join(self.conditions)


async def newest(tx: Tx, filters: Filters, before: tuple[datetime, UUID] | None, limit: int) -> Found:
    """This tenant's escalations that fit, newest first, behind `before`; fewer than there are if too many must be looked at."""
    where = _indexed(tx.org_id, filters)
    if before:
        where.add("(e.create_time, e.incident_id) < ({}, {}::uuid)", *before)
    last = None
    if filters.scans:
        last = await tx.fetchrow(
            f"""SELECT e.create_time, e.incident_id FROM escalations e WHERE {where}
                ORDER BY e.create_time DESC, e.incident_id DESC OFFSET {MOST_SCANNED - 1} LIMIT 1""",
            *where.values,
        )
        if last is not None:
            where.add("(e.create_time, e.incident_id) >= ({}, {}::uuid)", last["create_time"], last["incident_id"])
        _look_at_each(where, filters)
    where.values.append(limit + 1)
    records = await tx.fetch(
        f"""SELECT {COLUMNS} {FROM} WHERE {where}
            ORDER BY e.create_time DESC, e.incident_id DESC LIMIT ${len(where.values)}""",
        *where.values,
    )
    rows = list(map(to_row, records[:limit]))
    if len(records) > limit:
        return Found(rows, (rows[-1].run.facts.create_time, rows[-1].run.incident_id))
    return Found(rows, (last["create_time"], last["incident_id"]) if last is not None else None)


async def worst(tx: Tx, filters: Filters, behind: tuple[int, datetime, UUID] | None, limit: int) -> list[EscalationRow]:
    """This tenant's unresolved escalations that fit, critical first and the newest of each severity first."""
    where = _indexed(tx.org_id, filters)
    where.add("e.state <> 'resolved'")
    _look_at_each(where, filters)
    if behind:
        severity, created, id_ = behind
        where.add(
            "(e.severity > {0} OR (e.severity = {0} AND (e.create_time, e.incident_id) < ({1}, {2}::uuid)))",
            severity,
            created,
            id_,
        )
    where.values.append(limit)
    records = await tx.fetch(
        f"""SELECT {COLUMNS} {FROM} WHERE {where}
            ORDER BY e.severity, e.create_time DESC, e.incident_id DESC LIMIT ${len(where.values)}""",
        *where.values,
    )
    return list(map(to_row, records))


async def counts(tx: Tx, policy: str, team: str) -> list[Count]:
    """How many unresolved escalations this tenant has, by state and severity."""
    where = _indexed(tx.org_id, Filters(policy=policy, team=team))
    where.add("e.state <> 'resolved'")
    records = await tx.fetch(
        f"""SELECT e.state, e.severity, count(*) AS count FROM escalations e WHERE {where}
            GROUP BY e.state, e.severity ORDER BY e.state, e.severity""",
        *where.values,
    )
    return [Count(record["state"], record["severity"], record["count"]) for record in records]


def _indexed(org_id: str, filters: Filters) -> _Where:
    where = _Where()
    where.add("e.org_id = {}", org_id)
    if filters.states:
        where.add("e.state = ANY({}::text[])", list(filters.states))
    if filters.policy:
        where.add("e.policy_id = {}", filters.policy)
    if filters.team:
        where.add("e.team = {}", filters.team)
    if filters.assignee:
        where.add("e.assignees @> ARRAY[{}::text]", filters.assignee)
    if filters.start_time:
        where.add("e.create_time >= {}", filters.start_time)
    if filters.end_time:
        where.add("e.create_time < {}", filters.end_time)
    return where


def _look_at_each(where: _Where, filters: Filters) -> None:
    if filters.reached:
        where.add("e.reached = ANY({}::text[])", list(filters.reached))
    if filters.severities:
        where.add("e.severity = ANY({}::smallint[])", list(filters.severities))
    if filters.labels:
        where.add("e.labels @> {}::jsonb", json.dumps(dict(filters.labels)))
    for word in filters.words:
        where.add(
            """(strpos(lower(e.title), {0}) > 0 OR strpos(lower(e.source), {0}) > 0
                OR EXISTS (SELECT FROM jsonb_each_text(e.labels) WHERE strpos(lower(value), {0}) > 0))""",
            word,
        )


def words_of(query: str) -> tuple[str, ...]:
    """The words of a search, in small letters."""
    return tuple(dict.fromkeys(query.lower().split()))

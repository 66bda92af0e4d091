"""Finds escalations: filters, words, orders and counts. No query here grows with a tenant's history."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from sqlalchemy.dialects.postgresql import JSONB
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Filtered, constant, param

from tocsin_escalation.store.incidents.escalations import SELECT, E, EscalationRow, to_row

MOST_WORDS: Final = 10
MOST_SCANNED: Final = 10_000
"""The most rows that one page reads when no index covers the filter: reading them takes some tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class Filters:
    """A filter; unset fields match all. Each word must be in the title, the source or a label. `but`: all except this one."""

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
    follower: str = ""
    but: UUID | None = None

    @property
    def scans(self) -> bool:
        """Whether rows must be read one by one, because no index of an order covers the filter."""
        return bool(self.reached or self.severities or self.labels or self.words or self.follower)


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A page, and the place after which the next one begins: `end` is None at the end."""

    rows: list[EscalationRow]
    end: tuple[datetime, UUID] | None


@dataclass(frozen=True, slots=True)
class Counted:
    """How many incidents of a page match, and the place after which the next one begins: `end` is None at the end."""

    count: int
    end: tuple[datetime, UUID] | None


@dataclass(frozen=True, slots=True)
class Count:
    """So many incidents are in this state and of this severity."""

    state: str
    severity: int
    count: int


_C: Final = E.c
_MINE: Final = _C.org_id == param("org_id")
_OPEN: Final = _C.state != constant("resolved")
_PLACE: Final = sa.tuple_(_C.create_time, _C.incident_id)
_BEFORE: Final = sa.tuple_(param("before_time"), param("before_id"))
_LAST: Final = sa.tuple_(param("last_time"), param("last_id"))
_NEWEST_FIRST: Final = (_C.create_time.desc(), _C.incident_id.desc())
_INDEXED: Final = (
    _C.state == sa.any_(param("states", sa.ARRAY(sa.Text))),
    _C.policy_id == param("policy"),
    _C.team == param("team"),
    _C.assignees.contains(param("assignees", sa.ARRAY(sa.Text))),
    _C.create_time >= param("start_time"),
    _C.create_time < param("end_time"),
    _C.incident_id != param("but"),
)
_LABEL: Final = sa.func.jsonb_each_text(_C.labels).table_valued("value", name="label")
_WORDS: Final = tuple(f"word{number}" for number in range(MOST_WORDS))


def _contains(text: sa.ColumnElement[str], word: str) -> sa.ColumnElement[bool]:
    return sa.func.strpos(sa.func.lower(text), param(word, sa.Text)) > constant(0)


_LOOKED_AT: Final = (
    _C.reached == sa.any_(param("reached", sa.ARRAY(sa.Text))),
    _C.severity == sa.any_(param("severities", sa.ARRAY(sa.SmallInteger))),
    _C.labels.contains(param("labels", JSONB)),
    _C.followers.has_key(param("follower", sa.Text)),
    *(
        sa.or_(
            _contains(_C.title, word),
            _contains(_C.source, word),
            sa.exists().select_from(_LABEL).where(_contains(_LABEL.c.value, word)),
        )
        for word in _WORDS
    ),
)
_NEWEST: Final = Filtered(
    SELECT.where(_MINE).order_by(*_NEWEST_FIRST).limit(param("limit")),
    *(_PLACE < _BEFORE, _PLACE >= _LAST, *_INDEXED, *_LOOKED_AT),
)
_FITTING: Final = Filtered(
    sa.select(_C.create_time, _C.incident_id).where(_MINE).order_by(*_NEWEST_FIRST).limit(param("limit")),
    *(_PLACE < _BEFORE, _PLACE >= _LAST, *_INDEXED, *_LOOKED_AT),
)
_LAST_SCANNED: Final = Filtered(
    sa.select(_C.create_time, _C.incident_id)
    .where(_MINE)
    .order_by(*_NEWEST_FIRST)
    .offset(constant(MOST_SCANNED - 1))
    .limit(constant(1)),
    *(_PLACE < _BEFORE, *_INDEXED),
)
_WORST: Final = Filtered(
    SELECT.where(_MINE, _OPEN).order_by(_C.severity, *_NEWEST_FIRST).limit(param("limit")),
    sa.or_(_C.severity > param("before_severity"), sa.and_(_C.severity == param("before_severity"), _PLACE < _BEFORE)),
    *(*_INDEXED, *_LOOKED_AT),
)
_COUNTS: Final = Filtered(
    sa.select(_C.state, _C.severity, sa.func.count())
    .where(_MINE, _OPEN)
    .group_by(_C.state, _C.severity)
    .order_by(_C.state, _C.severity),
    *(_C.policy_id == param("policy"), _C.team == param("team")),
)


async def newest(tx: Tx, filters: Filters, before: tuple[datetime, UUID] | None, limit: int) -> FoundPage:
    """This tenant's matching escalations, newest first, after `before`; a page may be short if too many rows would have to be
    read."""
    records, end = await _page(tx, filters, before, limit, whole=True)
    return FoundPage(list(map(to_row, records)), end)


async def count(tx: Tx, filters: Filters, before: tuple[datetime, UUID] | None, most: int) -> Counted:
    """How many `newest` returns with this limit, without reading them."""
    records, end = await _page(tx, filters, before, most, whole=False)
    return Counted(len(records), end)


async def _page(
    tx: Tx, filters: Filters, before: tuple[datetime, UUID] | None, limit: int, *, whole: bool
) -> tuple[list[Record], tuple[datetime, UUID] | None]:
    """The records after `before`, whole or only their places; and the place after which the next ones begin, None at the end."""
    before_time, before_id = before or (None, None)
    indexed = _indexed(filters) | {"org_id": tx.org_id, "before_time": before_time, "before_id": before_id}
    last = await tx.fetchrow(*_LAST_SCANNED(**indexed)) if filters.scans else None
    end = None if last is None else (last["create_time"], last["incident_id"])
    last_time, last_id = end or (None, None)
    statement = _NEWEST if whole else _FITTING
    page = statement(**indexed, **_looked_at(filters), last_time=last_time, last_id=last_id, limit=limit + 1)
    records = await tx.fetch(*page)
    if len(records) > limit:
        return records[:limit], (records[limit - 1]["create_time"], records[limit - 1]["incident_id"])
    return records, end


async def worst(tx: Tx, filters: Filters, behind: tuple[int, datetime, UUID] | None, limit: int) -> list[EscalationRow]:
    """This tenant's unresolved matching escalations, critical first and the newest of each severity first."""
    severity, before_time, before_id = behind or (None, None, None)
    page = _WORST(
        **_indexed(filters),
        **_looked_at(filters),
        org_id=tx.org_id,
        before_severity=severity,
        before_time=before_time,
        before_id=before_id,
        limit=limit,
    )
    return list(map(to_row, await tx.fetch(*page)))


async def counts(tx: Tx, policy: str, team: str) -> list[Count]:
    """How many unresolved escalations this tenant has, by state and severity."""
    found = _COUNTS(org_id=tx.org_id, policy=policy or None, team=team or None)
    return [Count(*row) for row in await tx.fetch(*found)]


def _indexed(filters: Filters) -> dict[str, object]:
    return {
        "states": list(filters.states) or None,
        "policy": filters.policy or None,
        "team": filters.team or None,
        "assignees": [filters.assignee] if filters.assignee else None,
        "start_time": filters.start_time,
        "end_time": filters.end_time,
        "but": filters.but,
    }


def _looked_at(filters: Filters) -> dict[str, object]:
    words = dict(zip_longest(_WORDS, filters.words))
    return {
        "reached": list(filters.reached) or None,
        "severities": list(filters.severities) or None,
        "follower": filters.follower or None,
        "labels": json.dumps(dict(filters.labels)) if filters.labels else None,
        **words,
    }


def words_of(query: str) -> tuple[str, ...]:
    """The words of a search, in small letters."""
    return tuple(dict.fromkeys(query.lower().split()))

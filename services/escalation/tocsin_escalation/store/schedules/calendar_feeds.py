"""Calendar feeds in PostgreSQL: their secrets as hashes, and the events that each has shown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Statement, columns_of, constant, param

from tocsin_escalation.domain.calendars.feed import Event, Shift
from tocsin_escalation.store import tables
from tocsin_escalation.store.listed import Cursor, Listed

_FETCH_NOTED: Final = "1 hour"
"""A read of a feed is stored at most this often: calendar programs read all day."""


@dataclass(frozen=True, slots=True)
class FeedRow:
    """A feed as kept. One of `user_id` and `schedule_id` is empty."""

    id: UUID
    user_id: str
    schedule_id: str
    display_name: str
    prefix: str
    author: str
    create_time: datetime | None = None
    last_fetch_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """The events that a feed has shown. `version` counts its changes."""

    events: tuple[Event, ...]
    version: int


@dataclass(frozen=True, slots=True)
class FoundFeed:
    """The tenant and the feed of a secret."""

    secret_hash: bytes
    org_id: str
    id: UUID


def _row(record: Record) -> FeedRow:
    return FeedRow(**dict(record))


_WRITTEN: Final = ("user_id", "schedule_id", "display_name", "prefix", "author")
_C: Final = tables.calendar_feeds.c
_TABLE: Final = Listed(
    tables.calendar_feeds, FeedRow, _row, written=(*_WRITTEN, "secret_hash"), filters=("user_id", "schedule_id")
)
get: Final = _TABLE.get
delete: Final = _TABLE.delete
_FIND: Final = Statement(
    sa.select(*columns_of(tables.calendar_feeds, FoundFeed)).where(
        _C.secret_hash == sa.any_(param("hashes", ARRAY(sa.LargeBinary)))
    )
)
_SHOWN: Final = Statement(sa.select(_C.events, _C.events_version).where(_TABLE.one))
_SHOW: Final = Statement(
    sa.update(tables.calendar_feeds)
    .where(_TABLE.one, _C.events_version == param("version"))
    .values(events=param("events"), events_version=_C.events_version + constant(1))
    .returning(_C.id)
)
_NOTE_FETCH: Final = Statement(
    sa.update(tables.calendar_feeds)
    .where(
        _TABLE.one,
        sa.or_(
            _C.last_fetch_time.is_(None),
            _C.last_fetch_time < sa.func.app_now() - sa.cast(constant(_FETCH_NOTED), INTERVAL),
        ),
    )
    .values(last_fetch_time=sa.func.app_now())
)


async def insert(tx: Tx, row: FeedRow, digest: bytes) -> FeedRow:
    """A new feed, which has shown no event yet."""
    values = {name: getattr(row, name) for name in _WRITTEN}
    new = _TABLE.inserting(org_id=tx.org_id, id=row.id, secret_hash=digest, **values)
    return _TABLE.returned(await tx.fetchrow(*new))


async def page(tx: Tx, user: str, schedule: str, after: Cursor | None, limit: int) -> list[FeedRow]:
    """This tenant's (of one user or schedule, if it is not empty), oldest first, behind `after`."""
    call = _TABLE.paging(tx.org_id, after, limit, user_id=user or None, schedule_id=schedule or None)
    return [_row(record) for record in await tx.fetch(*call)]


async def find(tx: Tx, hashes: Sequence[bytes]) -> list[FoundFeed]:
    """Those among all tenants' feeds: the tenant is known only from the secret."""
    return [FoundFeed(*record) for record in await tx.fetch(*_FIND(hashes=list(hashes)))]


async def shown(tx: Tx, id: UUID) -> Shown | None:
    """What the feed has shown; None when there is no such feed."""
    record = await tx.fetchrow(*_SHOWN(org_id=tx.org_id, id=id))
    return None if record is None else Shown(_events_from(record["events"]), record["events_version"])


async def show(tx: Tx, id: UUID, before: Shown, events: Sequence[Event]) -> bool:
    """Store the events that the feed shows now; False when it was changed or deleted since `before` was read."""
    call = _SHOW(org_id=tx.org_id, id=id, version=before.version, events=_events_to(events))
    return await tx.fetchval(*call) is not None


async def note_fetch(tx: Tx, id: UUID) -> None:
    """Store that the feed is read now."""
    await tx.execute(*_NOTE_FETCH(org_id=tx.org_id, id=id))


async def schedules_naming(tx: Tx, users: Sequence[str], since: datetime, until: datetime, limit: int) -> list[str]:
    """The ids of schedules that can put one of the users on call within [since, until), in order, at most `limit`."""
    records = await tx.fetch(
        """SELECT id FROM schedules s
           WHERE org_id = $1 AND (layers @> ANY($3::jsonb[])
             OR EXISTS (SELECT FROM schedule_overrides o WHERE o.org_id = $1 AND o.schedule_id = s.id
                        AND o.end_time > $5 AND o.start_time < $6 AND $2::text[] && o.users)
             OR EXISTS (SELECT FROM fixed_periods p WHERE p.org_id = $1 AND p.schedule_id = s.id
                        AND p.end_time > $5 AND p.start_time < $6 AND p.shifts @> ANY($4::jsonb[]))
             OR EXISTS (SELECT FROM calendar_imports c WHERE c.org_id = $1 AND c.schedule_id = s.id
                        AND c.shifts @> ANY($4::jsonb[])))
           ORDER BY id LIMIT $7""",
        tx.org_id,
        list(users),
        [json.dumps([{"line_up": [[user]]}]) for user in users],
        [json.dumps([[[user]]]) for user in users],
        since,
        until,
        limit,
    )
    return [record["id"] for record in records]


async def display_names(tx: Tx, users: Sequence[str], schedules: Sequence[str]) -> dict[tuple[str, str], str]:
    """The display names of those that exist, by `user` or `schedule` and the id."""
    records = await tx.fetch(
        """SELECT 'user' AS kind, id, display_name FROM users WHERE org_id = $1 AND id = ANY($2::text[])
           UNION ALL
           SELECT 'schedule', id, display_name FROM schedules WHERE org_id = $1 AND id = ANY($3::text[])""",
        tx.org_id,
        list(users),
        list(schedules),
    )
    return {(record["kind"], record["id"]): record["display_name"] for record in records}


def _events_to(events: Sequence[Event]) -> str:
    return json.dumps(
        [
            [
                event.shift.schedule,
                event.shift.user,
                event.shift.start,
                event.shift.end,
                event.shift.reason,
                event.shift.instead_of,
                event.sequence,
                event.modified,
                event.cancelled,
            ]
            for event in events
        ],
        separators=(",", ":"),
    )


def _events_from(text: str) -> tuple[Event, ...]:
    return tuple(
        Event(Shift(*shift), sequence, modified, cancelled)
        for *shift, sequence, modified, cancelled in json.loads(text)
    )

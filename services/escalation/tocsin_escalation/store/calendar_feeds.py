"""Calendar feeds in PostgreSQL: their secrets as hashes, and what each has shown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_escalation.domain.calendars.feed import Event, Shift

_FETCH_NOTED: Final = "1 hour"
"""A read of a feed is written down at most this often: calendar programs read all day."""


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
    """What a feed has shown. `version` counts its changes."""

    events: tuple[Event, ...]
    version: int


@dataclass(frozen=True, slots=True)
class FoundFeed:
    """Whose secret it is."""

    secret_hash: bytes
    org_id: str
    id: UUID


COLUMNS: Final = columns(FeedRow)
_NAMES: Final = tuple(each.name for each in fields(FeedRow))


def _row(record: Record) -> FeedRow:
    return FeedRow(**{name: record[name] for name in _NAMES})


async def insert(tx: Tx, row: FeedRow, digest: bytes) -> FeedRow:
    """A new feed, which has shown nothing yet."""
    record = await tx.fetchrow(
        f"""INSERT INTO calendar_feeds (org_id, id, user_id, schedule_id, display_name, prefix, author, secret_hash)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {COLUMNS}""",
        tx.org_id,
        row.id,
        row.user_id,
        row.schedule_id,
        row.display_name,
        row.prefix,
        row.author,
        digest,
    )
    assert record is not None, "an insert returns its row"
    return _row(record)


async def get(tx: Tx, id_: UUID, *, lock: bool = False) -> FeedRow | None:
    """One feed of this tenant."""
    query = f"SELECT {COLUMNS} FROM calendar_feeds WHERE org_id = $1 AND id = $2" + (" FOR UPDATE" if lock else "")
    record = await tx.fetchrow(query, tx.org_id, id_)
    return _row(record) if record else None


async def page(tx: Tx, user: str, schedule: str, after: tuple[datetime, UUID] | None, limit: int) -> list[FeedRow]:
    """This tenant's (of one user or schedule, if it is not empty), oldest first, behind `after`."""
    records = await tx.fetch(
        f"""SELECT {COLUMNS} FROM calendar_feeds
            WHERE org_id = $1 AND ($2 = '' OR user_id = $2) AND ($3 = '' OR schedule_id = $3)
              AND ($4::timestamptz IS NULL OR (create_time, id) > ($4, $5))
            ORDER BY create_time, id LIMIT $6""",
        tx.org_id,
        user,
        schedule,
        *(after or (None, None)),
        limit,
    )
    return [_row(record) for record in records]


async def delete(tx: Tx, id_: UUID) -> None:
    """A feed's end."""
    await tx.execute("DELETE FROM calendar_feeds WHERE org_id = $1 AND id = $2", tx.org_id, id_)


async def find(tx: Tx, hashes: Sequence[bytes]) -> list[FoundFeed]:
    """Those among all tenants' feeds: whose a feed is only its secret tells."""
    records = await tx.fetch(
        f"SELECT {columns(FoundFeed)} FROM calendar_feeds WHERE secret_hash = ANY($1)", list(hashes)
    )
    return [FoundFeed(*record) for record in records]


async def shown(tx: Tx, id_: UUID) -> Shown | None:
    """What the feed has shown; None when there is no such feed."""
    record = await tx.fetchrow(
        "SELECT events, events_version FROM calendar_feeds WHERE org_id = $1 AND id = $2", tx.org_id, id_
    )
    return None if record is None else Shown(_events_from(record["events"]), record["events_version"])


async def show(tx: Tx, id_: UUID, before: Shown, events: Sequence[Event]) -> bool:
    """Note what the feed shows now; False when it was changed or deleted since `before` was read."""
    changed = await tx.fetchval(
        """UPDATE calendar_feeds SET events = $4, events_version = events_version + 1
           WHERE org_id = $1 AND id = $2 AND events_version = $3 RETURNING true""",
        tx.org_id,
        id_,
        before.version,
        _events_to(events),
    )
    return bool(changed)


async def note_fetch(tx: Tx, id_: UUID) -> None:
    """The feed is read now."""
    await tx.execute(
        f"""UPDATE calendar_feeds SET last_fetch_time = app_now() WHERE org_id = $1 AND id = $2
              AND (last_fetch_time IS NULL OR last_fetch_time < app_now() - interval '{_FETCH_NOTED}')""",
        tx.org_id,
        id_,
    )


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
    """The names of those that exist, by `user` or `schedule` and the id."""
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

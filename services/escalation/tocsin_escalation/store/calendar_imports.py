"""Calendars of others in PostgreSQL: where each is found, and what it said last."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_escalation.domain.schedules.model import FixedShift, Mode
from tocsin_escalation.store.fixed_periods import shifts_from


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A layer of a schedule. `url` is encrypted; `names` are users by what they are called in the calendar.

    `shifts` are those of the last time that it could be read, `read_time`; `error`: why it could not be read since.
    """

    id: UUID
    schedule_id: str
    display_name: str
    url: bytes
    host: str
    time_zone: str
    rank: int
    mode: Mode
    names: Mapping[str, str]
    author: str
    create_time: datetime | None = None
    fetch_time: datetime | None = None
    read_time: datetime | None = None
    error: str = ""
    shifts: tuple[FixedShift, ...] = ()
    cut: bool = False
    unmatched: tuple[str, ...] = ()
    version: int = 1


@dataclass(frozen=True, slots=True)
class Due:
    """A calendar of any tenant that is to be read. `zone`: of events that name none."""

    org_id: str
    id: UUID
    version: int
    url: bytes
    zone: str
    names: Mapping[str, str] = field(default_factory=dict)


def _row(record: Record) -> ImportRow:
    values = dict(record)
    return ImportRow(
        **{
            **values,
            "mode": Mode(values["mode"]),
            "names": json.loads(values["names"]),
            "shifts": shifts_from(json.loads(values["shifts"])),
            "unmatched": tuple(values["unmatched"]),
        }
    )


COLUMNS: Final = columns(ImportRow)


async def insert(tx: Tx, row: ImportRow) -> ImportRow:
    """A new one, which is read as soon as it can be."""
    record = await tx.fetchrow(
        f"""INSERT INTO calendar_imports (org_id, id, schedule_id, display_name, url, host, time_zone, rank, mode, names, author)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING {COLUMNS}""",
        tx.org_id,
        row.id,
        row.schedule_id,
        row.display_name,
        row.url,
        row.host,
        row.time_zone,
        row.rank,
        row.mode.value,
        json.dumps(dict(row.names)),
        row.author,
    )
    assert record is not None, "an insert returns its row"
    return _row(record)


async def update(tx: Tx, row: ImportRow, *, read_anew: bool) -> ImportRow:
    """What people say of it, as in `row`. With `read_anew` it is read as soon as it can be."""
    record = await tx.fetchrow(
        f"""UPDATE calendar_imports SET display_name = $3, url = $4, host = $5, time_zone = $6, rank = $7, mode = $8, names = $9,
              version = version + 1, due_time = CASE WHEN $10 THEN app_now() ELSE due_time END
            WHERE org_id = $1 AND id = $2 RETURNING {COLUMNS}""",
        tx.org_id,
        row.id,
        row.display_name,
        row.url,
        row.host,
        row.time_zone,
        row.rank,
        row.mode.value,
        json.dumps(dict(row.names)),
        read_anew,
    )
    assert record is not None, "its row is locked"
    return _row(record)


async def get(tx: Tx, id_: UUID, *, lock: bool = False) -> ImportRow | None:
    """One of this tenant."""
    query = f"SELECT {COLUMNS} FROM calendar_imports WHERE org_id = $1 AND id = $2{' FOR UPDATE' if lock else ''}"
    record = await tx.fetchrow(query, tx.org_id, id_)
    return _row(record) if record else None


async def page(tx: Tx, schedule: str, after: UUID, limit: int) -> list[ImportRow]:
    """This tenant's (of one schedule, if `schedule` is not empty) by id, behind `after`."""
    records = await tx.fetch(
        f"""SELECT {COLUMNS} FROM calendar_imports
            WHERE org_id = $1 AND ($2 = '' OR schedule_id = $2) AND id > $3 ORDER BY id LIMIT $4""",
        tx.org_id,
        schedule,
        after,
        limit,
    )
    return list(map(_row, records))


async def of_schedule(tx: Tx, schedule: str) -> int:
    """How many a schedule has."""
    found: int = await tx.fetchval(
        "SELECT count(*) FROM calendar_imports WHERE org_id = $1 AND schedule_id = $2", tx.org_id, schedule
    )
    return found


async def delete(tx: Tx, id_: UUID) -> None:
    """Its shifts go with it."""
    await tx.execute("DELETE FROM calendar_imports WHERE org_id = $1 AND id = $2", tx.org_id, id_)


async def claim(tx: Tx, again_seconds: float, limit: int) -> list[Due]:
    """Those of all tenants that are due, tenants in turn. Each is due again after so many seconds, whatever comes of it."""
    records = await tx.fetch(
        """UPDATE calendar_imports c SET due_time = app_now() + make_interval(secs => $1), fetch_time = app_now()
           FROM schedules s
           WHERE (c.org_id, c.id) IN (
               SELECT org_id, id FROM (SELECT org_id, id, due_time,
                                              row_number() OVER (PARTITION BY org_id ORDER BY due_time) AS place
                                       FROM calendar_imports WHERE due_time <= app_now()) d
               ORDER BY place, due_time LIMIT $2)
             AND c.due_time <= app_now() -- another replica may have been quicker
             AND s.org_id = c.org_id AND s.id = c.schedule_id
           RETURNING c.org_id, c.id, c.version, c.url, coalesce(nullif(c.time_zone, ''), s.time_zone) AS zone, c.names""",
        again_seconds,
        limit,
    )
    return [Due(r["org_id"], r["id"], r["version"], r["url"], r["zone"], json.loads(r["names"])) for r in records]


async def known(tx: Tx, texts: Collection[str]) -> dict[str, str]:
    """Users of this tenant by id and display name in lower case, as far as the texts have them."""
    records = await tx.fetch(
        """SELECT id, lower(display_name) AS name FROM users
           WHERE org_id = $1 AND (id = ANY($2::text[]) OR lower(display_name) = ANY($2::text[])) ORDER BY id DESC""",
        tx.org_id,
        list(texts),
    )
    # Of several who are called alike the first by id; an id comes before a display name.
    return {record["name"]: record["id"] for record in records} | {record["id"]: record["id"] for record in records}


async def note_read(tx: Tx, due: Due, shifts: Sequence[FixedShift], unmatched: Sequence[str], *, cut: bool) -> None:
    """What the calendar says. If people have changed the import meanwhile, it is left to the next reading."""
    await tx.execute(
        """UPDATE calendar_imports SET read_time = app_now(), error = '', shifts = $4, unmatched = $5, cut = $6
           WHERE org_id = $1 AND id = $2 AND version = $3""",
        tx.org_id,
        due.id,
        due.version,
        json.dumps([[shift.start, shift.end, shift.people] for shift in shifts]),
        list(unmatched),
        cut,
    )


async def note_error(tx: Tx, due: Due, error: str) -> None:
    """It could not be read. What it said last stays."""
    query = "UPDATE calendar_imports SET error = $4 WHERE org_id = $1 AND id = $2 AND version = $3"
    await tx.execute(query, tx.org_id, due.id, due.version, error)


@dataclass(frozen=True, slots=True)
class Stale:
    """A calendar of any tenant that could not be read for long."""

    org_id: str
    id: UUID
    schedule_id: str
    read_time: datetime | None
    error: str


async def stale(tx: Tx, after: timedelta, limit: int) -> list[Stale]:
    """Those of all tenants that could not be read for so long, at most `limit`."""
    records = await tx.fetch(
        f"""SELECT {columns(Stale)} FROM calendar_imports
            WHERE coalesce(read_time, create_time) < app_now() - $1::interval ORDER BY org_id, id LIMIT $2""",
        after,
        limit,
    )
    return [Stale(*record) for record in records]

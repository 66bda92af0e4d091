"""External calendars in PostgreSQL: their URLs, and their latest content."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Filtered, Statement, columns_of, constant, param, params_of

from tocsin_escalation.domain.schedules.model import FixedShift, Mode
from tocsin_escalation.store import tables
from tocsin_escalation.store.schedules.fixed_periods import shifts_from


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A layer of a schedule. `url` is encrypted; `names` are users by their names in the calendar.

    `shifts` are those of the last successful read, at `read_time`; `error`: why later reads failed.
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
    """A calendar of any tenant that is to be read. `zone`: for events without a zone."""

    org_id: str
    id: UUID
    version: int
    url: bytes
    zone: str
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stale:
    """A calendar of any tenant that could not be read for long."""

    org_id: str
    id: UUID
    schedule_id: str
    read_time: datetime | None
    error: str


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


_WRITTEN: Final = ("display_name", "url", "host", "time_zone", "rank", "mode", "names")
"""The fields that people set and may change."""
_T: Final = tables.calendar_imports
_C: Final = _T.c
_MINE: Final = _C.org_id == param("org_id")
_ONE: Final = sa.and_(_MINE, _C.id == param("id"))
_AS_READ: Final = sa.and_(_ONE, _C.version == param("version"))
_OF_SCHEDULE: Final = _C.schedule_id == param("schedule")
_COLUMNS: Final = columns_of(_T, ImportRow)
_SELECT: Final = sa.select(*_COLUMNS)
_INSERT: Final = Statement(
    sa.insert(_T).values(params_of(_T, ("org_id", "id", "schedule_id", *_WRITTEN, "author"))).returning(*_COLUMNS)
)
_UPDATE: Final = Statement(
    sa.update(_T)
    .where(_ONE)
    .values(
        params_of(_T, _WRITTEN)
        | {
            "version": _C.version + constant(1),
            "due_time": sa.case((param("read_anew", sa.Boolean), sa.func.app_now()), else_=_C.due_time),
        }
    )
    .returning(*_COLUMNS)
)
_GET: Final = Statement(_SELECT.where(_ONE))
_LOCK: Final = Statement(_SELECT.where(_ONE).with_for_update())
_PAGE: Final = Filtered(
    _SELECT.where(_MINE, _C.id > param("after")).order_by(_C.id).limit(param("limit")), _OF_SCHEDULE
)
_COUNT: Final = Statement(sa.select(sa.func.count()).select_from(_T).where(_MINE, _OF_SCHEDULE))
_DELETE: Final = Statement(sa.delete(_T).where(_ONE))
_NOTE_READ: Final = Statement(
    sa.update(_T)
    .where(_AS_READ)
    .values(
        params_of(_T, ("shifts", "unmatched", "cut")) | {"read_time": sa.func.app_now(), "error": constant("")},
    )
)
_NOTE_ERROR: Final = Statement(sa.update(_T).where(_AS_READ).values(error=param("error")))
_STALE: Final = Statement(
    sa.select(*columns_of(_T, Stale))
    .where(sa.func.coalesce(_C.read_time, _C.create_time) < sa.func.app_now() - sa.cast(param("after"), sa.Interval))
    .order_by(_C.org_id, _C.id)
    .limit(param("limit"))
)


async def insert(tx: Tx, row: ImportRow) -> ImportRow:
    """A new one, which is read as soon as it can be."""
    record = await tx.fetchrow(
        *_INSERT(org_id=tx.org_id, id=row.id, schedule_id=row.schedule_id, author=row.author, **_said(row))
    )
    assert record is not None, "an insert returns its row"
    return _row(record)


async def update(tx: Tx, row: ImportRow, *, read_anew: bool) -> ImportRow:
    """The fields that people set, as in `row`. With `read_anew` it is read as soon as it can be."""
    record = await tx.fetchrow(*_UPDATE(org_id=tx.org_id, id=row.id, read_anew=read_anew, **_said(row)))
    assert record is not None, "its row is locked"
    return _row(record)


def _said(row: ImportRow) -> dict[str, object]:
    values = {name: getattr(row, name) for name in _WRITTEN}
    return values | {"mode": row.mode.value, "names": json.dumps(dict(row.names))}


async def get(tx: Tx, id: UUID, *, lock: bool = False) -> ImportRow | None:
    """One of this tenant."""
    record = await tx.fetchrow(*(_LOCK if lock else _GET)(org_id=tx.org_id, id=id))
    return _row(record) if record else None


async def page(tx: Tx, schedule: str, after: UUID, limit: int) -> list[ImportRow]:
    """This tenant's (of one schedule, if `schedule` is not empty) by id, behind `after`."""
    call = _PAGE(org_id=tx.org_id, schedule=schedule or None, after=after, limit=limit)
    return list(map(_row, await tx.fetch(*call)))


async def of_schedule(tx: Tx, schedule: str) -> int:
    """How many a schedule has."""
    found: int = await tx.fetchval(*_COUNT(org_id=tx.org_id, schedule=schedule))
    return found


async def delete(tx: Tx, id: UUID) -> None:
    """Its shifts are deleted with it."""
    await tx.execute(*_DELETE(org_id=tx.org_id, id=id))


async def claim(tx: Tx, again_seconds: float, limit: int) -> list[Due]:
    """Due ones of all tenants, tenants in turn. Each is due again after so many seconds, also when it cannot be read."""
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
    """Users of this tenant by id and display name in lower case, if the texts contain them."""
    records = await tx.fetch(
        """SELECT id, lower(display_name) AS name FROM users
           WHERE org_id = $1 AND (id = ANY($2::text[]) OR lower(display_name) = ANY($2::text[])) ORDER BY id DESC""",
        tx.org_id,
        list(texts),
    )
    # Of several with the same name, the first by id; an id is preferred to a display name.
    return {record["name"]: record["id"] for record in records} | {record["id"]: record["id"] for record in records}


async def note_read(tx: Tx, due: Due, shifts: Sequence[FixedShift], unmatched: Sequence[str], *, cut: bool) -> None:
    """The content of the calendar. If people have changed the import meanwhile, the next read stores it."""
    said = json.dumps([[shift.start, shift.end, shift.people] for shift in shifts])
    await tx.execute(
        *_NOTE_READ(org_id=tx.org_id, id=due.id, version=due.version, shifts=said, unmatched=list(unmatched), cut=cut)
    )


async def note_error(tx: Tx, due: Due, error: str) -> None:
    """The calendar could not be read. Its latest content stays."""
    await tx.execute(*_NOTE_ERROR(org_id=tx.org_id, id=due.id, version=due.version, error=error))


async def stale(tx: Tx, after: timedelta, limit: int) -> list[Stale]:
    """Those of all tenants that could not be read for so long, at most `limit`."""
    return [Stale(*record) for record in await tx.fetch(*_STALE(after=after, limit=limit))]

"""Silences, and how much they have held back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.recurrence import Recurrence
from tocsin_ingest.domain.silences import Window
from tocsin_ingest.domain.snapshot import Silenced
from tocsin_ingest.domain.zones import UnknownZone, zone

_COLUMNS: Final = """id, integration_id, matchers, start_time, end_time, time_zone, days, window_end, reason, author, version,
  create_time, update_time,
  (SELECT count(*) FROM alert_holds WHERE alert_holds.org_id = silences.org_id AND silence_id = silences.id) AS held_alerts,
  coalesce((SELECT alerts FROM silence_counts AS c WHERE c.org_id = silences.org_id AND silence_id = silences.id), 0)
    AS silenced_alerts,
  coalesce((SELECT messages FROM silence_counts AS c WHERE c.org_id = silences.org_id AND silence_id = silences.id), 0)
    AS silenced_messages"""


@dataclass(frozen=True, slots=True)
class SilenceRow:
    """One silence. `matchers` is a serialized `Silence` with nothing else set."""

    id: UUID
    integration_id: str
    matchers: bytes
    start_time: datetime
    end_time: datetime
    time_zone: str
    """Empty: it does not come again."""
    days: tuple[int, ...]
    window_end: datetime | None
    reason: str
    author: str
    version: int
    create_time: datetime
    update_time: datetime
    held_alerts: int
    silenced_alerts: int
    silenced_messages: int


@dataclass(frozen=True, slots=True)
class MatchersRow:
    """What tells which alerts a silence matches."""

    id: UUID
    version: int
    integration_id: str
    matchers: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """What can be written of a silence."""

    integration_id: str
    matchers: bytes
    start_time: datetime
    end_time: datetime
    reason: str
    time_zone: str = ""
    days: tuple[int, ...] = ()
    window_end: datetime | None = None


def window_of(row: SilenceRow | Written, now: datetime) -> tuple[datetime, datetime] | None:
    """The window in force, or else the next one; None: there is none.

    An unknown zone has no windows: then users are paged.
    """
    if row.window_end is None:
        return (row.start_time, row.end_time) if now < row.end_time else None
    try:
        found = recurrence(row.time_zone, row.days, row.start_time, row.window_end, row.end_time)
    except UnknownZone:
        return None
    return found.at(now) or found.following(now)


def recurrence(time_zone: str, days: Sequence[int], start: datetime, end: datetime, until: datetime) -> Recurrence:
    """When a silence comes again. Raises UnknownZone."""
    return Recurrence(zone(time_zone), frozenset(days), start, end, until)


async def insert(tx: Tx, silence_id: UUID, silence: Written, author: str) -> None:
    """Adds a silence."""
    await tx.execute(
        """INSERT INTO silences (org_id, id, integration_id, matchers, start_time, end_time, reason, author, time_zone, days,
          window_end) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        tx.org_id,
        silence_id,
        silence.integration_id,
        silence.matchers,
        silence.start_time,
        silence.end_time,
        silence.reason,
        author,
        silence.time_zone,
        list(silence.days),
        silence.window_end,
    )


async def get(tx: Tx, silence_id: UUID, *, lock: bool = False) -> SilenceRow | None:
    """Reads one. `lock` keeps alerts from being held back by it, as it was or as it will be, until the transaction ends."""
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM silences WHERE org_id = $1 AND id = $2{' FOR UPDATE' if lock else ''}",
        tx.org_id,
        silence_id,
    )
    return _row(row) if row else None


async def page(
    tx: Tx, ended_after: datetime | None, after: tuple[datetime, UUID] | None, limit: int
) -> list[SilenceRow]:
    """Up to `limit` silences by their end, behind `after`: those that end later than `ended_after`, or all."""
    conditions, parameters = ["org_id = $1"], [tx.org_id, limit]
    if ended_after is not None:
        parameters.append(ended_after)
        conditions.append(f"end_time > ${len(parameters)}")
    if after is not None:
        parameters += after
        conditions.append(f"(end_time, id) > (${len(parameters) - 1}, ${len(parameters)})")
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM silences WHERE {' AND '.join(conditions)} ORDER BY end_time, id LIMIT $2", *parameters
    )
    return [_row(row) for row in rows]


async def change(tx: Tx, silence_id: UUID, silence: Written) -> None:
    """Replaces what can be changed of a locked silence. What it holds back is looked at again."""
    await tx.execute(
        """UPDATE silences SET integration_id = $3, matchers = $4, start_time = $5, end_time = $6, reason = $7,
          time_zone = $8, days = $9, window_end = $10, version = version + 1, changed = true, update_time = app_now()
        WHERE org_id = $1 AND id = $2""",
        tx.org_id,
        silence_id,
        silence.integration_id,
        silence.matchers,
        silence.start_time,
        silence.end_time,
        silence.reason,
        silence.time_zone,
        list(silence.days),
        silence.window_end,
    )


async def not_ended(tx: Tx) -> list[MatchersRow]:
    """Those of the tenant that are in force or will be."""
    rows = await tx.fetch(
        """SELECT id, version, integration_id, matchers FROM silences WHERE org_id = $1 AND end_time > app_now()
        ORDER BY create_time, id""",
        tx.org_id,
    )
    return [MatchersRow(*row) for row in rows]


async def about(tx: Tx, ahead: float, time: datetime | None = None) -> list[MatchersRow]:
    """Those of the tenant that are in force at a time, which must not be over, or will be within `ahead` seconds; None: now."""
    rows = await tx.fetch(
        """SELECT id, version, integration_id, matchers FROM silences
        WHERE org_id = $1 AND end_time > coalesce($3::timestamptz, app_now())
          AND start_time <= coalesce($3, app_now()) + make_interval(secs => $2)
        ORDER BY create_time, id""",
        tx.org_id,
        ahead,
        time,
    )
    return [MatchersRow(*row) for row in rows]


async def windows(tx: Tx, silence_ids: Collection[UUID], now: datetime, *, lock: bool = True) -> Mapping[UUID, Window]:
    """The windows of those in force, as the newest commit says. With `lock`, no other transaction changes them until this one
    ends.

    Without the lock an alert could be held back by a silence that was ended a moment before, after its held alerts were decided
    again: no user would be paged until its former end.
    """
    rows = await tx.fetch(
        f"""SELECT id, version, start_time, end_time, time_zone, days, window_end FROM silences
        WHERE org_id = $1 AND id = ANY($2) ORDER BY id {"FOR KEY SHARE" if lock else ""}""",
        tx.org_id,
        list(silence_ids),
    )
    return {row["id"]: Window(row["version"], *window) for row in rows if (window := _in_force(row, now)) is not None}


def _in_force(row: asyncpg.Record, now: datetime) -> tuple[datetime, datetime] | None:
    if row["window_end"] is None:
        return row["start_time"], row["end_time"]
    try:
        again = recurrence(row["time_zone"], row["days"], row["start_time"], row["window_end"], row["end_time"])
    except UnknownZone:
        return None
    return again.at(now)


async def count(tx: Tx, silenced: Mapping[UUID, Silenced]) -> None:
    """Adds what they have held back."""
    ids: Sequence[UUID] = sorted(silenced)  # two batches touch rows in one order
    await tx.execute(
        """INSERT INTO silence_counts AS c (org_id, silence_id, alerts, messages)
        SELECT $1, id, alerts, messages FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS u(id, alerts, messages)
        ON CONFLICT (org_id, silence_id) DO UPDATE SET alerts = c.alerts + excluded.alerts,
          messages = c.messages + excluded.messages""",
        tx.org_id,
        ids,
        [silenced[each].alerts for each in ids],
        [silenced[each].messages for each in ids],
    )


def _row(row: asyncpg.Record) -> SilenceRow:
    return SilenceRow(**dict(row) | {"days": tuple(row["days"])})

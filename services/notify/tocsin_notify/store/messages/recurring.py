"""Recurring messages in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.page import Channel, Urgency
from tocsin_notify.domain.recurrence import RecurringState
from tocsin_notify.store.fair_claims import fairly_taken


@dataclass(frozen=True, slots=True)
class Template:
    """A caller's choices. Exactly one of `user_id` and `channel` is set. `start_time` is a local time, kept as it was
    given."""

    user_id: str
    channel: Channel | None
    address: str
    subject: str
    body: str
    about: str
    urgency: Urgency
    expire_seconds: float | None
    start_time: str
    time_zone: str
    rule: str


@dataclass(frozen=True, slots=True)
class Recurring(Template):
    """A stored recurring message. `next_time`: set while it is active."""

    id: UUID
    org_id: str
    sender: str
    state: RecurringState
    state_reason: str
    next_time: datetime | None
    sent_count: int
    latest_message: UUID | None
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Occurrence:
    """The message of an occurrence, to be made, with its planned time."""

    id: UUID
    of: Recurring
    send_time: datetime


@dataclass(frozen=True, slots=True)
class Turn:
    """The new state of a recurring message that was due. `made`: its message, None without one."""

    of: Recurring
    state: RecurringState
    reason: str
    next_time: datetime | None
    made: UUID | None


_COLUMNS: Final = columns(Recurring)
_CHOSEN: Final = [field.name for field in fields(Template)]
_INSERT: Final = f"""
INSERT INTO recurring_messages (org_id, id, sender, next_time, {", ".join(_CHOSEN)})
VALUES ($1, $2, $3, $4, {", ".join(f"${number}" for number in range(5, 5 + len(_CHOSEN)))}) RETURNING {_COLUMNS}
"""
_READ: Final = f"SELECT {_COLUMNS} FROM recurring_messages WHERE org_id = $1 AND id = $2"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM recurring_messages WHERE org_id = $1 AND (create_time, id) > ($2, $3) ORDER BY create_time, id LIMIT $4
"""
_SET: Final = f"""
UPDATE recurring_messages SET state = $3, state_reason = $4, next_time = $5, update_time = app_now()
WHERE org_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_FORGET: Final = """
WITH mine AS (
  SELECT id FROM recurring_messages
  WHERE org_id = $1 AND user_id = $2 AND state <> 'ended' AND create_time <= $3 ORDER BY id FOR UPDATE
)
UPDATE recurring_messages r SET state = 'ended', state_reason = $4, next_time = NULL, update_time = app_now()
FROM mine WHERE r.id = mine.id AND r.org_id = $1
"""
# One that is being paused or ended is locked: it is skipped, and the next round reads its new state.
_TAKEN: Final = fairly_taken(
    "recurring_messages", time="next_time", living="state = 'active'", due="next_time <= app_now()", what=_COLUMNS
)
_DUE: Final = f"WITH RECURSIVE {_TAKEN} SELECT {_COLUMNS} FROM taken ORDER BY turn, place, id"
_OCCUR: Final = """
INSERT INTO messages (org_id, id, send_time, sender, user_id, channel, address, subject, body, about, urgency, expire_seconds)
SELECT r.org_id, g.id, g.send_time, r.sender, r.user_id, r.channel, r.address, r.subject, r.body, r.about, r.urgency,
  r.expire_seconds
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[]) AS g(org_id, recurring, id, send_time)
JOIN recurring_messages r ON r.id = g.recurring AND r.org_id = g.org_id
ON CONFLICT (id) DO NOTHING
"""
_SETTLE: Final = """
UPDATE recurring_messages r SET state = g.state, state_reason = g.reason, next_time = g.next_time, update_time = app_now(),
  sent_count = r.sent_count + (g.made IS NOT NULL)::int, latest_message = coalesce(g.made, r.latest_message)
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::uuid[])
  AS g(org_id, id, state, reason, next_time, made)
WHERE r.id = g.id AND r.org_id = g.org_id
"""


async def insert(tx: Tx, id: UUID, sender: str, template: Template, next_time: datetime) -> Recurring:
    """An active one."""
    chosen = [getattr(template, name) for name in _CHOSEN]
    return _row(await tx.fetchrow(_INSERT, tx.org_id, id, sender, next_time, *chosen))


async def read(tx: Tx, id: UUID, *, lock: bool = False) -> Recurring | None:
    """One; with `lock` no occurrence of it is made until the transaction ends."""
    row = await tx.fetchrow(_READ + (" FOR UPDATE" if lock else ""), tx.org_id, id)
    return None if row is None else _row(row)


async def page(tx: Tx, after: tuple[datetime, UUID], limit: int) -> list[Recurring]:
    """Oldest first, after a (create_time, id)."""
    return [_row(row) for row in await tx.fetch(_PAGE, tx.org_id, *after, limit)]


async def change(tx: Tx, id: UUID, state: RecurringState, reason: str, next_time: datetime | None) -> Recurring:
    """Pause, resume or end a locked one."""
    return _row(await tx.fetchrow(_SET, tx.org_id, id, state, reason, next_time))


async def forget(tx: Tx, user: str, time: datetime, reason: str) -> None:
    """End those to this user that were made until `time`: a later user of the same id is another one."""
    await tx.execute(_FORGET, tx.org_id, user, time, reason)


async def due(tx: Tx, limit: int) -> list[Recurring]:
    """Due ones of all tenants, tenants in turns, locked; without those that another replica works on."""
    return [_row(row) for row in await tx.fetch(_DUE, limit)]


async def occur(tx: Tx, occurrences: Sequence[Occurrence]) -> None:
    """Make the messages of these, scheduled."""
    await tx.execute(
        _OCCUR,
        [each.of.org_id for each in occurrences],
        [each.of.id for each in occurrences],
        [each.id for each in occurrences],
        [each.send_time for each in occurrences],
    )


async def settle(tx: Tx, turns: Sequence[Turn]) -> None:
    """Write the new state of locked ones."""
    await tx.execute(
        _SETTLE,
        [turn.of.org_id for turn in turns],
        [turn.of.id for turn in turns],
        [turn.state for turn in turns],
        [turn.reason for turn in turns],
        [turn.next_time for turn in turns],
        [turn.made for turn in turns],
    )


def _row(row: asyncpg.Record | None) -> Recurring:
    assert row is not None, "the row is locked by this transaction, or made by it"
    values = dict(row)
    channel = values["channel"]
    return Recurring(
        **{
            **values,
            "channel": None if channel is None else Channel(channel),
            "urgency": Urgency(values["urgency"]),
            "state": RecurringState(values["state"]),
        }
    )

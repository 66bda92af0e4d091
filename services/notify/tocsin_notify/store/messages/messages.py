"""Messages of users and machines, until and after they become pages."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.row_arrays import RowArrays
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.message import GROUP, Step, Stored
from tocsin_notify.domain.page import Channel, State, Urgency
from tocsin_notify.store.delivery.notifications import EARLY
from tocsin_notify.store.fair_claims import fairly_taken


@dataclass(frozen=True, slots=True)
class Content:
    """A caller's choices. Exactly one of `user_id` and `channel` is set; an address belongs to a channel. With GROUP,
    the address is a team or a schedule.

    `local_time` and `time_zone` are kept as they were given; `send_time` is what counts.
    """

    user_id: str
    channel: Channel | None
    address: str
    subject: str
    body: str
    about: str
    urgency: Urgency
    send_time: datetime
    local_time: str
    time_zone: str
    expire_seconds: float | None

    @property
    def group(self) -> str:
        """The team or schedule; empty for a message to one receiver."""
        return self.address if self.channel == GROUP else ""

    @property
    def addressed(self) -> bool:
        """Whether it goes to an address of a channel."""
        return self.channel is not None and self.channel != GROUP


@dataclass(frozen=True, slots=True)
class Message(Content):
    """A stored message. `parent`: the group message that it was made of."""

    id: UUID
    org_id: str
    sender: str
    state: Stored
    state_reason: str
    version: int
    create_time: datetime
    update_time: datetime
    parent: UUID | None = None


@dataclass(frozen=True, slots=True)
class New:
    """One to make."""

    id: UUID
    sender: str
    content: Content


_COLUMNS: Final = [field.name for field in fields(Message)]
_READ_AS: Final = [
    (_COLUMNS.index(name), read) for name, read in (("channel", Channel), ("urgency", Urgency), ("state", Stored))
]
_CHOSEN: Final = [field.name for field in fields(Content)]
_TYPES: Final = {"send_time": "timestamptz", "expire_seconds": "float8"}
_GIVEN: Final = ", ".join(f"${place}::{_TYPES.get(name, 'text')}[]" for place, name in enumerate(_CHOSEN, 4))
_INSERT: Final = f"""
INSERT INTO messages (org_id, id, sender, {", ".join(_CHOSEN)})
SELECT $1, * FROM unnest($2::uuid[], $3::text[], {_GIVEN}) RETURNING {columns(Message)}
"""
_UPDATE: Final = f"""
UPDATE messages SET ({", ".join(_CHOSEN)}) = ({", ".join(f"${number}" for number in range(3, 3 + len(_CHOSEN)))}),
  version = version + 1, update_time = app_now(), lease_until = NULL, tries = 0, state_reason = ''
WHERE org_id = $1 AND id = $2 AND state = 'scheduled' RETURNING {columns(Message)}
"""
_READ: Final = f"SELECT {columns(Message)} FROM messages WHERE org_id = $1 AND id = $2"
# In the order of ids, so that two transactions that hold some of the same rows wait for each other and do not deadlock.
# Rows are found by id alone: while statistics are young the planner prefers an index of the tenant's rows, and reads
# all of them.
_HOLD: Final = f"""
SELECT {columns(Message)} FROM messages WHERE id = ANY($2::uuid[]) AND org_id IS NOT DISTINCT FROM $1 ORDER BY id FOR UPDATE
"""
_END: Final = f"""
UPDATE messages m SET state = g.state, state_reason = g.reason, lease_until = NULL, version = m.version + 1, update_time = app_now()
FROM unnest($2::uuid[], $3::text[], $4::text[]) AS g(id, state, reason)
WHERE m.id = ANY($2::uuid[]) AND m.id = g.id AND m.org_id IS NOT DISTINCT FROM $1
RETURNING {columns(Message, of="m")}
"""
_FORGET: Final = """
WITH mine AS (
  SELECT id FROM messages WHERE org_id = $1 AND user_id = $2 AND state = 'scheduled' AND create_time <= $3 ORDER BY id FOR UPDATE
)
UPDATE messages m SET state = 'cancelled', state_reason = $4, version = m.version + 1, update_time = app_now()
FROM mine WHERE m.id = mine.id AND m.org_id = $1
"""
_IS_DUE: Final = (
    f"send_time <= app_now() + make_interval(secs => {EARLY}) AND (channel IS NULL OR channel = ANY($2::text[]))"
)
_TURNS: Final = fairly_taken("messages", time="send_time", living="state = 'scheduled'", due=_IS_DUE)
_DUE: Final = f"WITH RECURSIVE {_TURNS} SELECT id FROM turns ORDER BY turn, place, id LIMIT $1"
# A message that is being changed or cancelled is locked: it is skipped, and the next round finds its new version.
_CLAIM: Final = f"""
WITH taken AS (
  SELECT id FROM messages WHERE id = ANY($1::uuid[]) AND id IS NOT NULL AND (state = 'scheduled' AND {_IS_DUE}) IS TRUE
  ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE messages m SET state = 'released', version = m.version + 1, update_time = app_now() FROM taken t WHERE m.id = t.id
RETURNING {columns(Message, of="m")}
"""
_UNREACHABLE: Final = """
UPDATE messages m SET state_reason = g.reason
FROM unnest($1::text[], $2::uuid[], $3::text[]) AS g(org_id, id, reason) WHERE m.id = g.id AND m.org_id = g.org_id
"""
_TARGETS: Final = RowArrays(1, "id uuid, org_id text, channel text, address text")
_ADDRESSES: Final = f"""
INSERT INTO contact_methods (org_id, id, user_id, display_name, channel, address, key_id, disabled)
SELECT org_id, id, '', '', channel, address, '', false
FROM {_TARGETS.sql} AS g
"""
_STEPS: Final = """
SELECT page_id, state, state_reason, attempts FROM notifications
WHERE org_id = $1 AND page_id = ANY($2::uuid[]) ORDER BY page_id, create_time, id
"""
_STOP: Final = """
WITH mine AS (
  SELECT id, page_id, state FROM notifications WHERE org_id = $1 AND page_id = ANY($2::uuid[]) ORDER BY id FOR UPDATE
)
UPDATE notifications n SET state = 'cancelled', state_reason = g.reason, due_time = NULL
FROM mine m JOIN unnest($2::uuid[], $3::text[]) AS g(page_id, reason) USING (page_id)
WHERE n.id = m.id AND n.org_id = $1 AND m.state = 'pending' RETURNING n.id
"""
_COUNT: Final = """
SELECT count(*) FROM (SELECT FROM messages WHERE org_id = $1 AND state = 'scheduled' LIMIT $2) AS counted
"""
_SHOWN: Final = "parent IS NULL"
_OF_USER: Final = "user_id = $5"
_OF_PARENT: Final = "parent = $5"
_LATEST: Final = {
    which: f"""
SELECT {columns(Message)} FROM messages WHERE org_id = $1 AND (send_time, id) < ($2, $3) AND {which}
ORDER BY send_time DESC, id DESC LIMIT $4
"""
    for which in (_SHOWN, _OF_USER, _OF_PARENT)
}
_NEXT: Final = {
    which: f"""
SELECT {columns(Message)} FROM messages WHERE org_id = $1 AND state = 'scheduled' AND (send_time, id) > ($2, $3) AND {which}
ORDER BY send_time, id LIMIT $4
"""
    for which in (_SHOWN, _OF_USER, _OF_PARENT)
}


async def insert(tx: Tx, new: Sequence[New]) -> list[Message]:
    """Scheduled ones, in the order given."""
    if not new:
        return []
    rows = await tx.fetch(
        _INSERT,
        tx.org_id,
        [each.id for each in new],
        [each.sender for each in new],
        *([getattr(each.content, name) for each in new] for name in _CHOSEN),
    )
    made = {row["id"]: _message(row) for row in rows}
    return [made[each.id] for each in new]


async def read(tx: Tx, id: UUID, *, lock: bool = False) -> Message | None:
    """One; with `lock` it is not sent until the transaction ends."""
    row = await tx.fetchrow(_READ + (" FOR UPDATE" if lock else ""), tx.org_id, id)
    return None if row is None else _message(row)


async def hold(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Message]:
    """Those of these that exist; they are not sent until the transaction ends."""
    return {row["id"]: _message(row) for row in await tx.fetch(_HOLD, tx.org_id, list(ids))}


async def update(tx: Tx, id: UUID, content: Content) -> Message:
    """The new content of a locked, scheduled one."""
    return _message(await tx.fetchrow(_UPDATE, tx.org_id, id, *_chosen(content)))


async def end(tx: Tx, ends: Sequence[tuple[UUID, Stored, str]]) -> dict[UUID, Message]:
    """Write the final state of locked ones, and why."""
    if not ends:
        return {}
    ids, states, reasons = zip(*ends, strict=True)
    return {row["id"]: _message(row) for row in await tx.fetch(_END, tx.org_id, ids, states, reasons)}


async def forget(tx: Tx, user: str, time: datetime, reason: str) -> None:
    """Cancel waiting messages that were written to this user until `time`: a later user of the same id is another one."""
    await tx.execute(_FORGET, tx.org_id, user, time, reason)


async def stop_steps(tx: Tx, pages: Mapping[UUID, str]) -> list[UUID]:
    """Cancel the pending notifications of these, each with its reason; returns their ids.

    Waits for attempts under way, and does not change their notifications.
    """
    return [row["id"] for row in await tx.fetch(_STOP, tx.org_id, list(pages), list(pages.values()))]


async def steps(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, list[Step]]:
    """The notifications of each of these messages, oldest first."""
    found: dict[UUID, list[Step]] = {id: [] for id in ids}
    for row in await tx.fetch(_STEPS, tx.org_id, list(ids)):
        step = Step(State(row["state"]), row["state_reason"], begun=row["attempts"] > 0)
        found[row["page_id"]].append(step)
    return found


async def due(tx: Tx, limit: int) -> list[UUID]:
    """Due ones of all tenants, tenants in turns, at most `limit`; without those that only a newer version can send."""
    return [row["id"] for row in await tx.fetch(_DUE, limit, list(Channel))]


async def claim(tx: Tx, ids: Sequence[UUID]) -> list[Message]:
    """Those of these that are due and that no other transaction holds; marked as released, in the order given."""
    found = {row["id"]: _message(row) for row in await tx.fetch(_CLAIM, ids, list(Channel))}
    return [found[id] for id in ids if id in found]


async def note_unreachable(tx: Tx, reasons: dict[tuple[str, UUID], str]) -> None:
    """Write why no notification was made of released ones (tenant, id)."""
    ids = list(reasons)
    await tx.execute(_UNREACHABLE, [org for org, _ in ids], [id for _, id in ids], list(reasons.values()))


async def add_addresses(tx: Tx, messages: dict[UUID, Message]) -> None:
    """Insert a contact method without a user for the address of each of these, with the given id."""
    given = [(id, message.org_id, message.channel, message.address) for id, message in messages.items()]
    await tx.execute(_ADDRESSES, *_TARGETS.parameters(given))


async def count_scheduled(tx: Tx, most: int) -> int:
    """How many scheduled messages the tenant has, counted up to `most`."""
    count: int = await tx.fetchval(_COUNT, tx.org_id, most)
    return count


@dataclass(frozen=True, slots=True)
class Filter:
    """Which are listed: those to one user, or those of one group message; without both, all except the latter."""

    user: str = ""
    parent: UUID | None = None

    def of(self, statements: dict[str, str]) -> tuple[str, list[object]]:
        """The statement of these, and its value."""
        if self.parent is not None:
            return statements[_OF_PARENT], [self.parent]
        return (statements[_OF_USER], [self.user]) if self.user else (statements[_SHOWN], [])


async def latest(tx: Tx, which: Filter, before: tuple[datetime, UUID], limit: int) -> list[Message]:
    """By send time, the latest first, after a (send_time, id)."""
    statement, values = which.of(_LATEST)
    return [_message(row) for row in await tx.fetch(statement, tx.org_id, *before, limit, *values)]


async def upcoming(tx: Tx, which: Filter, after: tuple[datetime, UUID], limit: int) -> list[Message]:
    """Scheduled ones, the next first, after a (send_time, id)."""
    statement, values = which.of(_NEXT)
    return [_message(row) for row in await tx.fetch(statement, tx.org_id, *after, limit, *values)]


def _chosen(content: Content) -> list[object]:
    return [getattr(content, name) for name in _CHOSEN]


def _message(row: asyncpg.Record | None) -> Message:
    assert row is not None, "the row is locked by this transaction, or made by it"
    return message_of(row)


def message_of(row: asyncpg.Record) -> Message:
    """From a row that begins with its columns: by position, as thousands may be due at once."""
    values = list(row)[: len(_COLUMNS)]
    for place, read in _READ_AS:
        if values[place] is not None:
            values[place] = read(values[place])
    return Message(*values)

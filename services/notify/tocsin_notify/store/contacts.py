"""Contact methods: rows and back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.page import Channel

_COLUMNS: Final = """id, user_id, display_name, channel, address, secret, key_id, disabled,
  verify_time IS NOT NULL AS verified, version, create_time, update_time"""
# Rows of nobody (an empty user) lead where a method led before another user changed it. They carry notices of that and are
# never shown.
_READ: Final = f"""
SELECT {_COLUMNS} FROM contact_methods WHERE org_id = $1 AND id = $2 AND user_id <> '' AND delete_time IS NULL
"""
_USABLE: Final = f"""
SELECT {_COLUMNS} FROM contact_methods
WHERE org_id = $1 AND user_id = $2 AND delete_time IS NULL AND verify_time IS NOT NULL AND NOT disabled
ORDER BY create_time, id
"""
_LIST: Final = f"""
SELECT {_COLUMNS} FROM contact_methods
WHERE org_id = $1 AND delete_time IS NULL AND user_id <> '' AND ($2 = '' OR user_id = $2) AND (create_time, id) > ($3, $4)
ORDER BY create_time, id LIMIT $5
"""
_COUNT: Final = "SELECT count(*) FROM contact_methods WHERE org_id = $1 AND user_id = $2 AND delete_time IS NULL"
_INSERT: Final = f"""
INSERT INTO contact_methods (org_id, id, user_id, display_name, channel, address, secret, key_id, disabled)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_COLUMNS}
"""
_UPDATE: Final = f"""
UPDATE contact_methods SET display_name = $3, channel = $4, address = $5, secret = $6, key_id = $7, disabled = $8,
  verify_time = CASE WHEN $9 THEN coalesce(verify_time, app_now()) END, version = version + 1, update_time = app_now()
WHERE org_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_DELETE: Final = """
UPDATE contact_methods SET delete_time = app_now(), address = '', secret = NULL, key_id = '', verify_time = NULL,
  version = version + 1, update_time = app_now()
WHERE org_id = $1 AND id = $2
"""


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact method as kept. `secret` is closed; times are set by the database."""

    id: UUID
    user_id: str
    display_name: str
    channel: Channel
    address: str
    secret: bytes | None
    key_id: str
    disabled: bool
    verified: bool = False
    version: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None

    def __repr__(self) -> str:
        return f"Contact({self.id}, {self.channel})"


def _contact(row: asyncpg.Record) -> Contact:
    fields = dict(row)
    return Contact(**{**fields, "channel": Channel(fields["channel"])})


async def read(tx: Tx, id: UUID, *, lock: bool = False) -> Contact | None:
    """One that was not deleted."""
    row = await tx.fetchrow(_READ + (" FOR UPDATE" if lock else ""), tx.org_id, id)
    return None if row is None else _contact(row)


async def page(tx: Tx, user: str, after: tuple[datetime, UUID], limit: int) -> list[Contact]:
    """Oldest first, behind `after`; of one user, or with an empty `user` of all."""
    return [_contact(row) for row in await tx.fetch(_LIST, tx.org_id, user, *after, limit)]


async def usable(tx: Tx, user: str) -> list[Contact]:
    """The user's that may carry pages, oldest first."""
    return [_contact(row) for row in await tx.fetch(_USABLE, tx.org_id, user)]


async def count(tx: Tx, user: str) -> int:
    """How many the user has."""
    found: int = await tx.fetchval(_COUNT, tx.org_id, user)
    return found


async def insert(tx: Tx, contact: Contact) -> Contact:
    """A new one."""
    row = await tx.fetchrow(
        _INSERT,
        tx.org_id,
        contact.id,
        contact.user_id,
        contact.display_name,
        contact.channel,
        contact.address,
        contact.secret,
        contact.key_id,
        contact.disabled,
    )
    assert row is not None
    return _contact(row)


async def update(tx: Tx, contact: Contact) -> Contact:
    """A locked one's new values."""
    row = await tx.fetchrow(
        _UPDATE,
        tx.org_id,
        contact.id,
        contact.display_name,
        contact.channel,
        contact.address,
        contact.secret,
        contact.key_id,
        contact.disabled,
        contact.verified,
    )
    assert row is not None, "the row is locked by this transaction"
    return _contact(row)


async def verify(tx: Tx, contact: Contact) -> Contact:
    """A locked one, proven."""
    return await update(tx, replace(contact, verified=True))


async def delete(tx: Tx, id: UUID) -> None:
    """A locked one's end: where it led is forgotten, its row stays for the notifications that name it."""
    await tx.execute(_DELETE, tx.org_id, id)


async def owners(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Whose these are; without those that do not exist."""
    rows = await tx.fetch(
        "SELECT id, user_id FROM contact_methods WHERE org_id = $1 AND id = ANY($2::uuid[]) AND delete_time IS NULL",
        tx.org_id,
        list(ids),
    )
    return {row["id"]: row["user_id"] for row in rows}


async def owner_of(tx: Tx, channel: Channel, address: str) -> str | None:
    """Who has proved that this address is theirs: the first, if several have."""
    found: str | None = await tx.fetchval(
        """SELECT user_id FROM contact_methods WHERE org_id = $1 AND channel = $2 AND address = $3 AND delete_time IS NULL
             AND verify_time IS NOT NULL AND user_id <> '' ORDER BY verify_time, id LIMIT 1""",
        tx.org_id,
        channel,
        address,
    )
    return found

"""What was given up, kept until it is redriven or discarded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.page import DeathReason

NOBODY: Final = ""
"""The tenant of what could not be read: visible to all-tenant credentials only."""

_INSERT: Final = """
INSERT INTO dead_letters (id, org_id, notification_id, page_id, user_id, incident, reason, detail, job, raw, source)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[],
  $9::bytea[], $10::bytea[], $11::text[])
ON CONFLICT (source) DO NOTHING
"""
_READ: Final = "SELECT * FROM dead_letters WHERE ($1 = '*' OR org_id = $1) AND id = $2"
_TAKE: Final = """
UPDATE dead_letters SET redrive_time = app_now()
WHERE ($1 = '*' OR org_id = $1) AND id = ANY($2::uuid[]) AND redrive_time IS NULL RETURNING *
"""


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """One to keep. `raw` and `source` (where it came from, once) only for what could not be read."""

    id: UUID
    org_id: str
    notification_id: UUID | None
    page_id: UUID | None
    user_id: str
    incident: UUID | None
    reason: DeathReason
    detail: str
    job: bytes | None = None
    raw: bytes | None = None
    source: str | None = None


async def insert(tx: Tx, letters: Sequence[NewDeadLetter]) -> None:
    """Keep them; one whose source is known is kept once."""
    await tx.execute(
        _INSERT,
        [letter.id for letter in letters],
        [letter.org_id for letter in letters],
        [letter.notification_id for letter in letters],
        [letter.page_id for letter in letters],
        [letter.user_id for letter in letters],
        [letter.incident for letter in letters],
        [letter.reason for letter in letters],
        [letter.detail for letter in letters],
        [letter.job for letter in letters],
        [letter.raw for letter in letters],
        [letter.source for letter in letters],
    )


async def take(tx: Tx, ids: Sequence[UUID]) -> list[asyncpg.Record]:
    """Mark as redriven those that wait, and return them whole."""
    return await tx.fetch(_TAKE, tx.org_id, list(ids))


async def read(tx: Tx, id: UUID) -> asyncpg.Record | None:
    """One, whole."""
    return await tx.fetchrow(_READ, tx.org_id, id)

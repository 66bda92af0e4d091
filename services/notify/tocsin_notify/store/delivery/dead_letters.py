"""Dead letters, kept until they are redriven or discarded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.page import DeathReason

NOBODY: Final = ""
"""The tenant of a message that could not be read: visible to all-tenant credentials only."""


@dataclass(frozen=True, slots=True)
class DeadLetterHead:
    """A dead letter as a list shows it."""

    id: UUID
    org_id: str
    notification_id: UUID | None
    user_id: str
    incident: UUID | None
    reason: str
    detail: str
    create_time: datetime
    redrive_time: datetime | None


@dataclass(frozen=True, slots=True)
class DeadLetter(DeadLetterHead):
    """A whole dead letter. `raw`: the bytes of a job that cannot be read; `job` is None then."""

    page_id: UUID | None
    job: bytes | None
    raw: bytes | None


_INSERT: Final = """
INSERT INTO dead_letters (id, org_id, notification_id, page_id, user_id, incident, reason, detail, job, raw, source)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[],
  $9::bytea[], $10::bytea[], $11::text[])
ON CONFLICT (source) DO NOTHING
"""
_READ: Final = f"SELECT {columns(DeadLetter)} FROM dead_letters WHERE ($1 = '*' OR org_id = $1) AND id = $2"
_TAKE: Final = f"""
UPDATE dead_letters SET redrive_time = app_now()
WHERE ($1 = '*' OR org_id = $1) AND id = ANY($2::uuid[]) AND redrive_time IS NULL RETURNING {columns(DeadLetter)}
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
    """Store them; one whose source is known is stored once."""
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


async def take(tx: Tx, ids: Sequence[UUID]) -> list[DeadLetter]:
    """Mark those that wait as redriven, and return them whole."""
    return [DeadLetter(*row) for row in await tx.fetch(_TAKE, tx.org_id, list(ids))]


async def read(tx: Tx, id: UUID) -> DeadLetter | None:
    """One dead letter with its job."""
    row = await tx.fetchrow(_READ, tx.org_id, id)
    return None if row is None else DeadLetter(*row)

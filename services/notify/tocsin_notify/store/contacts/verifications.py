"""Verifications under way. The codes themselves are not stored (`domain.verification`)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.verification import LIFETIME, MAX_WRONG_TRIES

_RECENT: Final = """
SELECT count(*) AS many, extract(epoch FROM min(create_time) + interval '1 hour' - app_now())::float8 AS wait
FROM (SELECT create_time FROM verifications
      WHERE org_id = $1 AND contact_method = $2 AND create_time > app_now() - interval '1 hour'
      ORDER BY create_time DESC LIMIT $3) AS recent
"""
_INSERT: Final = f"""
INSERT INTO verifications (id, org_id, contact_method, expire_time)
VALUES ($2, $1, $3, app_now() + interval '{LIFETIME:g} seconds') RETURNING expire_time
"""
_NEWEST: Final = """
SELECT id, wrong_tries, done OR expire_time <= app_now() AS over FROM verifications
WHERE org_id = $1 AND contact_method = $2 ORDER BY create_time DESC, id DESC LIMIT 1 FOR UPDATE
"""


@dataclass(frozen=True, slots=True)
class Verification:
    """The newest code of a method. `over`: too old, or used."""

    id: UUID
    wrong_tries: int
    over: bool

    @property
    def attempts_left(self) -> int:
        """Wrong codes that it still allows."""
        return MAX_WRONG_TRIES - self.wrong_tries


async def recent(tx: Tx, method: UUID, limit: int) -> tuple[int, float]:
    """How many codes were sent within the last hour, counted up to `limit`; and the seconds until the oldest of them is
    an hour old."""
    row = await tx.fetchrow(_RECENT, tx.org_id, method, limit)
    assert row is not None
    return row["many"], row["wait"] or 0.0


async def begin(tx: Tx, id: UUID, method: UUID) -> datetime:
    """Add one; returns until when it is valid."""
    until: datetime = await tx.fetchval(_INSERT, tx.org_id, id, method)
    return until


async def newest(tx: Tx, method: UUID) -> Verification | None:
    """The newest one, locked."""
    row = await tx.fetchrow(_NEWEST, tx.org_id, method)
    return None if row is None else Verification(row["id"], row["wrong_tries"], row["over"])


async def note_wrong_try(tx: Tx, id: UUID) -> None:
    """Count a wrong code."""
    await tx.execute(
        "UPDATE verifications SET wrong_tries = wrong_tries + 1 WHERE id = $2 AND org_id = $1", tx.org_id, id
    )


async def finish(tx: Tx, method: UUID) -> None:
    """Earlier codes are no longer valid: one was right, or the method has another address now."""
    await tx.execute(
        "UPDATE verifications SET done = true WHERE org_id = $1 AND contact_method = $2 AND NOT done", tx.org_id, method
    )

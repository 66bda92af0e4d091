"""Digests: the user's choice, the next time, and the result of the latest one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.digest import Frequency, Rhythm, WhenEmpty


@dataclass(frozen=True, slots=True)
class Choice:
    """What a user chose. `contact_method`: None for the first that fits."""

    user_id: str
    frequency: Frequency
    hour: int
    weekday: int
    time_zone: str
    contact_method: UUID | None
    when_empty: WhenEmpty

    @property
    def rhythm(self) -> Rhythm:
        """When it is due."""
        return Rhythm(self.frequency, self.hour, self.weekday, self.time_zone)


@dataclass(frozen=True, slots=True)
class Digest(Choice):
    """A stored digest."""

    org_id: str
    next_time: datetime
    latest_time: datetime | None
    latest_result: str
    latest_page: UUID | None
    version: int


@dataclass(frozen=True, slots=True)
class Made:
    """The result of a digest that was due. `page`: None if nothing is sent."""

    of: Digest
    planned: datetime
    following: datetime
    result: str
    page: UUID | None


_COLUMNS: Final = columns(Digest)
# When the choice is changed, the lease ends at once: the replica that works on it will drop its result.
_WRITE: Final = f"""
INSERT INTO digests AS d (org_id, user_id, frequency, hour, weekday, time_zone, contact_method, when_empty, next_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (org_id, user_id, frequency) DO UPDATE SET hour = excluded.hour, weekday = excluded.weekday,
  time_zone = excluded.time_zone, contact_method = excluded.contact_method, when_empty = excluded.when_empty,
  next_time = excluded.next_time, lease_until = NULL, version = d.version + 1, update_time = app_now()
RETURNING {_COLUMNS}
"""
_READ: Final = f"SELECT {_COLUMNS} FROM digests WHERE org_id = $1 AND user_id = $2 AND frequency = $3"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM digests
WHERE org_id = $1 AND (user_id, frequency) > ($2, $3) AND ($4 = '' OR user_id = $4) ORDER BY user_id, frequency LIMIT $5
"""
_DELETE: Final = "DELETE FROM digests WHERE org_id = $1 AND user_id = $2 AND frequency = $3"
# One group of each tenant before the second group of any. Rows that another replica is claiming are skipped.
_CLAIM: Final = f"""
WITH due AS (
  SELECT org_id, user_id, frequency, next_time FROM digests
  WHERE next_time <= app_now() - make_interval(secs => $1) AND (lease_until IS NULL OR lease_until <= app_now())
    AND frequency = ANY($6::text[])
  ORDER BY next_time LIMIT $4
), turns AS (
  SELECT *, (row_number() OVER (PARTITION BY org_id ORDER BY frequency, next_time, user_id) - 1) / $3 AS turn FROM due
), chosen AS (
  SELECT org_id, user_id, frequency FROM turns ORDER BY turn, org_id, frequency, next_time, user_id LIMIT $2
), mine AS (
  SELECT d.org_id, d.user_id, d.frequency FROM digests d JOIN chosen c USING (org_id, user_id, frequency)
  WHERE d.next_time <= app_now() - make_interval(secs => $1) AND (d.lease_until IS NULL OR d.lease_until <= app_now())
  FOR UPDATE OF d SKIP LOCKED
)
UPDATE digests d SET lease_until = app_now() + make_interval(secs => $5) FROM mine m
WHERE d.org_id = m.org_id AND d.user_id = m.user_id AND d.frequency = m.frequency
RETURNING {columns(Digest, of="d")}
"""
_HOLD: Final = f"""
SELECT {columns(Digest, of="d")} FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS g(user_id, frequency, next_time)
JOIN digests d ON d.org_id = $1 AND d.user_id = g.user_id AND d.frequency = g.frequency AND d.next_time = g.next_time
ORDER BY d.user_id, d.frequency FOR UPDATE OF d
"""
_SETTLE: Final = """
UPDATE digests d SET next_time = g.following, lease_until = NULL, latest_time = g.planned, latest_result = g.result,
  latest_page = coalesce(g.page, d.latest_page)
FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::uuid[])
  AS g(user_id, frequency, planned, following, result, page)
WHERE d.org_id = $1 AND d.user_id = g.user_id AND d.frequency = g.frequency
"""


async def write(tx: Tx, choice: Choice, next_time: datetime) -> Digest:
    """Insert it, or replace the choice. No digest is made for the old choice any more."""
    return _digest(
        await tx.fetchrow(
            _WRITE,
            tx.org_id,
            choice.user_id,
            choice.frequency,
            choice.hour,
            choice.weekday,
            choice.time_zone,
            choice.contact_method,
            choice.when_empty,
            next_time,
        )
    )


async def read(tx: Tx, user: str, frequency: Frequency, *, lock: bool = False) -> Digest | None:
    """One; with `lock` no digest is made until the transaction ends."""
    row = await tx.fetchrow(_READ + (" FOR UPDATE" if lock else ""), tx.org_id, user, frequency)
    return None if row is None else _digest(row)


async def page(tx: Tx, user: str, after: tuple[str, str], limit: int) -> list[Digest]:
    """By user, after a (user, frequency); of one user, or of all if `user` is empty."""
    return [_digest(row) for row in await tx.fetch(_PAGE, tx.org_id, *after, user, limit)]


async def delete(tx: Tx, user: str, frequency: Frequency) -> None:
    """Delete it: no further digest is made."""
    await tx.execute(_DELETE, tx.org_id, user, frequency)


async def forget(tx: Tx, user: str) -> None:
    """Delete the user's digests of every frequency."""
    await tx.execute("DELETE FROM digests WHERE org_id = $1 AND user_id = $2", tx.org_id, user)


async def claim(tx: Tx, *, behind: float, limit: int, at_once: int, look: int, lease: float) -> list[Digest]:
    """Digests of all tenants that were due `behind` seconds ago, at most `limit`, leased; tenants in turns of
    `at_once`.

    `look`: how many due ones are read. Those of a frequency that only a newer version knows are left to it.
    """
    return [_digest(row) for row in await tx.fetch(_CLAIM, behind, limit, at_once, look, lease, list(Frequency))]


async def hold(tx: Tx, claimed: Sequence[Digest]) -> list[Digest]:
    """Those of the tenant that are still due as they were claimed, with the present choice, locked."""
    rows = await tx.fetch(
        _HOLD,
        tx.org_id,
        [each.user_id for each in claimed],
        [each.frequency for each in claimed],
        [each.next_time for each in claimed],
    )
    return [_digest(row) for row in rows]


async def settle(tx: Tx, made: Sequence[Made]) -> None:
    """Write the results of locked ones, and when they are due next."""
    await tx.execute(
        _SETTLE,
        tx.org_id,
        [each.of.user_id for each in made],
        [each.of.frequency for each in made],
        [each.planned for each in made],
        [each.following for each in made],
        [each.result for each in made],
        [each.page for each in made],
    )


def _digest(row: asyncpg.Record | None) -> Digest:
    assert row is not None, "the row was written by this statement"
    values = dict(row)
    return Digest(
        **{**values, "frequency": Frequency(values["frequency"]), "when_empty": WhenEmpty(values["when_empty"])}
    )

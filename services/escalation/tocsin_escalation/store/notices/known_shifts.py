"""What users who want to be told of changes know of their shifts."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from asyncpg import Record
from tocsin_kit.db.pool import Tx

from tocsin_escalation.domain.schedules.clock import minute_of, time_of
from tocsin_escalation.domain.shift_changes import KnownShifts, ShiftTime


@dataclass(frozen=True, slots=True)
class Recipient:
    """A user who wants to be told of changes, and the shifts that they know; None: no row yet. `version`: of that."""

    org_id: str
    user_id: str
    channel: str
    time_zone: str
    known: KnownShifts | None
    version: int


_TENANTS: Final = """
WITH RECURSIVE orgs (org_id, n) AS (
  SELECT (SELECT org_id FROM shift_notice_choices WHERE changes AND org_id > $1 ORDER BY org_id LIMIT 1), 1
  UNION ALL
  SELECT (SELECT c.org_id FROM shift_notice_choices c WHERE c.changes AND c.org_id > orgs.org_id ORDER BY c.org_id LIMIT 1),
    orgs.n + 1
  FROM orgs WHERE orgs.org_id IS NOT NULL AND orgs.n < $2
)
SELECT org_id FROM orgs WHERE org_id IS NOT NULL
"""
_RECIPIENTS: Final = """
SELECT c.org_id, c.user_id, c.channel, u.time_zone, k.until, k.stretches, k.changed_time, coalesce(k.version, 0) AS version
FROM shift_notice_choices c JOIN users u ON u.org_id = c.org_id AND u.id = c.user_id
LEFT JOIN known_shifts k ON k.org_id = c.org_id AND k.user_id = c.user_id
WHERE c.org_id = ANY($1::text[]) AND c.changes AND NOT u.disabled
"""
# The choice is locked: a user who no longer wants notices gets none.
_LOCK: Final = """
SELECT user_id FROM shift_notice_choices
WHERE org_id = $1 AND user_id = ANY($2::text[]) AND changes ORDER BY user_id FOR UPDATE SKIP LOCKED
"""
# A statement of its own: a statement that locks sees the data of its start, also rows that another replica has written since.
_VERSIONS: Final = "SELECT user_id, version FROM known_shifts WHERE org_id = $1 AND user_id = ANY($2::text[])"
_SAVE: Final = """
INSERT INTO known_shifts AS k (org_id, user_id, until, stretches, changed_time)
SELECT $1, * FROM unnest($2::text[], $3::timestamptz[], $4::jsonb[], $5::timestamptz[])
ON CONFLICT (org_id, user_id) DO UPDATE SET until = excluded.until, stretches = excluded.stretches,
  changed_time = excluded.changed_time, version = k.version + 1
"""


async def tenants(tx: Tx, after: str, limit: int) -> list[str]:
    """Tenants with a user who wants to be told, after `after`."""
    return [record["org_id"] for record in await tx.fetch(_TENANTS, after, limit)]


async def recipients(tx: Tx, org_ids: Sequence[str]) -> list[Recipient]:
    """Those of these tenants, without those who are disabled."""
    return [_recipient(record) for record in await tx.fetch(_RECIPIENTS, list(org_ids))]


async def lock(tx: Tx, users: Collection[str]) -> dict[str, int]:
    """The versions of the tenant's users who want to be told; without those that another replica works on."""
    locked = [record["user_id"] for record in await tx.fetch(_LOCK, tx.org_id, sorted(users))]
    known = {record["user_id"]: record["version"] for record in await tx.fetch(_VERSIONS, tx.org_id, locked)}
    return {user: known.get(user, 0) for user in locked}


async def save(tx: Tx, known: Sequence[tuple[str, KnownShifts]]) -> None:
    """The shifts that locked users know from now on."""
    await tx.execute(
        _SAVE,
        tx.org_id,
        [user for user, _ in known],
        [time_of(each.until) for _, each in known],
        [_json(each.stretches) for _, each in known],
        [None if each.changed is None else time_of(each.changed) for _, each in known],
    )


async def forget(tx: Tx, user: str) -> None:
    """A user of the tenant does not want to be told any more."""
    await tx.execute("DELETE FROM known_shifts WHERE org_id = $1 AND user_id = $2", tx.org_id, user)


def _json(stretches: Sequence[ShiftTime]) -> str:
    listed: dict[str, list[tuple[int, int]]] = {}
    for each in stretches:
        listed.setdefault(each.schedule, []).append((each.start, each.end))
    return json.dumps(listed)


def _recipient(record: Record) -> Recipient:
    known = None
    if record["until"] is not None:
        stretches = [
            ShiftTime(schedule, start, end)
            for schedule, listed in json.loads(record["stretches"]).items()
            for start, end in listed
        ]
        changed: datetime | None = record["changed_time"]
        known = KnownShifts(
            minute_of(record["until"]), tuple(stretches), None if changed is None else minute_of(changed)
        )
    return Recipient(
        record["org_id"], record["user_id"], record["channel"], record["time_zone"], known, record["version"]
    )

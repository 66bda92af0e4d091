"""Slack user groups that follow schedules: the chosen schedule, the members that Slack was sent, and the time of the
next check."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.store.fair_claims import fairly_taken


@dataclass(frozen=True, slots=True)
class SlackGroup:
    """A row. `look_time`: the next check; a replica that checks has postponed it, and no other replica checks until
    then."""

    org_id: str
    id: str
    schedule: str
    disable_when_nobody: bool
    members: Sequence[str]
    disabled: bool
    look_time: datetime
    tries: int
    success_time: datetime | None
    problem: str
    problem_time: datetime | None
    version: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of one check. `members`: None if Slack was sent nothing. `pause`: seconds until the next check."""

    of: SlackGroup
    members: Sequence[str] | None
    disabled: bool
    tries: int
    problem: str
    pause: float


_COLUMNS: Final = columns(SlackGroup)
_READ: Final = f"SELECT {_COLUMNS} FROM slack_groups WHERE org_id = $1 AND id = $2 FOR UPDATE"
_CHANGE: Final = f"""
UPDATE slack_groups SET schedule = $3, disable_when_nobody = $4, look_time = app_now(), tries = 0, version = version + 1
WHERE org_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
# Returns nothing when another tenant has the group, whose row is not visible.
_INSERT: Final = f"""
INSERT INTO slack_groups (org_id, id, schedule, disable_when_nobody) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING
RETURNING {_COLUMNS}
"""
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM slack_groups WHERE org_id = $1 AND id > $2 ORDER BY id LIMIT $3
"""
_DELETE: Final = "DELETE FROM slack_groups WHERE org_id = $1 AND id = $2"
_DUE: Final = fairly_taken("slack_groups", time="look_time", living="true", due="look_time <= app_now()")
_CLAIM: Final = f"""
WITH RECURSIVE {_DUE}
UPDATE slack_groups s SET look_time = app_now() + make_interval(secs => $2) FROM taken t WHERE s.id = t.id
RETURNING {columns(SlackGroup, of="s")}
"""
# Another replica that checked meanwhile, or a change, may have sent Slack something else: check again at once.
_SETTLE: Final = """
UPDATE slack_groups s SET
  members = coalesce($3::text[], s.members), disabled = $4, tries = $5, problem = $6,
  success_time = CASE WHEN $3::text[] IS NULL THEN s.success_time ELSE app_now() END,
  problem_time = CASE WHEN $6 = '' THEN NULL WHEN s.problem = '' THEN app_now() ELSE s.problem_time END,
  look_time = app_now() + make_interval(secs => $7)
WHERE s.org_id = $1 AND s.id = $2 AND s.look_time = $8 AND s.version = $9 RETURNING true
"""
_ANEW: Final = """
UPDATE slack_groups SET members = '{}', look_time = app_now() WHERE org_id = $1 AND id = $2
"""


async def read(tx: Tx, group: str) -> SlackGroup | None:
    """The tenant's own, locked."""
    row = await tx.fetchrow(_READ, tx.org_id, group)
    return None if row is None else SlackGroup(*row)


async def change(tx: Tx, group: str, schedule: str, disable_when_nobody: bool) -> SlackGroup | None:
    """Let it follow this schedule; it is checked at once. None: the tenant has no such group."""
    row = await tx.fetchrow(_CHANGE, tx.org_id, group, schedule, disable_when_nobody)
    return None if row is None else SlackGroup(*row)


async def insert(tx: Tx, group: str, schedule: str, disable_when_nobody: bool) -> SlackGroup | None:
    """A new one, which is checked at once. None: another tenant has the group."""
    row = await tx.fetchrow(_INSERT, tx.org_id, group, schedule, disable_when_nobody)
    return None if row is None else SlackGroup(*row)


async def page(tx: Tx, after: str, limit: int) -> list[SlackGroup]:
    """In the order of their ids, after the given one."""
    return [SlackGroup(*row) for row in await tx.fetch(_PAGE, tx.org_id, after, limit)]


async def delete(tx: Tx, group: str) -> None:
    """The group follows no schedule any more."""
    await tx.execute(_DELETE, tx.org_id, group)


async def claim(tx: Tx, *, limit: int, lease: float) -> list[SlackGroup]:
    """Due groups of all tenants, tenants in turns, at most `limit`; no other replica checks them for `lease` seconds."""
    return [SlackGroup(*row) for row in await tx.fetch(_CLAIM, limit, lease)]


async def settle(tx: Tx, settled: Settled) -> bool:
    """Write the result of a check. False: the row was changed or checked meanwhile, and is checked again."""
    of = settled.of
    members = None if settled.members is None else list(settled.members)
    as_it_was = await tx.fetchval(
        _SETTLE,
        tx.org_id,
        of.id,
        members,
        settled.disabled,
        settled.tries,
        settled.problem,
        settled.pause,
        of.look_time,
        of.version,
    )
    if as_it_was:
        return True
    await tx.execute(_ANEW, tx.org_id, of.id)
    return False

"""User groups of Slack that follow schedules: what was wished, what was done, and when to look again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.store.turns import taken_in_turns


@dataclass(frozen=True, slots=True)
class SlackGroup:
    """One as it is kept. `look_time`: when to look next; a replica that looks has put it off, and no other one looks until then."""

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
    """What became of one look. `members`: None: Slack was told nothing. `pause`: seconds until the next one."""

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
# Nothing is returned when another tenant has it, whose row cannot be seen.
_INSERT: Final = f"""
INSERT INTO slack_groups (org_id, id, schedule, disable_when_nobody) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING
RETURNING {_COLUMNS}
"""
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM slack_groups WHERE org_id = $1 AND id > $2 ORDER BY id LIMIT $3
"""
_DELETE: Final = "DELETE FROM slack_groups WHERE org_id = $1 AND id = $2"
_DUE: Final = taken_in_turns("slack_groups", time="look_time", living="true", due="look_time <= app_now()")
_CLAIM: Final = f"""
WITH RECURSIVE {_DUE}
UPDATE slack_groups s SET look_time = app_now() + make_interval(secs => $2) FROM taken t WHERE s.id = t.id
RETURNING {columns(SlackGroup, of="s")}
"""
# Another replica that looked meanwhile, or a change, may have told Slack something else before or after: look anew at once.
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
    """It is to follow the schedule like that, and is looked at at once. None: the tenant has no such group."""
    row = await tx.fetchrow(_CHANGE, tx.org_id, group, schedule, disable_when_nobody)
    return None if row is None else SlackGroup(*row)


async def insert(tx: Tx, group: str, schedule: str, disable_when_nobody: bool) -> SlackGroup | None:
    """A new one, which is looked at at once. None: another tenant has the group."""
    row = await tx.fetchrow(_INSERT, tx.org_id, group, schedule, disable_when_nobody)
    return None if row is None else SlackGroup(*row)


async def page(tx: Tx, after: str, limit: int) -> list[SlackGroup]:
    """By their ids, behind one."""
    return [SlackGroup(*row) for row in await tx.fetch(_PAGE, tx.org_id, after, limit)]


async def delete(tx: Tx, group: str) -> None:
    """It follows nothing any more."""
    await tx.execute(_DELETE, tx.org_id, group)


async def claim(tx: Tx, *, limit: int, lease: float) -> list[SlackGroup]:
    """Those of all tenants that are due, in turns, at most `limit`; no other replica looks at them for `lease` seconds."""
    return [SlackGroup(*row) for row in await tx.fetch(_CLAIM, limit, lease)]


async def settle(tx: Tx, settled: Settled) -> bool:
    """Write what became of a look; False: it was changed or looked at meanwhile, and is looked at anew."""
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

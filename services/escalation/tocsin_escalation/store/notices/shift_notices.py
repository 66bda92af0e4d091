"""The notices of shifts that users want, and the planned ones."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.schedules.clock import minute_of, time_of
from tocsin_escalation.domain.shift_details import OpenIncident
from tocsin_escalation.domain.shift_notices import Key, Notice, NoticeKind, NoticeState

MOST_SCHEDULES: Final = 1000
"""Schedules of one tenant that are resolved for notices, the first by id."""
MOST_OPEN: Final = 250
"""Open incidents of each state that are read for a hand-over, the newest."""
_MOST_DUE: Final = 20_000
"""Users that are read, the longest due first; the tenants alternate among them."""


@dataclass(frozen=True, slots=True)
class NoticeSettings:
    """What a user asks for. None: the user does not want that notice. `channel` empty: as their rules say.

    `changes`: a message when their shifts move. `swaps`: messages about swaps.
    """

    before_minutes: int | None
    hand_over: bool
    week_minute: int | None
    channel: str
    changes: bool = False
    swaps: bool = False


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """What one user wants, see `NoticeSettings`. `update_time` None: the user has not chosen."""

    user_id: str
    before_minutes: int | None
    hand_over: bool
    week_minute: int | None
    channel: str
    version: int
    update_time: datetime | None
    changes: bool = False
    swaps: bool = False


@dataclass(frozen=True, slots=True)
class Chooser:
    """A choice with what the directory says of its user."""

    org_id: str
    user_id: str
    before_minutes: int | None
    hand_over: bool
    week_minute: int | None
    channel: str
    version: int
    update_time: datetime
    changes: bool
    swaps: bool
    time_zone: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """One that is planned, or was sent or skipped."""

    user_id: str
    kind: NoticeKind
    schedule_id: str
    start_time: datetime
    due_time: datetime
    state: NoticeState

    @property
    def key(self) -> Key:
        """The identity of the notice."""
        return Key(self.kind, self.schedule_id, minute_of(self.start_time))


_CHOICE: Final = columns(ChoiceRow)
_NOTICE: Final = columns(NoticeRow)
_CHOOSER: Final = f"c.org_id, {columns(ChoiceRow, of='c')}, u.time_zone, u.disabled"
_GET: Final = f"SELECT {_CHOICE} FROM shift_notice_choices WHERE org_id = $1 AND user_id = $2"
_SAVE: Final = f"""
INSERT INTO shift_notice_choices AS c (org_id, user_id, before_minutes, hand_over, week_minute, channel, changes, swaps)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (org_id, user_id) DO UPDATE SET before_minutes = excluded.before_minutes, hand_over = excluded.hand_over,
  week_minute = excluded.week_minute, channel = excluded.channel, changes = excluded.changes, swaps = excluded.swaps,
  version = c.version + 1, update_time = app_now()
RETURNING {columns(ChoiceRow, of="c")}
"""
_TENANTS: Final = """
WITH RECURSIVE orgs (org_id, n) AS (
  SELECT (SELECT org_id FROM shift_notice_choices WHERE org_id > $1 ORDER BY org_id LIMIT 1), 1
  UNION ALL
  SELECT (SELECT c.org_id FROM shift_notice_choices c WHERE c.org_id > orgs.org_id ORDER BY c.org_id LIMIT 1), orgs.n + 1
  FROM orgs WHERE orgs.org_id IS NOT NULL AND orgs.n < $2
)
SELECT org_id FROM orgs WHERE org_id IS NOT NULL
"""
_CHOOSERS: Final = f"""
SELECT {_CHOOSER} FROM shift_notice_choices c JOIN users u ON u.org_id = c.org_id AND u.id = c.user_id
WHERE c.org_id = ANY($1::text[])
"""
_LOCK: Final = f"""
SELECT {_CHOOSER} FROM shift_notice_choices c JOIN users u ON u.org_id = c.org_id AND u.id = c.user_id
WHERE c.org_id = $1 AND c.user_id = ANY($2::text[]) ORDER BY c.user_id FOR UPDATE OF c SKIP LOCKED
"""
_TOLD_OF_SWAPS: Final = f"""
SELECT {_CHOOSER} FROM shift_notice_choices c JOIN users u ON u.org_id = c.org_id AND u.id = c.user_id
WHERE c.org_id = $1 AND c.user_id = ANY($2::text[]) AND c.swaps AND NOT u.disabled ORDER BY c.user_id
"""
_SCHEDULES: Final = """
SELECT w.org_id, s.id FROM unnest($1::text[]) AS w(org_id)
CROSS JOIN LATERAL (SELECT id FROM schedules s WHERE s.org_id = w.org_id ORDER BY s.id LIMIT $2) AS s
"""
_NOTICES: Final = f"""
SELECT n.org_id, {columns(NoticeRow, of="n")} FROM shift_notices n WHERE n.org_id = ANY($1::text[])
"""
_NOTICES_OF: Final = f"SELECT {_NOTICE} FROM shift_notices WHERE org_id = $1 AND user_id = ANY($2::text[])"
_DUE: Final = """
WITH due AS MATERIALIZED (
  SELECT org_id, user_id, next_due FROM shift_notice_choices WHERE next_due <= app_now() ORDER BY next_due LIMIT $2
)
SELECT org_id, user_id FROM due
ORDER BY row_number() OVER (PARTITION BY org_id ORDER BY next_due, user_id), next_due, org_id LIMIT $1
"""
_FORGET: Final = """
DELETE FROM shift_notices n
USING unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[]) AS g(user_id, kind, schedule_id, start_time)
WHERE n.org_id = $1 AND n.user_id = g.user_id AND n.kind = g.kind AND n.schedule_id = g.schedule_id
  AND n.start_time = g.start_time AND n.state = 'planned'
"""
_PLAN: Final = """
INSERT INTO shift_notices AS n (org_id, user_id, kind, schedule_id, start_time, due_time)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
ON CONFLICT (org_id, user_id, kind, schedule_id, start_time) DO UPDATE SET due_time = excluded.due_time
WHERE n.state = 'planned'
"""
_SETTLE: Final = """
UPDATE shift_notices n SET state = g.state
FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[]) AS g(user_id, kind, schedule_id, start_time, state)
WHERE n.org_id = $1 AND n.user_id = g.user_id AND n.kind = g.kind AND n.schedule_id = g.schedule_id
  AND n.start_time = g.start_time AND n.state = 'planned'
"""
_ARM: Final = """
UPDATE shift_notice_choices c SET next_due =
  (SELECT min(n.due_time) FROM shift_notices n WHERE n.org_id = c.org_id AND n.user_id = c.user_id AND n.state = 'planned')
WHERE c.org_id = $1 AND c.user_id = ANY($2::text[])
"""
_REST: Final = """
UPDATE shift_notice_choices SET next_due = app_now() + $3 WHERE org_id = $1 AND user_id = ANY($2::text[]) AND next_due IS NOT NULL
"""
_PAGE: Final = f"""
SELECT {_NOTICE} FROM shift_notices
WHERE org_id = $1 AND user_id = $2 AND (due_time, kind, schedule_id, start_time) > ($3, $4, $5, $6)
ORDER BY due_time, kind, schedule_id, start_time LIMIT $7
"""
_NAMES: Final = """
SELECT 'schedule' AS kind, id, display_name FROM schedules WHERE org_id = $1 AND id = ANY($2::text[])
UNION ALL SELECT 'user', id, display_name FROM users WHERE org_id = $1 AND id = ANY($3::text[])
"""
# One part for each state: an index gives the newest of each, however many are resolved.
_OPEN: Final = """
SELECT left(e.title, 200) AS title, e.severity, e.state, e.create_time, e.n,
  ARRAY(SELECT DISTINCT substr(t.name, 11) FROM jsonb_array_elements(e.policy->'levels') AS l(level),
          jsonb_array_elements_text(l.level->'targets') AS t(name) WHERE t.name LIKE 'schedules/%') AS schedules
FROM unnest($2::text[]) AS wanted(state) CROSS JOIN LATERAL (
  SELECT e.*, row_number() OVER (ORDER BY e.create_time DESC, e.incident_id DESC) AS n FROM escalations e
  WHERE e.org_id = $1 AND e.state = wanted.state ORDER BY e.create_time DESC, e.incident_id DESC LIMIT $3
) AS e
"""
_OPEN_STATES: Final = [State.TRIGGERED, State.ACKNOWLEDGED, State.SNOOZED, State.EXHAUSTED]
_FORGET_OLD: Final = """
DELETE FROM shift_notices WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM shift_notices WHERE state <> 'planned' AND start_time < app_now() - make_interval(days => $1) LIMIT $2))
"""


async def get(tx: Tx, user: str, *, lock: bool = False) -> ChoiceRow | None:
    """The choice of a user of the tenant; None: not chosen. With `lock`, planning and sending wait."""
    record = await tx.fetchrow(_GET + (" FOR UPDATE" if lock else ""), tx.org_id, user)
    return None if record is None else ChoiceRow(**record)


async def save(tx: Tx, user: str, wanted: NoticeSettings) -> ChoiceRow:
    """What the user wants from now on."""
    record = await tx.fetchrow(
        _SAVE,
        tx.org_id,
        user,
        wanted.before_minutes,
        wanted.hand_over,
        wanted.week_minute,
        wanted.channel,
        wanted.changes,
        wanted.swaps,
    )
    assert record is not None, "an insert returns its row"
    return ChoiceRow(**record)


async def told_of_swaps(tx: Tx, users: Collection[str]) -> list[Chooser]:
    """Those of the tenant's users who want to be told of swaps."""
    return [Chooser(**record) for record in await tx.fetch(_TOLD_OF_SWAPS, tx.org_id, sorted(users))]


async def tenants(tx: Tx, after: str, limit: int) -> list[str]:
    """Tenants with a user who has chosen notices, after `after`."""
    return [record["org_id"] for record in await tx.fetch(_TENANTS, after, limit)]


async def choosers(tx: Tx, org_ids: Sequence[str]) -> list[Chooser]:
    """The users of these tenants who chose notices."""
    return [Chooser(**record) for record in await tx.fetch(_CHOOSERS, list(org_ids))]


async def lock(tx: Tx, users: Collection[str]) -> list[Chooser]:
    """Those of the tenant's users; other planning and sending waits for them; without those that another replica holds."""
    return [Chooser(**record) for record in await tx.fetch(_LOCK, tx.org_id, sorted(users))]


async def schedules(tx: Tx, org_ids: Sequence[str]) -> list[tuple[str, str]]:
    """The schedules of these tenants as (tenant, id), `MOST_SCHEDULES` of each."""
    return [(record["org_id"], record["id"]) for record in await tx.fetch(_SCHEDULES, list(org_ids), MOST_SCHEDULES)]


async def of_tenants(tx: Tx, org_ids: Sequence[str]) -> list[tuple[str, NoticeRow]]:
    """All stored notices of these tenants, each with its tenant."""
    return [(record["org_id"], _row(record)) for record in await tx.fetch(_NOTICES, list(org_ids))]


async def of_users(tx: Tx, users: Collection[str]) -> list[NoticeRow]:
    """All stored notices of these users."""
    return [_row(record) for record in await tx.fetch(_NOTICES_OF, tx.org_id, list(users))]


async def due(tx: Tx, limit: int) -> list[tuple[str, str]]:
    """Users of all tenants, as (tenant, user), with a due notice: the tenants alternate."""
    return [(record["org_id"], record["user_id"]) for record in await tx.fetch(_DUE, limit, _MOST_DUE)]


async def replan(
    tx: Tx, gone: Sequence[tuple[str, Key]], new: Sequence[tuple[str, Notice]], users: Collection[str]
) -> None:
    """Of locked users, the planned notices to remove, and those to add; `users` are all of them."""
    if gone:
        await tx.execute(_FORGET, tx.org_id, *_keys(gone))
    if new:
        dues = [time_of(notice.due) for _, notice in new]
        await tx.execute(_PLAN, tx.org_id, *_keys((user, notice.key) for user, notice in new), dues)
    await tx.execute(_ARM, tx.org_id, list(users))


async def settle(
    tx: Tx, ended: Sequence[tuple[str, Key, NoticeState]], gone: Sequence[tuple[str, Key]], users: Collection[str]
) -> None:
    """The new states of planned notices of locked users; those that are `gone` are deleted."""
    if ended:
        states = [state for *_, state in ended]
        await tx.execute(_SETTLE, tx.org_id, *_keys((user, key) for user, key, _ in ended), states)
    await replan(tx, gone, [], users)


async def rest(tx: Tx, users: Collection[str], time: timedelta) -> None:
    """Postpone the due notices of these users by this time."""
    await tx.execute(_REST, tx.org_id, list(users), time)


async def page(tx: Tx, user: str, after: tuple[datetime, str, str, datetime], limit: int) -> list[NoticeRow]:
    """Those of a user by their due time, after (due_time, kind, schedule, start_time)."""
    return [_row(record) for record in await tx.fetch(_PAGE, tx.org_id, user, *after, limit)]


async def names(tx: Tx, schedule_ids: Collection[str], users: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The display names of these schedules and users of the tenant."""
    found: dict[str, dict[str, str]] = {"schedule": {}, "user": {}}
    for record in await tx.fetch(_NAMES, tx.org_id, list(schedule_ids), list(users)):
        found[record["kind"]][record["id"]] = record["display_name"]
    return found["schedule"], found["user"]


async def open_incidents(tx: Tx) -> tuple[list[OpenIncident], bool]:
    """The tenant's newest open ones, and whether there may be more."""
    records = await tx.fetch(_OPEN, tx.org_id, _OPEN_STATES, MOST_OPEN)
    found = [
        OpenIncident(r["title"], r["severity"], r["state"], r["create_time"], frozenset(r["schedules"]))
        for r in records
    ]
    return found, any(record["n"] == MOST_OPEN for record in records)


async def delete_old(tx: Tx, limit: int, *, days: int) -> int:
    """Delete notices that were sent or skipped that long ago; returns how many."""
    return int((await tx.execute(_FORGET_OLD, days, limit)).rpartition(" ")[2])


def _keys(keys: Iterable[tuple[str, Key]]) -> tuple[list[str], list[str], list[str], list[datetime]]:
    listed = list(keys)
    return (
        [user for user, _ in listed],
        [key.kind for _, key in listed],
        [key.schedule for _, key in listed],
        [time_of(key.start) for _, key in listed],
    )


def _row(record: Record) -> NoticeRow:
    return NoticeRow(
        record["user_id"],
        NoticeKind(record["kind"]),
        record["schedule_id"],
        record["start_time"],
        record["due_time"],
        NoticeState(record["state"]),
    )

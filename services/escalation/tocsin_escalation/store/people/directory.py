"""Users and teams in PostgreSQL."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import columns_of
from tocsin_kit.logging import get_logger

from tocsin_escalation.domain.on_call import on_call_at
from tocsin_escalation.domain.policy import Directory, OnCall, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.paging import WORK_TOGETHER, WorkBudget
from tocsin_escalation.store import tables
from tocsin_escalation.store.people.named import Named
from tocsin_escalation.store.schedules import on_call
from tocsin_escalation.store.schedules.on_call import LOOK_AHEAD

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UserRow:
    """A person as kept."""

    id: str
    display_name: str
    time_zone: str
    disabled: bool
    version: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class TeamRow:
    """A team as kept; `members` are user ids."""

    id: str
    display_name: str
    members: tuple[str, ...]
    version: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None


def _user(record: Record) -> UserRow:
    return UserRow(**dict(record))


def _team(record: Record) -> TeamRow:
    return TeamRow(**{**dict(record), "members": tuple(record["members"])})


_USERS: Final = Named(
    tables.users,
    columns_of(tables.users, UserRow),
    _user,
    written=("display_name", "time_zone", "disabled"),
)
_TEAMS: Final = Named(tables.teams, columns_of(tables.teams, TeamRow), _team, written=("display_name", "members"))
get_user: Final = _USERS.get
get_team: Final = _TEAMS.get
users_after: Final = _USERS.page
teams_after: Final = _TEAMS.page
delete_team: Final = _TEAMS.delete


async def insert_user(tx: Tx, user: UserRow) -> UserRow | None:
    """A new user; None when the id is taken."""
    record = await tx.fetchrow(*_USERS.inserting(org_id=tx.org_id, **_written(user)))
    return _user(record) if record else None


async def insert_team(tx: Tx, team: TeamRow) -> TeamRow | None:
    """A new team; None when the id is taken."""
    record = await tx.fetchrow(*_TEAMS.inserting(org_id=tx.org_id, **_written_team(team)))
    return _team(record) if record else None


async def update_user(tx: Tx, user: UserRow) -> UserRow:
    """A locked user's new values."""
    record = await tx.fetchrow(*_USERS.updating(org_id=tx.org_id, **_written(user)))
    assert record is not None, "the row is locked by this transaction"
    return _user(record)


async def update_team(tx: Tx, team: TeamRow) -> TeamRow:
    """A locked team's new values."""
    record = await tx.fetchrow(*_TEAMS.updating(org_id=tx.org_id, **_written_team(team)))
    assert record is not None, "the row is locked by this transaction"
    return _team(record)


def _written(user: UserRow) -> dict[str, object]:
    return {
        "id": user.id,
        "display_name": user.display_name,
        "time_zone": user.time_zone,
        "disabled": user.disabled,
    }


def _written_team(team: TeamRow) -> dict[str, object]:
    return {"id": team.id, "display_name": team.display_name, "members": list(team.members)}


_FORGOTTEN: Final = (
    """UPDATE teams SET members = array_remove(members, $2), version = version + 1, update_time = app_now()
       WHERE org_id = $1 AND members @> ARRAY[$2::text]""",
    # Absences that have begun stay unchanged.
    """DELETE FROM absences WHERE org_id = $1 AND user_id = $2 AND start_time >= date_trunc('minute', app_now())""",
    """UPDATE absences SET end_time = date_trunc('minute', app_now())
       WHERE org_id = $1 AND user_id = $2 AND end_time > app_now()""",
    "DELETE FROM calendar_feeds WHERE org_id = $1 AND user_id = $2",
    # An offer without a receiver would be an offer to every user.
    """UPDATE swaps SET version = version + 1, update_time = app_now(),
         state = CASE WHEN user_id = $2 THEN 'withdrawn' WHEN offered_to = ARRAY[$2::text] THEN 'declined' ELSE state END,
         offered_to = CASE WHEN offered_to = ARRAY[$2::text] THEN offered_to ELSE array_remove(offered_to, $2) END
       WHERE org_id = $1 AND state = 'offered' AND end_time > app_now() AND (user_id = $2 OR offered_to @> ARRAY[$2::text])""",
    """UPDATE reminders SET state = 'stopped', state_reason = 'users/' || $2 || ' was deleted', next_time = NULL
       WHERE org_id = $1 AND state = 'scheduled' AND user_id = $2 AND team_id IS NULL""",
    # In the order in which all transactions lock incidents.
    """UPDATE escalations SET followers = followers - $2::text WHERE incident_id IN (
         SELECT incident_id FROM escalations
         WHERE org_id = $1 AND state IN ('triggered', 'acknowledged', 'snoozed', 'exhausted', 'merged') AND followers ? $2::text
         ORDER BY incident_id FOR UPDATE)""",
)
"""Everything else that belongs to a user and that no foreign key deletes. A new user of the same id must get none of it."""


async def delete_user(tx: Tx, id: str) -> None:
    """Delete a locked user, with what belongs to them; teams lose the member. Schedules and policies still name them."""
    await _USERS.delete(tx, id)
    for statement in _FORGOTTEN:
        await tx.execute(statement, tx.org_id, id)


async def unknown(tx: Tx, targets: Iterable[Target]) -> list[Target]:
    """Those of `targets` that this tenant does not have."""
    wanted = list(dict.fromkeys(targets))
    records = await tx.fetch(
        """SELECT 'user' AS kind, id FROM users WHERE org_id = $1 AND id = ANY($2::text[])
           UNION ALL SELECT 'team', id FROM teams WHERE org_id = $1 AND id = ANY($3::text[])
           UNION ALL SELECT 'schedule', id FROM schedules WHERE org_id = $1 AND id = ANY($4::text[])""",
        tx.org_id,
        [target.id for target in wanted if target.kind is TargetKind.USER],
        [target.id for target in wanted if target.kind is TargetKind.TEAM],
        [target.id for target in wanted if target.kind is TargetKind.SCHEDULE],
    )
    known = {(record["kind"], record["id"]) for record in records}
    return [target for target in wanted if (target.kind.value, target.id) not in known]


async def load(
    tx: Tx, wanted: Sequence[tuple[str, Target]], *, most_schedules: int | None = None, time: datetime | None = None
) -> dict[str, Directory]:
    """The people behind (org, target) pairs, in the form that decisions use: by org, in one query. `time`: None for now.

    `most_schedules`: the number of schedules of each org that are resolved, the first ones. The others count as having no one on
    call, and say so.
    """
    if not wanted:
        return {}
    standing_now = await _on_call(tx, wanted, most_schedules, time)
    people = [
        (org, Target(TargetKind.USER, user))
        for org, schedules in standing_now.items()
        for found in schedules.values()
        for user in found.users
    ]
    loaded = await load_people(tx, [*wanted, *people])
    return {org: replace(base, schedules=standing_now.get(org)) for org, base in loaded.items()}


async def load_people(tx: Tx, wanted: Sequence[tuple[str, Target]]) -> dict[str, Directory]:
    """The users and teams behind (org, target) pairs, by org; not who is on call in schedules."""
    orgs = {org for org, _ in wanted}
    wanted = [pair for pair in wanted if pair[1].kind is not TargetKind.SCHEDULE]
    records = await tx.fetch(
        """WITH wanted AS (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[]) AS w(org_id, kind, id)),
                team AS (SELECT t.org_id, t.id, t.members FROM teams t
                           JOIN wanted w ON w.kind = 'team' AND w.org_id = t.org_id AND w.id = t.id),
                person AS (SELECT org_id, id FROM wanted WHERE kind = 'user'
                           UNION SELECT org_id, unnest(members) FROM team)
           SELECT org_id, id, members, NULL AS time_zone FROM team
           UNION ALL
           SELECT u.org_id, u.id, NULL, u.time_zone FROM users u JOIN person p USING (org_id, id) WHERE NOT u.disabled""",
        [org for org, _ in wanted],
        [target.kind.value for _, target in wanted],
        [target.id for _, target in wanted],
    )
    users: dict[str, dict[str, str]] = {}
    teams: dict[str, dict[str, tuple[str, ...]]] = {}
    for record in records:
        if record["members"] is None:
            users.setdefault(record["org_id"], {})[record["id"]] = record["time_zone"]
        else:
            teams.setdefault(record["org_id"], {})[record["id"]] = tuple(record["members"])
    return {org: _directory(users.get(org, {}), teams.get(org, {})) for org in orgs}


def _directory(users: Mapping[str, str], teams: Mapping[str, tuple[str, ...]]) -> Directory:
    """`users`: with the time zone of each, which may be empty."""
    return Directory(frozenset(users), teams, zones={user: zone for user, zone in users.items() if zone})


async def _on_call(
    tx: Tx, wanted: Sequence[tuple[str, Target]], most: int | None, time: datetime | None
) -> dict[str, dict[str, OnCall]]:
    """Who is on call in the schedules among the targets, by tenant. Costs nothing without one."""
    keys = list(dict.fromkeys((org, target.id) for org, target in wanted if target.kind is TargetKind.SCHEDULE))
    if not keys:
        return {}
    beyond = _beyond(keys, most)
    at = time or await tx.now()
    minute = minute_of(at)
    schedules = await on_call.load(tx, [key for key in keys if key not in beyond], at, at + LOOK_AHEAD)
    # In a thread: resolving many schedules that are not cached takes longer than other calls may wait.
    found = await asyncio.get_running_loop().run_in_executor(on_call.THREADS, _at, schedules, minute)
    for org, id in beyond:
        why = f"schedules/{id} is not looked at: the policies of this incident name more than {most} schedules"
        found.setdefault(org, {})[id] = OnCall((), why)
    return found


def _beyond(keys: Sequence[on_call.Key], most: int | None) -> set[on_call.Key]:
    """The schedules that are not resolved."""
    if most is None:
        return set()
    counted, beyond = Counter[str](), set[on_call.Key]()
    for key in keys:
        counted[key[0]] += 1
        if counted[key[0]] > most:
            beyond.add(key)
    for org_id in sorted({org for org, _ in beyond}):
        _log.error("schedules_not_looked_at", org_id=org_id, schedules=counted[org_id], looked_at=most)
    return beyond


def _at(schedules: Mapping[on_call.Key, Schedule], minute: int) -> dict[str, dict[str, OnCall]]:
    found: dict[str, dict[str, OnCall]] = {}
    work = WorkBudget(WORK_TOGETHER)
    for (org, id), schedule in schedules.items():
        try:
            on_call_now = on_call_at(schedule, minute, work)
        except Exception as error:
            # If it were raised, no incident of its policies could be opened, and their other levels would not be paged.
            _log.exception("schedule_unusable", org_id=org, schedule=id)
            on_call_now = OnCall((), f"schedules/{id} cannot be resolved ({type(error).__name__})")
        found.setdefault(org, {})[id] = on_call_now
    return found

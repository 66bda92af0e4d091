"""Users and teams: the people who can be paged."""

from collections.abc import Callable
from typing import NoReturn

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.notify.v1 import internal_service_pb2 as pb
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.rpc.masks import require_etag

from tocsin_escalation.app.incidents.jobs import USER
from tocsin_escalation.app.people import targets
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.schedules.checks import zone_problem
from tocsin_escalation.store.people import directory
from tocsin_escalation.store.people.directory import TeamRow, UserRow


async def get_user(db: Database, org_id: str, id: str) -> UserRow:
    """One user. Raises USER_NOT_FOUND."""
    async with db.transaction(org_id) as tx:
        return await _user(tx, id)


async def get_team(db: Database, org_id: str, id: str) -> TeamRow:
    """One team. Raises TEAM_NOT_FOUND."""
    async with db.transaction(org_id) as tx:
        return await _team(tx, id)


async def create_user(tx: Tx, user: UserRow) -> UserRow:
    """A new user. Raises ALREADY_EXISTS, INVALID_FIELD."""
    _check_zone(user.time_zone)
    return await directory.insert_user(tx, user) or _taken(f"users/{user.id}")


async def create_team(tx: Tx, team: TeamRow) -> TeamRow:
    """A new team. Raises ALREADY_EXISTS, USER_NOT_FOUND."""
    await _check_members(tx, team)
    return await directory.insert_team(tx, team) or _taken(f"teams/{team.id}")


async def update_user(tx: Tx, id: str, etag: str, change: Callable[[UserRow], UserRow]) -> UserRow:
    """The user after `change`. Raises USER_NOT_FOUND, ETAG_MISMATCH, INVALID_FIELD."""
    row = await _user(tx, id, lock=True)
    require_etag(etag, row.version)
    changed = change(row)
    if changed.time_zone != row.time_zone:
        _check_zone(changed.time_zone)
    if changed.disabled is not row.disabled:
        await _tell(tx, id, pb.USER_STANDING_DISABLED if changed.disabled else pb.USER_STANDING_ENABLED)
    return await directory.update_user(tx, changed)


async def update_team(tx: Tx, id: str, etag: str, change: Callable[[TeamRow], TeamRow]) -> TeamRow:
    """The team after `change`. Raises TEAM_NOT_FOUND, ETAG_MISMATCH, USER_NOT_FOUND."""
    row = await _team(tx, id, lock=True)
    require_etag(etag, row.version)
    changed = change(row)
    await _check_members(tx, changed)
    return await directory.update_team(tx, changed)


async def delete_user(tx: Tx, id: str, etag: str) -> UserRow:
    """Delete a user; returns it as it was. Raises USER_NOT_FOUND, ETAG_MISMATCH."""
    row = await _user(tx, id, lock=True)
    require_etag(etag, row.version)
    await directory.delete_user(tx, id)
    await _tell(tx, id, pb.USER_STANDING_DELETED)
    return row


async def delete_team(tx: Tx, id: str, etag: str) -> TeamRow:
    """Delete a team; returns it as it was. Raises TEAM_NOT_FOUND, ETAG_MISMATCH."""
    row = await _team(tx, id, lock=True)
    require_etag(etag, row.version)
    await directory.delete_team(tx, id)
    return row


async def _tell(tx: Tx, id: str, standing: pb.UserStanding.ValueType) -> None:
    """Notify must be told: it holds pages that wait for the user, and the user's contact methods."""
    change = pb.UserChange(org_id=tx.org_id, user=f"users/{id}", standing=standing)
    change.change_time.FromDatetime(await tx.now())
    await outbox.append_many(tx, USER, [(f"users/{id}", change.SerializeToString())])


async def _user(tx: Tx, id: str, *, lock: bool = False) -> UserRow:
    row = await directory.get_user(tx, id, lock=lock)
    if row is None:
        raise not_found(reasons.ERROR_REASON_USER_NOT_FOUND, f"users/{id}")
    return row


async def _team(tx: Tx, id: str, *, lock: bool = False) -> TeamRow:
    row = await directory.get_team(tx, id, lock=lock)
    if row is None:
        raise not_found(reasons.ERROR_REASON_TEAM_NOT_FOUND, f"teams/{id}")
    return row


def _taken(name: str) -> NoReturn:
    raise TocsinError(reasons.ERROR_REASON_ALREADY_EXISTS, f"{name} exists already", metadata={"name": name})


def _check_zone(name: str) -> None:
    if name and (problem := zone_problem(name)):
        raise invalid("user.time_zone", problem)


async def _check_members(tx: Tx, team: TeamRow) -> None:
    named = [(f"team.members[{n}]", Target(TargetKind.USER, user)) for n, user in enumerate(team.members)]
    await targets.check(tx, named)

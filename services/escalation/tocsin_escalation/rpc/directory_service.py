"""DirectoryService: decode, call one use case, encode."""

from collections.abc import Sequence
from typing import Any

import grpc
from tocsin.escalation.v1 import directory_service_pb2 as pb
from tocsin.escalation.v1 import directory_service_pb2_grpc as pb_grpc
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.ids import new_id, parse_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import listed
from tocsin_kit.rpc.masks import apply_update_mask
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import current_call
from tocsin_kit.rpc.validation import validate

from tocsin_escalation.app.people import people
from tocsin_escalation.rpc import mapping
from tocsin_escalation.store.people import directory
from tocsin_escalation.store.people.directory import TeamRow, UserRow

Context = grpc.aio.ServicerContext[Any, Any]


class DirectoryService(pb_grpc.DirectoryServiceServicer):
    """Users and teams."""

    def __init__(self, db: Database, pages: PageTokens, budgets: Budgets) -> None:
        self._db = db
        self._once = ApplyOnce(db)
        self._pages = pages
        self._budgets = budgets

    async def CreateUser(self, request: pb.CreateUserRequest, context: Context) -> pb.CreateUserResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.CreateUserResponse:
            await require_room(tx, "users", self._budgets)
            row = await people.create_user(tx, _user(request.user_id or str(new_id()), request.user))
            return pb.CreateUserResponse(user=mapping.user_to(row))

        return await self._once("CreateUser", request, pb.CreateUserResponse, take)

    async def GetUser(self, request: pb.GetUserRequest, context: Context) -> pb.GetUserResponse:
        """See the contract."""
        row = await people.get_user(self._db, current_call().org_id, parse_name(request.name, "users"))
        return pb.GetUserResponse(user=mapping.user_to(row))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[UserRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await directory.users_after(tx, after[0], limit)

        found, token = await listed(self._pages, request, ("",), read, mapping.user_to, lambda row: (row.id,))
        return pb.ListUsersResponse(users=found, next_page_token=token)

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Context) -> pb.UpdateUserResponse:
        """See the contract."""
        id = parse_name(request.user.name, "users", field="user.name")

        def change(row: UserRow) -> UserRow:
            merged = mapping.user_to(row)
            writable = ("display_name", "time_zone", "disabled")
            apply_update_mask(merged, request.user, request.update_mask, writable=writable)
            validate(merged, "user")
            return _user(id, merged)

        async def take(tx: Tx) -> pb.UpdateUserResponse:
            row = await people.update_user(tx, id, request.user.etag, change)
            return pb.UpdateUserResponse(user=mapping.user_to(row))

        return await self._once("UpdateUser", request, pb.UpdateUserResponse, take)

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Context) -> pb.DeleteUserResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.DeleteUserResponse:
            row = await people.delete_user(tx, parse_name(request.name, "users"), request.etag)
            note_before(mapping.user_to(row))
            return pb.DeleteUserResponse()

        return await self._once("DeleteUser", request, pb.DeleteUserResponse, take)

    async def CreateTeam(self, request: pb.CreateTeamRequest, context: Context) -> pb.CreateTeamResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.CreateTeamResponse:
            await require_room(tx, "teams", self._budgets)
            row = await people.create_team(tx, _team(request.team_id or str(new_id()), request.team))
            return pb.CreateTeamResponse(team=mapping.team_to(row))

        return await self._once("CreateTeam", request, pb.CreateTeamResponse, take)

    async def GetTeam(self, request: pb.GetTeamRequest, context: Context) -> pb.GetTeamResponse:
        """See the contract."""
        row = await people.get_team(self._db, current_call().org_id, parse_name(request.name, "teams"))
        return pb.GetTeamResponse(team=mapping.team_to(row))

    async def ListTeams(self, request: pb.ListTeamsRequest, context: Context) -> pb.ListTeamsResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[TeamRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await directory.teams_after(tx, after[0], limit)

        found, token = await listed(self._pages, request, ("",), read, mapping.team_to, lambda row: (row.id,))
        return pb.ListTeamsResponse(teams=found, next_page_token=token)

    async def UpdateTeam(self, request: pb.UpdateTeamRequest, context: Context) -> pb.UpdateTeamResponse:
        """See the contract."""
        id = parse_name(request.team.name, "teams", field="team.name")

        def change(row: TeamRow) -> TeamRow:
            merged = mapping.team_to(row)
            apply_update_mask(merged, request.team, request.update_mask, writable=("display_name", "members"))
            validate(merged, "team")
            return _team(id, merged)

        async def take(tx: Tx) -> pb.UpdateTeamResponse:
            row = await people.update_team(tx, id, request.team.etag, change)
            return pb.UpdateTeamResponse(team=mapping.team_to(row))

        return await self._once("UpdateTeam", request, pb.UpdateTeamResponse, take)

    async def DeleteTeam(self, request: pb.DeleteTeamRequest, context: Context) -> pb.DeleteTeamResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.DeleteTeamResponse:
            row = await people.delete_team(tx, parse_name(request.name, "teams"), request.etag)
            note_before(mapping.team_to(row))
            return pb.DeleteTeamResponse()

        return await self._once("DeleteTeam", request, pb.DeleteTeamResponse, take)


def _user(id: str, message: pb.User) -> UserRow:
    return UserRow(id, message.display_name, message.time_zone, message.disabled)


def _team(id: str, message: pb.Team) -> TeamRow:
    return TeamRow(id, message.display_name, tuple(name.removeprefix("users/") for name in message.members))

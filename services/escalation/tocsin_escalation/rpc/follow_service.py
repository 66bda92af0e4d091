"""FollowService: decode, call one use case, encode."""

from typing import Any, Final

import grpc
from tocsin.escalation.v1 import follow_service_pb2 as pb
from tocsin.escalation.v1 import follow_service_pb2_grpc as pb_grpc
from tocsin.notify.v1.notification_pb2 import Channel
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import parse_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.server import current_call

from tocsin_escalation.app.incidents import followers
from tocsin_escalation.rpc.mapping import incident_id
from tocsin_escalation.rpc.swap_mapping import user_of

_SCOPE: Final = "incidents:write"
_PREFIX: Final = "CHANNEL_"
Context = grpc.aio.ServicerContext[Any, Any]


class FollowService(pb_grpc.FollowServiceServicer):
    """Users who hear of an incident without being paged for it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._once = ApplyOnce(db)

    async def FollowIncident(self, request: pb.FollowIncidentRequest, context: Context) -> pb.FollowIncidentResponse:
        """See the contract."""
        user = _own(request.user)
        channel = Channel.Name(request.channel).removeprefix(_PREFIX).lower() if request.channel else ""

        async def take(tx: Tx) -> pb.FollowIncidentResponse:
            await followers.follow(tx, incident_id(request.name), user, channel)
            return pb.FollowIncidentResponse(follower=_follower(user, channel))

        return await self._once("FollowIncident", request, pb.FollowIncidentResponse, take)

    async def UnfollowIncident(
        self, request: pb.UnfollowIncidentRequest, context: Context
    ) -> pb.UnfollowIncidentResponse:
        """See the contract."""
        user = _own(request.user)

        async def take(tx: Tx) -> pb.UnfollowIncidentResponse:
            await followers.unfollow(tx, incident_id(request.name), user)
            return pb.UnfollowIncidentResponse()

        return await self._once("UnfollowIncident", request, pb.UnfollowIncidentResponse, take)

    async def ListFollowers(self, request: pb.ListFollowersRequest, context: Context) -> pb.ListFollowersResponse:
        """See the contract."""
        async with self._db.transaction(current_call().org_id) as tx:
            found = await followers.of_incident(tx, incident_id(request.name))
        return pb.ListFollowersResponse(followers=[_follower(*each) for each in sorted(found.items())])


def _own(name: str) -> str:
    """The id of the user who is meant. Raises SCOPE_MISSING, INVALID_FIELD."""
    call = current_call()
    user = user_of(name, call.subject)
    call.require_own(user, _SCOPE)
    return parse_name(user, "users", field="user")


def _follower(user: str, channel: str) -> pb.Follower:
    return pb.Follower(
        user=f"users/{user}",
        channel=Channel.Value(f"{_PREFIX}{channel.upper()}") if channel else 0,  # type: ignore[arg-type]
    )

"""SlackGroupService: decode, call one use case, encode."""

from collections.abc import Sequence
from typing import Any

from tocsin.notify.v1 import slack_group_service_pb2 as pb
from tocsin.notify.v1 import slack_group_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before, tenant
from tocsin_kit.rpc.listing import listed
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_notify.app.chat.slack_groups import ChosenGroups
from tocsin_notify.app.messages.groups import require_group
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.store.chat import slack_groups as store
from tocsin_notify.store.chat.slack_groups import SlackGroup


class SlackGroupService(pb_grpc.SlackGroupServiceServicer):
    """User groups of Slack that follow who is on call."""

    def __init__(self, db: Database, groups: ChosenGroups, escalation: Escalation, pages: PageTokens) -> None:
        self._db = db
        self._once = ApplyOnce(db)
        self._groups = groups
        self._escalation = escalation
        self._pages = pages

    async def UpdateSlackGroup(self, request: pb.UpdateSlackGroupRequest, context: Any) -> pb.UpdateSlackGroupResponse:
        """See the contract."""
        given = request.slack_group
        self._groups.require_allowed(tenant(), given.group)
        await require_group(self._db, self._escalation, tenant(), given.schedule, of="slack_group")

        async def update(tx: Tx) -> pb.UpdateSlackGroupResponse:
            before, after = await self._groups.choose(
                tx, given.group, given.schedule, given.disable_when_nobody, given.etag
            )
            if before is not None:
                note_before(group_to(before))
            return pb.UpdateSlackGroupResponse(slack_group=group_to(after))

        return await self._once("UpdateSlackGroup", request, pb.UpdateSlackGroupResponse, update)

    async def ListSlackGroups(self, request: pb.ListSlackGroupsRequest, context: Any) -> pb.ListSlackGroupsResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[SlackGroup]:
            async with self._db.transaction(tenant()) as tx:
                return await store.page(tx, after[0], limit)

        groups, token = await listed(self._pages, request, ("",), read, group_to, lambda row: (row.id,))
        return pb.ListSlackGroupsResponse(slack_groups=groups, next_page_token=token)

    async def DeleteSlackGroup(self, request: pb.DeleteSlackGroupRequest, context: Any) -> pb.DeleteSlackGroupResponse:
        """See the contract."""

        async def delete(tx: Tx) -> pb.DeleteSlackGroupResponse:
            note_before(group_to(await self._groups.end(tx, request.group)))
            return pb.DeleteSlackGroupResponse()

        return await self._once("DeleteSlackGroup", request, pb.DeleteSlackGroupResponse, delete)


def group_to(row: SlackGroup) -> pb.SlackGroup:
    """A group for the contract."""
    return pb.SlackGroup(
        group=row.id,
        schedule=row.schedule,
        disable_when_nobody=row.disable_when_nobody,
        members=row.members,
        disabled=row.disabled,
        success_time=timestamp(row.success_time),
        problem=row.problem,
        problem_time=timestamp(row.problem_time),
        etag=etag(row.version),
    )

"""Slack user groups that follow a schedule, over real sockets: they contain the users on call, also after faults."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1 import slack_group_service_pb2 as pb
from tocsin_kit.errors import from_rpc_error
from tocsin_notify.channels.slack_codes import GROUP
from tocsin_testkit.slack import SlackServer, UserGroup, error

from tests.store.notify.support import Notify, World, bearer, new_org, until

CORE, GROUP_ID = "schedules/core", "S0604QSJC"
ANA, BEN = "UANA00001", "UBEN00001"


@pytest.fixture
async def slack(world: World) -> AsyncIterator[SlackServer]:
    async with SlackServer(world.inbox) as server:
        server.known |= {ANA, BEN, "CALERTS01"}
        server.groups[GROUP_ID] = UserGroup(("UOLD00001",))
        yield server


@pytest.fixture
async def org(world: World) -> str:
    """Ana and Ben have accounts at Slack, and Ana is on call."""
    org = new_org()
    await world.method(org, "users/ana", slack="CALERTS01")
    await world.method(org, "users/ana", slack=ANA)
    await world.method(org, "users/ben", slack=BEN)
    await world.method(org, "users/cleo", slack="UCLEO0001", verified=False)
    world.escalation.people[org, CORE] = ["users/ana"]
    return org


@asynccontextmanager
async def running(world: World, slack: SlackServer, **overrides: Any) -> AsyncIterator[Notify]:
    given = {"SLACK_USER_GROUPS": f"*:{GROUP_ID}", **slack.settings(), **overrides}
    async with world.replica(**given) as notify:
        yield notify


async def follow(notify: Notify, org: str, *, group: str = GROUP_ID, **fields: Any) -> pb.SlackGroup:
    wanted = pb.SlackGroup(group=group, schedule=CORE, **fields)
    request = pb.UpdateSlackGroupRequest(slack_group=wanted)
    answer = await notify.slack_groups.UpdateSlackGroup(request, metadata=bearer(org))
    made: pb.SlackGroup = answer.slack_group
    return made


async def shown(notify: Notify, org: str) -> pb.SlackGroup:
    answer = await notify.slack_groups.ListSlackGroups(pb.ListSlackGroupsRequest(), metadata=bearer(org))
    [group] = answer.slack_groups
    found: pb.SlackGroup = group
    return found


async def look_again(world: World) -> None:
    """Its time has come."""
    await world.admin.execute("UPDATE slack_groups SET look_time = app_now()")


async def test_the_group_follows_who_is_on_call(world: World, slack: SlackServer, org: str) -> None:
    group = slack.groups[GROUP_ID]
    async with running(world, slack) as notify:
        await follow(notify, org)
        await until(lambda: group.members == (ANA,))
        await look_again(world)
        world.escalation.people[org, CORE] = ["users/ana", "users/ben", "users/cleo"]
        await until(lambda: group.members == (ANA, BEN))

        async def told() -> bool:
            return bool((await shown(notify, org)).problem)

        await until(told)
        now = await shown(notify, org)
        assert list(now.members) == [ANA, BEN]
        assert now.success_time.seconds
        assert now.problem == "without a verified contact method of Slack: users/cleo"
        # No user is on call: the group is left as it was, and Slack is not called while nothing changes.
        told_before = slack.requests
        world.escalation.people[org, CORE] = []
        await look_again(world)

        async def settled() -> bool:
            return not (await shown(notify, org)).problem

        await until(settled)
        assert (group.members, slack.requests) == ((ANA, BEN), told_before)
        deleted = pb.DeleteSlackGroupRequest(group=GROUP_ID)
        await notify.slack_groups.DeleteSlackGroup(deleted, metadata=bearer(org))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await notify.slack_groups.DeleteSlackGroup(deleted, metadata=bearer(org))
        assert from_rpc_error(refused.value).reason == ErrorReason.ERROR_REASON_SLACK_GROUP_NOT_FOUND
    # A change that happened while no replica ran is sent to Slack after the start.
    world.escalation.people[org, CORE] = ["users/ben"]
    async with running(world, slack) as notify:
        await follow(notify, org)
        await until(lambda: group.members == (BEN,))


async def test_when_no_user_is_on_call_it_is_disabled_if_told_so_and_enabled_again(
    world: World, slack: SlackServer, org: str
) -> None:
    group = slack.groups[GROUP_ID]
    world.escalation.people[org, CORE] = []
    async with running(world, slack) as notify:
        await follow(notify, org, disable_when_nobody=True)
        await until(lambda: group.disabled)

        async def noted() -> bool:
            return (await shown(notify, org)).disabled

        await until(noted)
        world.escalation.people[org, CORE] = ["users/ben"]
        await look_again(world)
        await until(lambda: group.members == (BEN,))
        assert not group.disabled


@pytest.mark.parametrize("word", ["permission_denied", "invalid_users", "missing_scope", "ratelimited", "fatal_error"])
async def test_what_slack_refuses_is_shown_and_tried_again_later(
    world: World, slack: SlackServer, org: str, word: str
) -> None:
    group = slack.groups[GROUP_ID]
    slack.refuse[GROUP_ID] = [
        error(word, 429, **{"Retry-After": "30"}) if word == "ratelimited" else error(word),
    ]
    async with running(world, slack) as notify:
        await follow(notify, org)

        async def failed() -> bool:
            return word in (await shown(notify, org)).problem

        await until(failed)
        assert group.members == ("UOLD00001",)
        pause = await world.admin.fetchval("SELECT extract(epoch FROM look_time - app_now()) FROM slack_groups")
        assert pause > 2
        if word == "ratelimited":
            assert pause > 20, "Slack asked for it"
        await look_again(world)
        await until(lambda: group.members == (ANA,))

        async def mended() -> bool:
            return not (await shown(notify, org)).problem

        await until(mended)


async def test_a_group_that_is_unknown_or_closed_to_everybody_is_told(
    world: World, slack: SlackServer, org: str
) -> None:
    slack.may_change_groups = False
    async with running(world, slack, SLACK_USER_GROUPS="*:*") as notify:
        await follow(notify, org)
        await follow(notify, org, group="SUNKNOWN1")

        async def problems() -> list[str]:
            answer = await notify.slack_groups.ListSlackGroups(pb.ListSlackGroupsRequest(), metadata=bearer(org))
            return [each.problem for each in answer.slack_groups if each.problem]

        async def both() -> bool:
            return len(await problems()) == 2

        await until(both)
        assert await problems() == ["Slack: 200 permission_denied", "Slack: 200 no_such_subteam"]
        assert {"permission_denied", "no_such_subteam"} <= GROUP


async def test_one_group_is_of_one_tenant_and_only_of_those_that_the_operator_allows(
    world: World, slack: SlackServer, org: str
) -> None:
    other = new_org()
    world.escalation.people[other, CORE] = ["users/ana"]
    async with running(world, slack, SLACK_USER_GROUPS=f"*:{GROUP_ID},{other}:*") as notify:
        await follow(notify, org)
        for tenant, group, reason in [
            (other, GROUP_ID, ErrorReason.ERROR_REASON_ALREADY_EXISTS),
            (org, "SOTHER001", ErrorReason.ERROR_REASON_INVALID_FIELD),
        ]:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await follow(notify, tenant, group=group)
            assert from_rpc_error(refused.value).reason == reason
        await follow(notify, other, group="SOTHER001")
        with pytest.raises(grpc.aio.AioRpcError, match="does not exist"):
            await notify.slack_groups.UpdateSlackGroup(
                pb.UpdateSlackGroupRequest(slack_group=pb.SlackGroup(group=GROUP_ID, schedule="schedules/nothing")),
                metadata=bearer(org),
            )
    async with world.replica(SLACK_USER_GROUPS="*:*") as notify:
        with pytest.raises(grpc.aio.AioRpcError, match="SLACK_BOT_TOKEN"):
            await follow(notify, org)


async def test_after_two_looks_at_once_slack_is_told_anew(world: World, slack: SlackServer, org: str) -> None:
    """Which of both words came to Slack last is not known."""
    group = slack.groups[GROUP_ID]
    slack.hang.add(GROUP_ID)
    async with running(world, slack) as notify:
        await follow(notify, org)
        await until(lambda: group.history == [(ANA,)])
        # Another replica looks, as after the end of a lease, and says the same.
        await world.admin.execute(
            "UPDATE slack_groups SET look_time = app_now() + interval '1 hour', members = $1, success_time = app_now()",
            [ANA],
        )
        slack.hang.clear()
        slack.answers()
        await until(lambda: group.history == [(ANA,), (ANA,)])


async def test_escalation_away_changes_nothing(world: World, slack: SlackServer, org: str) -> None:
    group = slack.groups[GROUP_ID]
    async with running(world, slack) as notify:
        await follow(notify, org)
        await until(lambda: group.members == (ANA,))
        world.escalation.knows_nobody_of.add(org)
        await look_again(world)
        await asyncio.wait_for(_looked(world), 10)
        assert group.history == [(ANA,)]


async def _looked(world: World) -> None:
    async def put_off() -> bool:
        return bool(
            await world.admin.fetchval("SELECT bool_and(look_time > app_now() + interval '60 s') FROM slack_groups")
        )

    await until(put_off)

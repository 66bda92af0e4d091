"""A message to the people on call of a real schedule, through the running services."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import directory_service_pb2 as directory
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.escalation.v1 import schedule_service_pb2 as schedule_service
from tocsin.notify.v1 import message_service_pb2 as pb
from tocsin_testkit.busy import until
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World


async def test_the_person_on_call_when_it_is_sent_gets_it_not_the_one_when_it_was_written(
    tenant: Tenant, world: World
) -> None:
    ana, ben = await tenant.people("ana", "ben")
    schedule = await tenant.schedule("web", ana)
    now = (datetime.now(UTC) + world.clock.offset).replace(second=0, microsecond=0)
    override = sp.Override(schedule=schedule, users=[ben.name], reason="swap")
    override.start_time.FromDatetime(now + timedelta(minutes=30))
    override.end_time.FromDatetime(now + timedelta(hours=5))
    await tenant.admin.schedules.CreateOverride(schedule_service.CreateOverrideRequest(override=override))
    [found] = (
        await tenant.admin.schedules.ListOnCalls(schedule_service.ListOnCallsRequest(schedules=[schedule]))
    ).on_calls
    assert list(found.segment.users) == [ana.name]

    due = Timestamp()
    due.FromDatetime(now + timedelta(hours=1))
    message = pb.Message(schedule=schedule, text="Look at the disks.", send_time=due)
    sent = (await tenant.admin.messages.SendMessage(pb.SendMessageRequest(message=message))).message
    await tenant.passes(minutes=61)

    async def is_sent() -> bool:
        read.CopyFrom(await tenant.admin.messages.GetMessage(pb.GetMessageRequest(name=sent.name)))
        return read.message.state == pb.MESSAGE_STATE_SENT

    read = pb.GetMessageResponse()
    await until(is_sent)
    assert list(read.receivers) == [ben.name]
    mine = [each for each in world.inbox.messages if each.kind == "message" and tenant.owns(each)]
    assert len(mine) == 1
    tenant.expected(mine[0])
    assert mine[0].address in ben.addresses


async def test_a_message_to_a_team_leaves_out_who_is_disabled(tenant: Tenant, world: World) -> None:
    ana, ben = await tenant.people("ana", "ben")
    team = await tenant.team("web", ana, ben)
    disabled = directory.UpdateUserRequest(user=directory.User(name=ben.name, disabled=True))
    disabled.update_mask.paths.append("disabled")
    await tenant.admin.directory.UpdateUser(disabled)
    message = pb.Message(team=team, text="Standup moves to ten.")
    sent = (await tenant.admin.messages.SendMessage(pb.SendMessageRequest(message=message))).message
    mail = await world.inbox.wait_for(lambda each: each.kind == "message" and each.address in ana.addresses, "it")
    tenant.expected(mail)
    read = await tenant.admin.messages.GetMessage(pb.GetMessageRequest(name=sent.name))
    assert list(read.receivers) == [ana.name]

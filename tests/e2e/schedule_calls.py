"""What tests of schedules ask the stack, in a word each."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin_testkit.tenant import Tenant


def time(value: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(value.replace(second=0, microsecond=0))
    return message


async def now(tenant: Tenant) -> datetime:
    """The clock of the stack, which other tests move: a schedule that begins at its change says when it was made."""
    name = await tenant.schedule("clock")
    made = (await tenant.admin.schedules.GetSchedule(pb.GetScheduleRequest(name=name))).schedule.create_time
    return made.ToDatetime(UTC)  # type: ignore[no-any-return]


async def override(tenant: Tenant, schedule: str, start: datetime, end: datetime, *users: str) -> sp.Override:
    wanted = sp.Override(schedule=schedule, start_time=time(start), end_time=time(end), users=users, reason="swap")
    answer = await tenant.admin.schedules.CreateOverride(pb.CreateOverrideRequest(override=wanted))
    return answer.override  # type: ignore[no-any-return]


async def on_call(tenant: Tenant, schedule: str) -> sp.OnCallSegment:
    answer = await tenant.admin.schedules.ListOnCalls(pb.ListOnCallsRequest(schedules=[schedule]))
    [found] = answer.on_calls
    return found.segment  # type: ignore[no-any-return]

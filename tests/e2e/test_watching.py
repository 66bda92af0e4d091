"""Boards that watch: through real sockets, over the end of a stream, and within what a credential may see."""

import asyncio
from typing import Any

import grpc
import pytest
from tocsin.escalation.v1 import incident_pb2 as ip
from tocsin.escalation.v1 import incident_service_pb2 as isp
from tocsin.escalation.v1 import policy_service_pb2
from tocsin.escalation.v1 import watch_service_pb2 as pb
from tocsin_kit.errors import from_rpc_error
from tocsin_testkit.busy import within
from tocsin_testkit.tenant import Tenant


async def read(call: Any, kind: "ip.TimelineKind.ValueType") -> list[pb.WatchIncidentsResponse]:
    """Messages up to one with a change of this kind."""
    found: list[pb.WatchIncidentsResponse] = []
    async with asyncio.timeout(within(30)):
        while not found or all(change.entry.kind != kind for change in found[-1].changes):
            found.append(await call.read())
    return found


def entries(messages: list[pb.WatchIncidentsResponse]) -> list[str]:
    return [change.entry.name for message in messages for change in message.changes]


async def test_a_board_is_told_and_comes_back_without_loss(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    sender = await tenant.integration(await tenant.policy([ana], status_updates=policy_service_pb2.STATUS_UPDATES_NONE))
    watching = tenant.admin.watches.WatchIncidents(pb.WatchIncidentsRequest())
    first = await watching.read()
    assert first.cursor
    assert not first.changes
    incident = await sender.triggers("db down")
    await ana.is_paged(incident)
    seen = await read(watching, ip.TIMELINE_KIND_LEVEL_PAGED)
    watching.cancel()
    await tenant.admin.incidents.AcknowledgeIncident(isp.AcknowledgeIncidentRequest(name=incident))
    again = tenant.admin.watches.WatchIncidents(pb.WatchIncidentsRequest(cursor=seen[-1].cursor))
    seen += await read(again, ip.TIMELINE_KIND_ACKNOWLEDGED)
    again.cancel()
    timeline = await tenant.admin.incidents.ListTimeline(isp.ListTimelineRequest(incident=incident))
    told = entries(seen)
    assert len(told) == len(set(told))
    assert set(told) <= {entry.name for entry in timeline.entries}
    last = seen[-1].changes[-1]
    assert last.incident.name == incident
    assert last.incident.state == ip.INCIDENT_STATE_ACKNOWLEDGED


async def test_a_cursor_is_the_tenants_own(tenant: Tenant) -> None:
    watching = tenant.admin.watches.WatchIncidents(pb.WatchIncidentsRequest())
    cursor = (await watching.read()).cursor
    watching.cancel()
    other = tenant.world.clients(f"{tenant.org_id}-other")
    for clients, wrong in ((other, cursor), (tenant.admin, cursor[:-4]), (tenant.admin, "never made")):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await clients.watches.WatchIncidents(pb.WatchIncidentsRequest(cursor=wrong)).read()
        error = from_rpc_error(raised.value)
        assert error.reason_name == "CURSOR_INVALID"
        assert [each.field for each in error.fields] == ["cursor"]


async def test_who_is_on_call_is_told_and_a_watch_must_name_something(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    schedule = await tenant.schedule("web", ana)
    watching = tenant.admin.watches.WatchOnCall(pb.WatchOnCallRequest(schedules=[schedule]))
    first = await watching.read()
    watching.cancel()
    assert [list(each.segment.users) for each in first.on_calls] == [[ana.name]]
    again = tenant.admin.watches.WatchOnCall(pb.WatchOnCallRequest(schedules=[schedule], cursor=first.cursor))
    assert not (await again.read()).on_calls
    again.cancel()
    for wrong, reason in (
        (pb.WatchOnCallRequest(), "INVALID_FIELD"),
        (pb.WatchOnCallRequest(schedules=["schedules/none"]), "SCHEDULE_NOT_FOUND"),
        (pb.WatchOnCallRequest(policy="policies/none"), "POLICY_NOT_FOUND"),
        (pb.WatchOnCallRequest(schedules=[schedule], cursor="never made"), "CURSOR_INVALID"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await tenant.admin.watches.WatchOnCall(wrong).read()
        assert from_rpc_error(raised.value).reason_name == reason

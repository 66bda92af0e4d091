"""Streams of changes over the death of the replica that tells them: their readers come back to another one with their cursor."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from tocsin.escalation.v1 import incident_pb2, schedule_pb2, schedule_service_pb2
from tocsin.escalation.v1 import incident_service_pb2 as isp
from tocsin.escalation.v1 import watch_service_pb2 as pb
from tocsin_stack.service import ServiceProcess
from tocsin_testkit.busy import until, within
from tocsin_testkit.clients import Channels, Clients
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import PASSING, Fleet, insist

pytestmark = pytest.mark.chaos
BEFORE, AFTER = 10, 10
"""Notes on the incident before the kill, and beside and after it."""


class Board:
    """A client that reads a stream at one replica, and at another one when it breaks: always after the last change."""

    def __init__(self, method: str, request: Any, replicas: list[Clients]) -> None:
        self._method = method
        self._request = request
        self._replicas = replicas
        self.messages: list[Any] = []
        self.breaks: list[str] = []

    async def read(self) -> None:
        """Without end."""
        turn = 0
        while True:
            clients = self._replicas[turn % len(self._replicas)]
            try:
                async for message in getattr(clients.watches, self._method)(self._request, timeout=within(120)):
                    self.messages.append(message)
                    self._request.cursor = message.cursor
            except grpc.aio.AioRpcError as error:
                if error.code().name not in PASSING:
                    raise
                self.breaks.append(error.code().name)
                turn += 1
                await asyncio.sleep(0.02)  # a replica that is away refuses at once


def at(fleet: Fleet, tenant: Tenant, replica: ServiceProcess) -> Clients:
    """The services, with escalation at this replica alone."""
    channels = Channels({})
    channels.by_service = {**fleet.channels.by_service, "escalation": grpc.aio.insecure_channel(replica.grpc_address)}
    return Clients(channels, fleet.token(tenant.org_id))


async def test_a_killed_replica_loses_and_repeats_nothing_of_what_it_told(fleet: Fleet, tenant: Tenant) -> None:
    [ana, ben] = await tenant.people("ana", "ben")
    schedule = await tenant.schedule("web", ana)
    incident = await (await tenant.integration()).triggers("db down")
    await fleet.idle()
    first, second = fleet.replicas("escalation")
    replicas = [at(fleet, tenant, replica) for replica in (first, second)]
    boards = [Board("WatchIncidents", pb.WatchIncidentsRequest(), replicas) for _ in range(5)]
    on_call = Board("WatchOnCall", pb.WatchOnCallRequest(schedules=[schedule]), replicas)
    reading = [asyncio.create_task(board.read()) for board in (*boards, on_call)]
    try:
        await until(lambda: all(board.messages for board in (*boards, on_call)))

        async def note(number: int) -> None:
            text, id = f"note {number}", f"00000000-0000-4000-8000-{number:012}"
            request = isp.AddNoteRequest(name=incident, text=text, request_id=id)
            await insist(lambda: tenant.admin.incidents.AddNote(request))

        for number in range(BEFORE):
            await note(number)
        await until(lambda: all(told(board) for board in boards))
        writing = [asyncio.create_task(note(BEFORE + number)) for number in range(AFTER)]
        first.kill()
        await asyncio.gather(*writing)
        start = (datetime.now(UTC) + fleet.clock.offset).replace(second=0, microsecond=0)
        override = schedule_pb2.Override(schedule=schedule, users=[ben.name])
        override.start_time.FromDatetime(start)
        override.end_time.FromDatetime(start + timedelta(days=1))
        await insist(
            lambda: tenant.admin.schedules.CreateOverride(
                schedule_service_pb2.CreateOverrideRequest(override=override, request_id=f"{incident[-36:]}")
            )
        )
        timeline = await insist(
            lambda: tenant.admin.incidents.ListTimeline(isp.ListTimelineRequest(incident=incident, page_size=500))
        )
        notes = [each.name for each in timeline.entries if each.kind == incident_pb2.TIMELINE_KIND_NOTE]
        assert len(notes) == BEFORE + AFTER
        await until(lambda: all(len(told(board)) >= len(notes) for board in boards))
        await until(lambda: people(on_call)[-1:] == [[ben.name]])
    finally:
        for task in reading:
            task.cancel()
        ended = await asyncio.gather(*reading, return_exceptions=True)
    assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []
    for board in boards:
        assert sorted(told(board)) == sorted(notes), "each once"
        assert board.breaks, "it was told by the one that died"
    assert people(on_call) == [[ana.name], [ben.name]], "each change once"


def told(board: Board) -> list[str]:
    """The notes that came, in their order."""
    changes = [change for message in board.messages for change in message.changes]
    return [change.entry.name for change in changes if change.entry.kind == incident_pb2.TIMELINE_KIND_NOTE]


def people(board: Board) -> list[list[str]]:
    """Who was said to be on call, one after the other."""
    return [list(each.segment.users) for message in board.messages for each in message.on_calls]

"""What an operator does about events that escalation refuses for good: OutboxService, as every service has it."""

import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import pytest
from tocsin.ingest.v1.alert_service_pb2 import SendAlertsRequest
from tocsin.outbox.v1 import outbox_service_pb2 as pb
from tocsin.outbox.v1.outbox_service_pb2_grpc import OutboxServiceStub
from tocsin_kit.errors import from_rpc_error
from tocsin_kit.ids import new_id

from tests.store.ingest.support import FakeEscalation, Ingest, bearer, new_org, peer, resolve, running, trigger, until

SCOPES = ("outbox:read", "outbox:write")


@pytest.fixture(scope="module")
async def picky() -> AsyncIterator[FakeEscalation]:
    """Escalation that refuses what is titled so."""
    async with peer() as fake:
        fake.refuse = lambda event: event.opened.title == "refused"
        yield fake


@pytest.fixture(scope="module")
async def replica(postgres: Any, picky: FakeEscalation) -> AsyncIterator[Ingest]:
    url = await postgres.clone_database("tocsin_ingest", "ingest_outbox_service")
    async with running(url, picky.target) as ingest:
        yield ingest


@pytest.fixture
def outbox(replica: Ingest) -> Any:
    return OutboxServiceStub(replica.channel)


def operator() -> tuple[tuple[str, str], ...]:
    """Made for each call: a token that is made while tests are collected has expired before a late one runs."""
    return bearer("*", SCOPES, "users/operator")


async def refused(replica: Ingest, outbox: Any, org: str, count: int = 1) -> list[pb.OutboxMessage]:
    """So many dead messages of a tenant, whose incidents are still open here."""
    alerts = [trigger(f"k{number}", summary="refused") for number in range(count)]
    await replica.alerts.SendAlerts(SendAlertsRequest(alerts=alerts), metadata=bearer(org))
    found: list[pb.OutboxMessage] = []

    async def all_dead() -> bool:
        response = await outbox.ListDeadMessages(pb.ListDeadMessagesRequest(), metadata=bearer(org, SCOPES))
        found[:] = response.messages
        return len(found) == count

    await until(all_dead, 30.0)
    return found


async def reason_of(call: Awaitable[Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value).reason_name


async def test_a_dead_event_is_listed_read_with_what_waits_behind_it_and_redriven(
    replica: Ingest, outbox: Any, picky: FakeEscalation
) -> None:
    org = new_org()
    [dead] = await refused(replica, outbox, org)
    assert (dead.org_id, dead.kind, dead.state) == (org, "incident_event", pb.OUTBOX_MESSAGE_STATE_DEAD)
    assert "refused" in dead.reason
    assert dead.attempts >= 1
    picky.unavailable = True
    await replica.alerts.SendAlert(resolve("k0"), metadata=bearer(org))

    async def read() -> pb.GetMessageResponse:
        response: pb.GetMessageResponse = await outbox.GetMessage(
            pb.GetMessageRequest(name=dead.name), metadata=bearer(org, SCOPES)
        )
        return response

    one = await read()
    assert one.payload_type == "tocsin.escalation.v1.IncidentEvent"
    assert json.loads(one.payload_json)["opened"]["title"] == "refused"
    assert (one.waiting_behind, one.HasField("waiting_since")) == (1, True)
    try:
        request = pb.RedriveMessagesRequest(names=[dead.name, "outboxMessages/999999"], request_id=str(new_id()))
        answer = await outbox.RedriveMessages(request, metadata=bearer(org, SCOPES))
        assert (answer.redriven, answer.not_found) == ([dead.name], ["outboxMessages/999999"])
        assert await outbox.RedriveMessages(request, metadata=bearer(org, SCOPES)) == answer
        picky.refuse = lambda event: False
        picky.unavailable = False

        async def handed_over() -> bool:
            try:
                await read()
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error).reason_name == "OUTBOX_MESSAGE_NOT_FOUND"
            return False

        await until(handed_over, 30.0)
        assert "opened" in picky.kinds(json.loads(one.payload_json)["incident"])
    finally:
        picky.unavailable = False
        picky.refuse = lambda event: event.opened.title == "refused"


async def test_a_discarded_event_is_gone_and_needs_a_reason(replica: Ingest, outbox: Any) -> None:
    org = new_org()
    [dead] = await refused(replica, outbox, org)
    mine = bearer(org, SCOPES)
    assert (
        await reason_of(outbox.DiscardMessages(pb.DiscardMessagesRequest(names=[dead.name]), metadata=mine))
        == "INVALID_FIELD"
    )
    request = pb.DiscardMessagesRequest(names=[dead.name], reason="a test", request_id=str(new_id()))
    answer = await outbox.DiscardMessages(request, metadata=mine)
    assert answer.discarded == [dead.name]
    assert await outbox.DiscardMessages(request, metadata=mine) == answer
    again = await outbox.DiscardMessages(pb.DiscardMessagesRequest(names=[dead.name], reason="x"), metadata=mine)
    assert (again.discarded, again.not_found) == ([], [dead.name])
    assert (await outbox.ListDeadMessages(pb.ListDeadMessagesRequest(), metadata=mine)).messages == []


async def test_pages_are_walked_and_filters_narrow_them(replica: Ingest, outbox: Any) -> None:
    org = new_org()
    dead = await refused(replica, outbox, org, count=5)
    request = pb.ListDeadMessagesRequest(page_size=2, org_id=org, kind="incident_event")
    names: list[str] = []
    while True:
        response = await outbox.ListDeadMessages(request, metadata=operator())
        names += [each.name for each in response.messages]
        if not response.next_page_token:
            break
        request.page_token = response.next_page_token
    assert names == [each.name for each in dead]
    other = pb.ListDeadMessagesRequest(org_id=org, kind="page")
    assert (await outbox.ListDeadMessages(other, metadata=operator())).messages == []


async def test_a_tenant_sees_its_own_messages_only_and_needs_the_scopes(replica: Ingest, outbox: Any) -> None:
    org, stranger = new_org(), new_org()
    [dead] = await refused(replica, outbox, org)
    theirs = bearer(stranger, SCOPES)
    assert (await outbox.ListDeadMessages(pb.ListDeadMessagesRequest(), metadata=theirs)).messages == []
    listing = outbox.ListDeadMessages(pb.ListDeadMessagesRequest(org_id=org), metadata=theirs)
    assert await reason_of(listing) == "INVALID_FIELD"
    reading = outbox.GetMessage(pb.GetMessageRequest(name=dead.name), metadata=theirs)
    assert await reason_of(reading) == "OUTBOX_MESSAGE_NOT_FOUND"
    answer = await outbox.RedriveMessages(pb.RedriveMessagesRequest(names=[dead.name]), metadata=theirs)
    assert answer.not_found == [dead.name]
    answer = await outbox.DiscardMessages(
        pb.DiscardMessagesRequest(names=[dead.name], reason="not mine"), metadata=theirs
    )
    assert answer.not_found == [dead.name]
    unscoped = bearer(org, ("alerts:read",))
    for call in (
        outbox.ListDeadMessages(pb.ListDeadMessagesRequest(), metadata=unscoped),
        outbox.RedriveMessages(pb.RedriveMessagesRequest(names=[dead.name]), metadata=bearer(org, ("outbox:read",))),
    ):
        assert await reason_of(call) == "SCOPE_MISSING"
    every = await outbox.ListDeadMessages(pb.ListDeadMessagesRequest(page_size=500), metadata=operator())
    assert dead.name in [each.name for each in every.messages]

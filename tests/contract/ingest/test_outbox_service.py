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


async def test_what_waits_is_counted_and_listed_with_the_reason(
    replica: Ingest, outbox: Any, picky: FakeEscalation
) -> None:
    org = new_org()
    await refused(replica, outbox, org)
    picky.unavailable = True
    try:
        await replica.alerts.SendAlerts(SendAlertsRequest(alerts=[trigger("a"), trigger("b")]), metadata=bearer(org))
        found: dict[str, pb.OutboxBacklog] = {}

        async def tried() -> bool:
            answer = await outbox.GetOutbox(pb.GetOutboxRequest(), metadata=operator())
            found.update({each.kind: each for each in answer.backlogs})
            return found["incident_event"].waiting >= 2 and found["incident_event"].failed >= 1

        await until(tried, 30.0)
        events, added = found["incident_event"], found["incident_alerts_added"]
        assert events.destination == "escalation"
        assert "UNAVAILABLE" in events.error
        assert events.oldest.org_id
        assert events.oldest.state == pb.OUTBOX_MESSAGE_STATE_WAITING
        assert events.oldest_age.ToTimedelta().total_seconds() > 0
        assert events.dead >= 1
        assert (added.waiting, added.HasField("oldest"), added.HasField("oldest_age")) == (0, False, False)

        first = pb.ListWaitingMessagesRequest(org_id=org, page_size=1)
        page = await outbox.ListWaitingMessages(first, metadata=operator())
        first.page_token = page.next_page_token
        rest = await outbox.ListWaitingMessages(first, metadata=operator())
        both = [*page.messages, *rest.messages]
        assert [each.state for each in both] == [pb.OUTBOX_MESSAGE_STATE_WAITING] * 2
        assert {each.org_id for each in both} == {org}
        assert rest.next_page_token == ""
        none = pb.ListWaitingMessagesRequest(org_id=org, blocked=True)
        assert not (await outbox.ListWaitingMessages(none, metadata=operator())).messages
        none = pb.ListWaitingMessagesRequest(org_id=org, kind="incident_alerts_added")
        assert not (await outbox.ListWaitingMessages(none, metadata=operator())).messages
        for call, request in (
            (outbox.GetOutbox, pb.GetOutboxRequest()),
            (outbox.ListWaitingMessages, pb.ListWaitingMessagesRequest()),
        ):
            assert await reason_of(call(request, metadata=bearer(org, SCOPES))) == "SCOPE_MISSING"
    finally:
        picky.unavailable = False

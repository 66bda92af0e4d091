"""Rounds over what is due give way to pages that come in, and to people who answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import pytest
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_kit.auth import SigningKeys
from tocsin_kit.rpc.client import channel
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.clients import responders
from tocsin_notify.clients.responders import Responders
from tocsin_notify.domain.action import Action, Asked, Person


async def test_a_round_waits_until_no_page_is_on_its_way() -> None:
    first = PeopleFirst(most=600.0)
    await first.give_way()
    with first:
        with first:
            waiting = asyncio.create_task(first.give_way())
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done(), "the other one is"
    await waiting


async def test_a_page_that_fails_holds_up_nothing() -> None:
    first = PeopleFirst(most=600.0)
    try:
        with first:
            raise ValueError
    except ValueError:
        await first.give_way()


async def test_a_round_waits_for_a_moment_alone() -> None:
    first = PeopleFirst(most=0.001)
    with first:
        await first.give_way()


class Slow:
    """Escalation: answers once it may `go`."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def acknowledge(self, request: pb.AcknowledgeIncidentRequest, _: object) -> pb.AcknowledgeIncidentResponse:
        await self._answer()
        return pb.AcknowledgeIncidentResponse()

    async def get(self, request: pb.GetIncidentRequest, _: object) -> pb.GetIncidentResponse:
        await self._answer()
        return pb.GetIncidentResponse()

    async def _answer(self) -> None:
        self.asked.set()
        await self.go.wait()


PERSON = Person("acme", "users/ana", f"incidents/{uuid4()}")


@pytest.fixture
def first() -> PeopleFirst:
    """Its rounds wait until they may go on."""
    return PeopleFirst(most=600.0)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
async def to_slow(first: PeopleFirst, slow: Slow) -> AsyncIterator[Responders]:
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "AcknowledgeIncident": grpc.unary_unary_rpc_method_handler(
            slow.acknowledge,
            pb.AcknowledgeIncidentRequest.FromString,
            pb.AcknowledgeIncidentResponse.SerializeToString,
        ),
        "GetIncident": grpc.unary_unary_rpc_method_handler(
            slow.get, pb.GetIncidentRequest.FromString, pb.GetIncidentResponse.SerializeToString
        ),
    }
    server = grpc.aio.server()
    service = "tocsin.escalation.v1.IncidentService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with channel(f"127.0.0.1:{port}", service_name="escalation") as to_escalation:
        yield Responders(to_escalation, SigningKeys.parse("k:" + "Ab3dEf6hIj9lMn" * 4), _none, first)
    await server.stop(None)


async def test_a_round_waits_while_the_answer_of_a_person_is_taken(
    first: PeopleFirst, slow: Slow, to_slow: Responders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responders, "_FIRST_SECONDS", 600.0)
    answering = asyncio.create_task(to_slow.act(PERSON, Asked(Action.ACKNOWLEDGE), uuid4(), "link"))
    await slow.asked.wait()
    waiting = asyncio.create_task(first.give_way())
    await asyncio.sleep(0)
    assert not waiting.done()
    slow.go.set()
    await asyncio.gather(answering, waiting)


async def test_a_round_waits_only_a_moment_for_an_answer_that_takes_long(
    first: PeopleFirst, slow: Slow, to_slow: Responders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responders, "_FIRST_SECONDS", 0.001)
    answering = asyncio.create_task(to_slow.act(PERSON, Asked(Action.ACKNOWLEDGE), uuid4(), "link"))
    await slow.asked.wait()
    async with asyncio.timeout(30):
        await first.give_way()
    assert not answering.done()
    with first:
        slow.go.set()
        await answering
        waiting = asyncio.create_task(first.give_way())
        await asyncio.sleep(0)
        assert not waiting.done(), "the end of the answer lets no one go on who waits for others"
    await waiting


async def test_a_round_does_not_wait_for_someone_who_looks(first: PeopleFirst, slow: Slow, to_slow: Responders) -> None:
    looking = asyncio.create_task(to_slow.incident(PERSON))
    await slow.asked.wait()
    async with asyncio.timeout(30):
        await first.give_way()
    assert not looking.done()
    slow.go.set()
    await looking


async def _none(cancellations: object) -> None:
    """Nothing is to be stopped."""

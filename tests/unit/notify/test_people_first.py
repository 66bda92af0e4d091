"""Rounds over what is due give way to pages that come in, and to people who answer."""

import asyncio
from uuid import uuid4

import grpc
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_kit.auth import SigningKeys
from tocsin_notify.app.delivery.people_first import PeopleFirst
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
        self.asked.set()
        await self.go.wait()
        return pb.AcknowledgeIncidentResponse()


async def test_a_round_waits_while_the_answer_of_a_person_is_taken() -> None:
    first, slow, server = PeopleFirst(most=600.0), Slow(), grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        slow.acknowledge,
        pb.AcknowledgeIncidentRequest.FromString,
        pb.AcknowledgeIncidentResponse.SerializeToString,
    )
    service = "tocsin.escalation.v1.IncidentService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"AcknowledgeIncident": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        responders = Responders(channel, SigningKeys.parse("k:" + "Ab3dEf6hIj9lMn" * 4), _none, first)
        person = Person("acme", "users/ana", f"incidents/{uuid4()}")
        answering = asyncio.create_task(responders.act(person, Asked(Action.ACKNOWLEDGE), uuid4(), "link"))
        await slow.asked.wait()
        waiting = asyncio.create_task(first.give_way())
        await asyncio.sleep(0)
        assert not waiting.done()
        slow.go.set()
        await asyncio.gather(answering, waiting)
    await server.stop(None)


async def _none(cancellations: object) -> None:
    """Nothing is to be stopped."""

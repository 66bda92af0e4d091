"""OutboxService of the services, for an operator at the board: each call carries that operator's own token."""

from collections.abc import Mapping
from typing import Any, Final

import grpc
from tocsin.outbox.v1 import outbox_service_pb2 as pb
from tocsin.outbox.v1.outbox_service_pb2_grpc import OutboxServiceStub

from tocsin_notify.clients.queues import call

ACTS: Final = ("redrive", "discard")


class Outboxes:
    """Every failure is a TocsinError. The services decide what the token allows, and write who did what into their logs."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        """`channels`: by the name of the service; they carry no credential of their own."""
        self.services: Final = tuple(channels)
        self._stubs: dict[str, Any] = {name: OutboxServiceStub(channel) for name, channel in channels.items()}

    async def figures(self, service: str, token: str) -> pb.GetOutboxResponse:
        """The figures of the outbox."""
        answer: pb.GetOutboxResponse = await call(service, self._stubs[service].GetOutbox, pb.GetOutboxRequest(), token)
        return answer

    async def listed(
        self, service: str, token: str, which: str, page_token: str
    ) -> pb.ListWaitingMessagesResponse | pb.ListDeadMessagesResponse:
        """A page, oldest first: `waiting`, of these only the `blocked` ones, or `dead`."""
        stub = self._stubs[service]
        if which == "dead":
            dead = pb.ListDeadMessagesRequest(page_token=page_token)
            gone: pb.ListDeadMessagesResponse = await call(service, stub.ListDeadMessages, dead, token)
            return gone
        request = pb.ListWaitingMessagesRequest(page_token=page_token, blocked=which == "blocked")
        waits: pb.ListWaitingMessagesResponse = await call(service, stub.ListWaitingMessages, request, token)
        return waits

    async def message(self, service: str, token: str, number: str) -> pb.GetMessageResponse:
        """One with its payload and what waits behind it."""
        request = pb.GetMessageRequest(name=f"outboxMessages/{number}")
        answer: pb.GetMessageResponse = await call(service, self._stubs[service].GetMessage, request, token)
        return answer

    async def act(self, service: str, token: str, act: str, name: str, request_id: str, reason: str) -> bool:
        """Do one of ACTS with a dead message. Do one of ACTS with a dead message."""
        stub = self._stubs[service]
        if act == "redrive":
            redrive = pb.RedriveMessagesRequest(names=[name], request_id=request_id)
            return bool((await call(service, stub.RedriveMessages, redrive, token)).redriven)
        discard = pb.DiscardMessagesRequest(names=[name], request_id=request_id, reason=reason)
        return bool((await call(service, stub.DiscardMessages, discard, token)).discarded)

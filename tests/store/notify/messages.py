"""One tenant's way to MessageService, on real servers."""

import asyncio
from collections.abc import Awaitable, Iterable
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.notify.v1 import message_service_pb2 as pb
from tocsin.notify.v1 import notification_pb2

from tests.store.notify.support import Notify, World, bearer, new_org, until

T = TypeVar("T")

ANA = "users/ana"
HOUR = timedelta(hours=1)
State = pb.MessageState


class Sender:
    """A credential of one tenant that may send messages."""

    def __init__(self, notify: Notify, world: World, org: str) -> None:
        self.org = org
        self._stub = notify.messages
        self._world = world
        self._metadata = bearer(org)

    async def at(self, later: timedelta) -> Timestamp:
        """So much later than now, by the database's clock."""
        row = await self._world.row("SELECT app_now() AS now")
        stamp = Timestamp()
        stamp.FromDatetime(row["now"] + later)
        return stamp

    async def send(self, *, later: timedelta | None = None, request_id: str = "", **fields: Any) -> pb.Message:
        """To Ana, unless the fields say otherwise."""
        if not {"user", "address", "team", "schedule"} & fields.keys():
            fields["user"] = ANA
        message = pb.Message(**{"text": "Standup moves to ten.", **fields})
        if later is not None:
            message.send_time.CopyFrom(await self.at(later))
        request = pb.SendMessageRequest(request_id=request_id, message=message)
        made: pb.Message = (await self._stub.SendMessage(request, metadata=self._metadata)).message
        return made

    async def get(self, message: pb.Message) -> pb.GetMessageResponse:
        """As it is now."""
        request = pb.GetMessageRequest(name=message.name)
        answer: pb.GetMessageResponse = await self._stub.GetMessage(request, metadata=self._metadata)
        return answer

    async def state(self, message: pb.Message) -> int:
        """Where it is."""
        return (await self.get(message)).message.state

    async def becomes(self, message: pb.Message, state: int) -> pb.GetMessageResponse:
        """Returns once it is there."""

        async def there() -> bool:
            return await self.state(message) == state

        await until(there)
        return await self.get(message)

    async def list(self, **fields: Any) -> pb.ListMessagesResponse:
        """A page of them."""
        request = pb.ListMessagesRequest(**fields)
        answer: pb.ListMessagesResponse = await self._stub.ListMessages(request, metadata=self._metadata)
        return answer

    async def update(self, message: pb.Message, *paths: str) -> pb.Message:
        """Change these fields."""
        request = pb.UpdateMessageRequest(message=message, update_mask=FieldMask(paths=paths))
        changed: pb.Message = (await self._stub.UpdateMessage(request, metadata=self._metadata)).message
        return changed

    async def cancel(self, message: pb.Message) -> bool:
        """Whether it was in time."""
        request = pb.CancelMessageRequest(name=message.name)
        answer: pb.CancelMessageResponse = await self._stub.CancelMessage(request, metadata=self._metadata)
        return answer.in_time

    def call(self, method: str, request: Any) -> Awaitable[Any]:
        """Any of its methods."""
        call: Awaitable[Any] = getattr(self._stub, method)(request, metadata=self._metadata)
        return call


def mail_to(address: str) -> pb.Address:
    """An e-mail address."""
    return pb.Address(channel=notification_pb2.CHANNEL_EMAIL, address=address)


@pytest.fixture
def sender(notify: Notify, world: World) -> Sender:
    """Of a tenant of its own, at the one replica."""
    return Sender(notify, world, new_org())


async def in_waves(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Their answers, in order; 100 calls at once."""
    waiting, answers = iter(calls), list[T]()
    while wave := list(islice(waiting, 100)):
        answers += await asyncio.gather(*wave)
    return answers

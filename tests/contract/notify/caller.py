"""One tenant's way to ContactService."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any, NamedTuple

import asyncpg
import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_status import rpc_status
from tocsin.notify.v1 import contact_service_pb2 as pb
from tocsin_kit.errors import TocsinError, from_status
from tocsin_stack.postgres import Postgres
from tocsin_stack.valkey import Valkey
from tocsin_testkit.hooks import HookServer
from tocsin_testkit.inbox import Inbox
from tocsin_testkit.mail import MailServer

from tests.store.notify.support import Notify, World, bearer, new_org

ANA = "users/ana"


async def refused(call: Awaitable[Any]) -> TocsinError:
    """The error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_status(rpc_status.from_call(caught.value))  # type: ignore[arg-type]


def email(address: str = "ana@example.com", **fields: Any) -> pb.ContactMethod:
    return pb.ContactMethod(user=ANA, email=pb.EmailContact(address=address), **fields)


def webhook(url: str = "http://127.0.0.1:9/hook", **fields: str) -> pb.ContactMethod:
    return pb.ContactMethod(user=ANA, webhook=pb.WebhookContact(url=url, **fields))


class Caller:
    """One tenant's way in."""

    def __init__(self, notify: Notify, org: str) -> None:
        self._stub = notify.contacts
        self.org = org
        self._metadata = bearer(org)

    async def create(self, contact: pb.ContactMethod, request_id: str = "") -> pb.ContactMethod:
        request = pb.CreateContactMethodRequest(request_id=request_id, contact_method=contact)
        response = await self._stub.CreateContactMethod(request, metadata=self._metadata)
        made: pb.ContactMethod = response.contact_method
        return made

    async def get(self, name: str) -> pb.ContactMethod:
        response = await self._stub.GetContactMethod(pb.GetContactMethodRequest(name=name), metadata=self._metadata)
        found: pb.ContactMethod = response.contact_method
        return found

    async def update(self, contact: pb.ContactMethod, *paths: str, request_id: str = "") -> pb.ContactMethod:
        request = pb.UpdateContactMethodRequest(request_id=request_id, contact_method=contact)
        if paths:
            request.update_mask.CopyFrom(FieldMask(paths=paths))
        response = await self._stub.UpdateContactMethod(request, metadata=self._metadata)
        changed: pb.ContactMethod = response.contact_method
        return changed

    def __getattr__(self, method: str) -> Any:
        def call(request: Any) -> Any:
            return getattr(self._stub, method)(request, metadata=self._metadata)

        return call


@pytest.fixture
def caller(notify: Notify) -> Caller:
    return Caller(notify, new_org())


class Door(NamedTuple):
    """A replica that takes calls and does no work, and what is around it."""

    notify: Notify
    world: World


@pytest.fixture(scope="session")
async def door(postgres: Postgres, shared_valkey: Valkey) -> AsyncIterator[Door]:
    """Shared by tests of which nothing is sent: a replica for each would cost 0.2 s of processor time."""
    url = await postgres.clone_database("tocsin_notify", "notify_door")
    inbox = Inbox()
    mail = MailServer(inbox)
    admin = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
    world = World(url, f"{shared_valkey.url.rpartition('/')[0]}/999", admin, inbox, mail, HookServer(inbox))
    await mail.start()
    await world.escalation.start()
    async with world.replica(works=False) as notify:
        yield Door(notify, world)
    await world.escalation.stop()
    await mail.stop()
    await admin.close()


@pytest.fixture
def visitor(door: Door) -> Caller:
    """A tenant at the shared door."""
    return Caller(door.notify, new_org())

"""A provider of text messages and calls that calls back, for tests of both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1 import notification_service_pb2 as service_pb
from tocsin_testkit.twilio import Call, Message, TwilioServer

from tests.store.notify.support import Notify, World, bearer, job, until

PUBLIC = "https://tocsin.example.com/notify"
ANA = "+4915112345678"
BEN = "+4915187654321"


@pytest.fixture
async def twilio(world: World) -> AsyncIterator[TwilioServer]:
    async with TwilioServer(world.inbox) as server:
        yield server


@asynccontextmanager
async def running(world: World, twilio: TwilioServer, **overrides: Any) -> AsyncIterator[Notify]:
    """A replica that the stand-in can call back at its public address, and an escalation that takes answers."""
    world.escalation.responders.there = True
    async with world.replica(public_url=PUBLIC, **twilio.settings(), **overrides) as replica:
        twilio.reach[PUBLIC] = f"http://127.0.0.1:{replica.runtime.http.port}"
        yield replica


async def proven(
    world: World, notify: Notify, org: str, wanted: contact_pb.ContactMethod, address: str
) -> contact_pb.ContactMethod:
    """Make the method, and prove it with the code that comes to the address. As it was before the proof."""
    request = contact_pb.CreateContactMethodRequest(contact_method=wanted)
    made = await notify.contacts.CreateContactMethod(request, metadata=bearer(org))
    method: contact_pb.ContactMethod = made.contact_method
    name = contact_pb.SendVerificationCodeRequest(name=method.name)
    await notify.contacts.SendVerificationCode(name, metadata=bearer(org))
    code = await world.inbox.wait_for(lambda m: m.address == address and bool(m.code), "a code")
    proof = contact_pb.VerifyContactMethodRequest(name=method.name, code=code.code)
    assert (await notify.contacts.VerifyContactMethod(proof, metadata=bearer(org))).contact_method.verified
    return method


async def taken(twilio: TwilioServer, number: str = ANA, count: int = 1) -> Message:
    """The message, once that many were taken for the number."""
    await until(lambda: len(twilio.to(number)) >= count)
    return twilio.to(number)[count - 1]


async def attempts(world: World, notify: Notify, org: str) -> list[pb.Attempt]:
    """Of the tenant's only text message."""
    id = (await world.row("SELECT id FROM notifications WHERE org_id = $1 AND channel = 'sms'", org))["id"]
    request = service_pb.GetNotificationRequest(name=f"notifications/{id}")
    response = await notify.notifications.GetNotification(request, metadata=bearer(org))
    return list(response.notification.attempts)


async def called(twilio: TwilioServer, number: str = ANA, count: int = 1) -> Call:
    """The call, once that many were taken for the number."""
    await until(lambda: len(twilio.calls_to(number)) >= count)
    return twilio.calls_to(number)[count - 1]


async def evidence(world: World, org: str) -> tuple[str, str]:
    """Of the newest attempt of the tenant's call."""
    row = await world.row(
        """SELECT evidence, evidence_code FROM attempts a JOIN notifications n ON n.id = a.notification_id
           WHERE n.org_id = $1 AND n.channel = 'voice' ORDER BY a.number DESC LIMIT 1""",
        org,
    )
    return row["evidence"], row["evidence_code"]


async def called_and_sent(
    world: World, twilio: TwilioServer, notify: Notify, org: str, incident: UUID | None = None
) -> Call:
    """The call of a page of Ana's, which notify knows as sent."""
    await world.method(org, voice=ANA)
    await notify.submit(job(org, incident))
    call = await called(twilio)

    async def sent() -> bool:
        return await world.states("org_id = $1", org) == ["sent"]

    await until(sent)
    return call

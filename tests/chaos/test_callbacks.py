"""Notify dies between a provider's yes and its note of it, while the provider tells the other replica what became of the page."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tocsin.escalation.v1 import incident_pb2
from tocsin_testkit.installation import PUBLIC_URL
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.twilio import Message

from tests.chaos.fleet import Fleet, eventually

pytestmark = pytest.mark.chaos

_numbers = itertools.count(4915120000001)


async def dies_with_a_yes(
    fleet: Fleet,
    tenant: Tenant,
    ana: Person,
    tells: Callable[[Message], Coroutine[Any, Any, object]],
    *,
    redis: bool = True,
) -> tuple[str, Message]:
    """Ana is sent a text message, and the process that sent it dies before it is noted; `tells` is the report that comes in
    meanwhile. Incident, message."""
    prom = await tenant.integration(await tenant.policy([ana], minutes=600))
    noted = f"NEW.org_id = '{tenant.org_id}' AND NEW.outcome = 'sent'"
    async with fleet.breakpoint("notify", "attempts", "UPDATE", noted) as point:
        incident = await prom.triggers("db down")
        await ana.is_texted()
        dying = await point.reached()
        [other] = [each for each in fleet.replicas("notify") if each is not dying]
        before, fleet.phones.reach[PUBLIC_URL] = fleet.phones.reach[PUBLIC_URL], str(other.http_url)
        if not redis:
            fleet.valkey.kill()
        [message] = [each for each in fleet.phones.to(ana.addresses[0]) if "db down" in each.body]
        # It waits for the row that the dying one holds.
        told = asyncio.create_task(tells(message))
        dying.kill()
    await told
    fleet.phones.reach[PUBLIC_URL] = before
    return incident, message


async def with_phone(tenant: Tenant, *, webhook: bool = False) -> Person:
    ana = await tenant.person("ana", webhook=False)
    await ana.adds_phone(f"+{next(_numbers)}")
    if webhook:
        await ana.adds_webhook()
        await ana.wants(("high", ana.methods[0], 0), ("high", ana.methods[1], 500))
    return ana


async def comes_once(fleet: Fleet, ana: Person) -> None:
    """However long it takes until the dead one's lease has run out, and everything that may follow has."""
    await fleet.orphans_come_due()
    await fleet.heal()
    await fleet.idle()
    assert sum("db down" in each.body for each in fleet.phones.to(ana.addresses[0])) == 1


@pytest.mark.parametrize("redis", [pytest.param(True, marks=pytest.mark.long), False])
async def test_what_was_delivered_is_not_sent_again(fleet: Fleet, tenant: Tenant, redis: bool) -> None:
    ana = await with_phone(tenant)
    incident, _ = await dies_with_a_yes(
        fleet, tenant, ana, lambda message: fleet.phones.tells(message, "delivered"), redis=redis
    )
    await comes_once(fleet, ana)
    said = [entry.message for entry in await tenant.timeline(incident)]
    assert said.count("SMS to ana delivered") == 1, said


async def test_what_was_not_delivered_takes_the_next_method_and_is_not_sent_again(fleet: Fleet, tenant: Tenant) -> None:
    ana = await with_phone(tenant, webhook=True)
    incident, _ = await dies_with_a_yes(
        fleet, tenant, ana, lambda message: fleet.phones.tells(message, "undelivered", 30006)
    )
    await ana.is_paged(incident)
    await comes_once(fleet, ana)


async def test_an_answer_by_that_message_counts(fleet: Fleet, tenant: Tenant) -> None:
    ana = await with_phone(tenant)

    async def replies(_: Message) -> object:
        return await fleet.phones.receives(ana.addresses[0], "ack", f"{PUBLIC_URL}/v1/twilio/reply")

    incident, _ = await dies_with_a_yes(fleet, tenant, ana, replies)

    async def acknowledged() -> bool:
        return (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED

    await eventually(acknowledged, "the answer counts")
    await comes_once(fleet, ana)

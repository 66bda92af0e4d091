"""Somebody answers in the very moment that others are being paged: after the OK no phone begins to ring."""

import asyncio
import random
import time

import pytest
from tocsin.escalation.v1 import incident_service_pb2
from tocsin_testkit.person import Person
from tocsin_testkit.received import Received
from tocsin_testkit.tenant import Sender, Tenant

from tests.chaos.fleet import Fleet, insist, spread, tell
from tests.chaos.load import ON_ITS_WAY

pytestmark = pytest.mark.chaos

ROUNDS = 10
AT_ONCE = 5
A_PAGE_TAKES = 0.02
"""Seconds, about, from an escalation's OK to the last of its calls on a busy machine."""


async def test_no_page_starts_once_an_acknowledge_is_ok(fleet: Fleet, tenant: Tenant) -> None:
    """Fifty times: six people are about to be paged by two replicas of notify when somebody acknowledges."""
    [ana] = await tenant.people("ana")
    crew = await tenant.people("ben", "cem", "dan", "eva", "fay", "gus")
    prom = await tenant.integration(await tenant.policy([ana], crew, minutes=60))
    seed = random.getrandbits(24)
    dice = random.Random(seed)
    acknowledged: dict[str, float] = {}
    for _ in range(ROUNDS):
        answers = await asyncio.gather(*(_one(prom, ana, dice.uniform(0, A_PAGE_TAKES)) for _ in range(AT_ONCE)))
        acknowledged.update(answers)
    await tenant.passes(minutes=90)

    after: list[float] = []
    rang: set[tuple[str, str]] = set()
    for message in _of(tenant):
        tenant.expected(message)
        if message.level == 2:
            assert (message.incident, message.address) not in rang, f"seed {seed}: {message.address} was paged twice"
            rang.add((message.incident, message.address))
            after.append(message.at - acknowledged[message.incident])
    spared = ROUNDS * AT_ONCE * len(crew) - len(rang)
    late = [seconds for seconds in after if seconds > 0]
    tell("acknowledge and deliveries", seed=seed, rang=len(rang), spared=spared, after_ok=len(late), **spread(late))
    assert max(late, default=0) < ON_ITS_WAY, f"seed {seed}"
    assert rang, "every acknowledge was too early to meet a delivery"
    assert spared, "every acknowledge was too late to stop a delivery"


async def _one(prom: Sender, ana: Person, pause: float) -> tuple[str, float]:
    """An incident goes to the crew, and Ana takes it `pause` seconds later: its name, and when she had her OK."""
    incident = await prom.triggers("db down", dedup_key=f"{random.getrandbits(64)}")
    await ana.is_paged(incident)
    await ana.own.incidents.EscalateIncident(incident_service_pb2.EscalateIncidentRequest(name=incident))
    await asyncio.sleep(pause)  # the moment is what this is about
    await insist(lambda: ana.acknowledges(incident))
    return incident, time.monotonic()


def _of(tenant: Tenant) -> list[Received]:
    return [m for m in tenant.world.inbox.messages if tenant.owns(m) and m.kind != "verification"]

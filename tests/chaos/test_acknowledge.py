"""A user acknowledges at the very moment that others are being paged: after the OK no phone begins to ring."""

import asyncio
import random
import time
import uuid

import pytest
from tocsin.escalation.v1 import incident_service_pb2
from tocsin_testkit.busy import within
from tocsin_testkit.person import Person
from tocsin_testkit.received import Received
from tocsin_testkit.tenant import Sender, Tenant

from tests.chaos.fleet import Fleet, insist, spread, tell
from tests.chaos.late_pages import account
from tests.chaos.load import ON_ITS_WAY
from tests.rounds import LONG

pytestmark = pytest.mark.chaos

GATE_PATIENCE = 0.9
"""Seconds for which a replica of notify may be stopped with a page that a user acknowledges. The next one ends it."""
MOST_ROUNDS = 5
LEAST_ROUNDS = MOST_ROUNDS if LONG else 2
AT_ONCE = 10
CLOSE = 0.1
"""Seconds between a page and an OK that have met."""


async def test_no_page_starts_once_an_acknowledge_is_ok(fleet: Fleet, tenant: Tenant) -> None:
    """Six people are about to be paged by two replicas of notify when a user acknowledges: twenty times, and up to fifty until
    some pages have met their OK."""
    [ana] = await tenant.people("ana")
    crew = await tenant.people("ben", "cem", "dan", "eva", "fay", "gus")
    prom = await tenant.integration(await tenant.policy([ana], crew, minutes=60))
    acknowledged: dict[str, float] = {}
    rounds: list[set[str]] = []
    while len(rounds) < LEAST_ROUNDS or (len(rounds) < MOST_ROUNDS and _met(tenant, acknowledged) < 3):
        answered = dict(await asyncio.gather(*(_one(prom, ana) for _ in range(AT_ONCE))))
        acknowledged.update(answered)
        rounds.append(set(answered))
    await tenant.passes(minutes=90)
    met = _met(tenant, acknowledged)

    rang: dict[tuple[str, str], float] = {}
    for message in _of(tenant):
        tenant.expected(message)
        if message.level == 2:
            assert (message.incident, message.address) not in rang, f"{message.address} was paged twice"
            rang[message.incident, message.address] = message.at - acknowledged[message.incident]
    paged = {incident for incident, _ in rang}
    mixed = sum(0 < len(paged & incidents) < AT_ONCE for incidents in rounds)
    # On a slow machine more time lies between a page and its OK. Of those acknowledged at once some are still early, others late.
    assert met or mixed, "no page was close enough to an OK, and in each round all were too early or all too late"
    _judge("acknowledge and deliveries", list(rang.values()), len(acknowledged) * len(crew), met=met, mixed=mixed)
    await _refuse_late(fleet, tenant, acknowledged)


async def test_an_acknowledge_waits_for_a_page_that_can_no_longer_be_stopped(fleet: Fleet, tenant: Tenant) -> None:
    """A replica is committing the page: the OK comes when its call has begun, and not before.

    One that stands still for a second is thrown out, also on a machine that has no time for this test. Then no phone rings.
    """
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=60))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    condition = f"NEW.org_id = '{tenant.org_id}' AND NEW.user_id = 'users/ben' AND NEW.state = 'sending'"
    async with fleet.breakpoint("notify", "notifications", "INSERT", condition) as point:
        began = time.monotonic()  # it stands still some time before that is seen
        await ana.own.incidents.EscalateIncident(incident_service_pb2.EscalateIncidentRequest(name=incident))
        stopped = await point.reached()
        acknowledging = asyncio.create_task(insist(lambda: ana.acknowledges(incident)))
        await asyncio.wait({acknowledging}, timeout=0.5)
        early = acknowledging.done()
        await point.let_go()
        held = time.monotonic() - began
        await acknowledging
        ok = time.monotonic()
    await fleet.idle()
    rang = [message for message in _of(tenant) if message.address in ben.addresses and message.is_page]
    tell("acknowledge of a page under way", held_ms=round(held * 1000), rang=len(rang), notify=stopped.name)
    assert len(rang) == 1 or held > GATE_PATIENCE
    if rang:
        assert not early, "an OK while a page was about to leave"
        assert rang[0].at < ok + ON_ITS_WAY
        tenant.expected(rang[0])
    await ben.is_told(incident, "acknowledgment")
    await tenant.passes(minutes=60)


async def test_an_acknowledge_and_a_timeout_at_the_same_instant(fleet: Fleet, tenant: Tenant) -> None:
    """Thirty times: level 2 is due when Ana acknowledges. Either it is paged before her OK, or never."""
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=1 / 60))
    seed = random.getrandbits(24)
    dice = random.Random(seed)
    database = await fleet.database("escalation")
    one_at_a_time = asyncio.Lock()

    async def one() -> tuple[str, float]:
        incident = await prom.triggers("db down", dedup_key=f"{random.getrandbits(64)}")
        await ana.is_paged(incident)
        async with one_at_a_time:
            left = await database.fetchval(
                "SELECT extract(epoch FROM due_time - app_now())::float8 FROM timers WHERE incident_id = $1",
                uuid.UUID(incident.removeprefix("incidents/")),
            )
        # The moment is what this is about. None: on a slow machine both levels were over by now.
        await asyncio.sleep((left or 0.0) + dice.uniform(-0.01, 0.03))
        await insist(lambda: ana.acknowledges(incident))
        return incident, time.monotonic()

    try:
        acknowledged = dict(await asyncio.gather(*(one() for _ in range(30))))
    finally:
        await database.close()
    await tenant.passes(minutes=30)
    messages = [tenant.expected(message) for message in _of(tenant)]
    after = [message.at - acknowledged[message.incident] for message in messages if message.level == 2]
    _judge("acknowledge and timeout", after, len(acknowledged), seed=seed)
    await _refuse_late(fleet, tenant, acknowledged)
    assert len({message.incident for message in messages if message.level == 2}) == len(after), "paged twice"


def _judge(case: str, after: list[float], most: int, **facts: int) -> None:
    """`after`: seconds from an OK to each page of what was acknowledged; `most`: how many those could have been."""
    late = [seconds for seconds in after if seconds > 0]
    tell(case, rang=len(after), spared=most - len(after), after_ok=len(late), **facts, **spread(late))
    assert after, "every acknowledge was too early to meet anything"


async def _refuse_late(fleet: Fleet, tenant: Tenant, acknowledged: dict[str, float]) -> None:
    """Fails, with all that is known of the first one, if the request of a page came after the OK."""
    pages = [each for each in _of(tenant) if each.is_page and each.incident in acknowledged]
    late = [page for page in pages if page.at > acknowledged[page.incident] + within(ON_ITS_WAY)]
    if late:
        incident = late[0].incident
        raise AssertionError(await account(fleet, incident, acknowledged[incident], _of(tenant)))


def _met(tenant: Tenant, acknowledged: dict[str, float]) -> int:
    """How many pages of level 2 rang so close to an OK that it could have been before or after them."""
    pages = [each for each in _of(tenant) if each.level == 2 and each.incident in acknowledged]
    return sum(abs(each.at - acknowledged[each.incident]) < within(CLOSE) for each in pages)


async def _one(prom: Sender, ana: Person) -> tuple[str, float]:
    """An incident goes to the crew, and Ana takes it in the same moment: its name, and when she had her OK."""
    incident = await prom.triggers("db down", dedup_key=f"{random.getrandbits(64)}")
    await ana.is_paged(incident)
    await ana.own.incidents.EscalateIncident(incident_service_pb2.EscalateIncidentRequest(name=incident))
    await insist(lambda: ana.acknowledges(incident))
    return incident, time.monotonic()


def _of(tenant: Tenant) -> list[Received]:
    return [m for m in tenant.world.inbox.messages if tenant.owns(m) and m.kind != "verification"]

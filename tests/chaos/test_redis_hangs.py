"""Redis is stopped instead of gone: it takes connections and never answers."""

import asyncio
import itertools
import statistics
import time
from typing import Any

import pytest
from redis.exceptions import RedisError
from tocsin.queue.v1 import queue_service_pb2
from tocsin_testkit.busy import within
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Sender, Tenant
from tocsin_timers import TimerBroker

from tests.chaos.fleet import Fleet, eventually

pytestmark = [pytest.mark.chaos, pytest.mark.long]

PAGES = 5


class Walk:
    """New incidents whose pages and second levels are waited for."""

    def __init__(self, tenant: Tenant, sender: Sender, first: Person, second: Person) -> None:
        self._tenant = tenant
        self._sender = sender
        self._first = first
        self._second = second
        self._incidents: list[str] = []
        self._numbers = itertools.count()

    async def page(self) -> float:
        """Seconds from the alert to the page."""
        began = time.monotonic()
        incident = await self._sender.triggers(f"alert {next(self._numbers)}")
        await self._first.is_paged(incident, level=1)
        self._incidents.append(incident)
        return time.monotonic() - began

    async def pages(self) -> float:
        """The median of several, one after the other."""
        return statistics.median([await self.page() for _ in range(PAGES)])

    async def second_levels(self) -> float:
        """Seconds until all of them have reached the second level."""
        began = time.monotonic()
        await self._tenant.passes(minutes=5)
        incidents, self._incidents = self._incidents, []
        for incident in incidents:
            await self._second.is_paged(incident, level=2)
            await self._second.acknowledges(incident)
            await self._first.is_told(incident, "acknowledgment")
        return time.monotonic() - began


async def test_a_redis_that_hangs_costs_no_more_than_one_that_is_gone(fleet: Fleet, tenant: Tenant) -> None:
    first, second = await tenant.people("ana", "ben")
    sender = await tenant.integration(await tenant.policy([first], [second], minutes=5))
    walk = Walk(tenant, sender, first, second)
    await walk.page()  # the first one opens connections
    healthy, _ = await walk.pages(), await walk.second_levels()

    fleet.valkey.kill()
    gone, gone_levels = await walk.pages(), await walk.second_levels()
    await fleet.valkey.start()
    await used_again(tenant)

    fleet.valkey.pause()
    at_once, time_out = await asyncio.gather(walk.page(), seconds_to_time_out(fleet.valkey.url))
    assert at_once < 0.8 * time_out, "the page waited for Redis"
    await away(tenant)
    hanging, hanging_levels = await walk.pages(), await walk.second_levels()
    assert hanging < within(3 * gone)
    assert hanging_levels < within(3 * gone_levels)

    fleet.valkey.resume()
    await used_again(tenant)
    assert await walk.pages() < within(3 * healthy)
    await walk.second_levels()


async def seconds_to_time_out(url: str) -> float:
    """How long a command takes to fail in a process that does not know yet."""
    broker = TimerBroker(url, "notify")
    began = time.monotonic()
    try:
        with pytest.raises(RedisError):
            await broker.figures()
        return time.monotonic() - began
    finally:
        await broker.shutdown()


async def away(tenant: Tenant) -> None:
    """Every replica has let a command time out. They are asked in turn."""
    await _says(tenant, available=False)


async def used_again(tenant: Tenant) -> None:
    """Every replica uses Redis."""
    await _says(tenant, available=True)


async def _says(tenant: Tenant, *, available: bool) -> None:
    operator = tenant.world.operator()

    async def all_say() -> bool:
        answers: list[Any] = []
        for queues in (operator.escalation_queues, operator.notify_queues):
            for _ in range(2):
                answer = await queues.ListQueues(queue_service_pb2.ListQueuesRequest())
                answers += [queue.redis_available for queue in answer.queues]
        return answers == [available] * 4

    await eventually(all_say, f"all say that Redis is {'there' if available else 'away'}")

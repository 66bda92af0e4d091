"""Escalation's end of notify's stream, for tests."""

from collections.abc import AsyncIterator

import pytest
from taskiq.kicker import AsyncKicker
from tocsin_notify.work.tasks import SUBMIT
from tocsin_timers import TimerBroker

from tests.store.notify.support import World


@pytest.fixture
async def broker(world: World) -> AsyncIterator[TimerBroker]:
    """Of a world whose Redis stays."""
    made = TimerBroker(world.redis_url, queue="notify")
    yield made
    await made.shutdown()


async def kick(broker: TimerBroker, *arguments: object, task: str = SUBMIT) -> None:
    kicker: AsyncKicker[..., None] = AsyncKicker(task, broker, {"priority": "critical"})
    await broker.kick_many([broker.encode(kicker, *arguments)])

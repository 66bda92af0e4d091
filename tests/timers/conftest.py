"""One Valkey for all tests of the timers library, a queue of its own for each test."""

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import within
from tocsin_timers import BackoffMiddleware, TimerBroker

from tests.timers.support import server

_numbers = itertools.count()

MakeBroker = Callable[..., TimerBroker]


@pytest.fixture(scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    async with server(Path(tmp_path_factory.mktemp("valkey"))) as running:
        yield running


@pytest.fixture
def queue() -> str:
    return f"test{next(_numbers)}"


@pytest.fixture
async def make_broker(valkey: Valkey, queue: str) -> AsyncIterator[MakeBroker]:
    """Brokers with short leases and quick retries; closed at the end."""
    brokers: list[TimerBroker] = []

    def make(url: str = valkey.url, **options: Any) -> TimerBroker:
        backoff = BackoffMiddleware(3, base=0.02, cap=0.1)
        # A patient time-out: a busy machine is not what these tests look for.
        settings = {"queue": queue, "lease": 2.0, "command_timeout": within(5.0), "backoff": backoff, **options}
        broker = TimerBroker(url, **settings)
        brokers.append(broker)
        return broker

    yield make
    for broker in brokers:
        await broker.shutdown()


@pytest.fixture
def broker(make_broker: MakeBroker) -> TimerBroker:
    return make_broker()

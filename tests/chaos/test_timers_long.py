"""Faults that take half a minute, or a third of it in the short round. Both run at once: nearly all of it is waiting."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tocsin_stack.valkey import Valkey

from tests.chaos.timers_owner import owner, started, workers
from tests.rounds import LONG
from tests.timers.support import cpu_seconds, server, until, worker_processes

pytestmark = [pytest.mark.chaos, pytest.mark.long]

SECONDS = 30 if LONG else 10


@pytest.fixture(scope="module")
async def under_way(
    safe: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, "asyncio.Task[None]"]]:
    tasks = {
        "outage": asyncio.create_task(outage(safe, Path(tmp_path_factory.mktemp("outage")))),
        "stopped": asyncio.create_task(stopped(safe)),
    }
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


async def test_redis_is_away_for_long(under_way: dict[str, "asyncio.Task[None]"]) -> None:
    await under_way["outage"]


async def test_a_process_that_stood_still_repeats_nothing(under_way: dict[str, "asyncio.Task[None]"]) -> None:
    await under_way["stopped"]


async def outage(safe: Valkey, folder: Path) -> None:
    """Five leases or more: longer than a worker waits to settle what it did."""
    async with server(folder) as valkey, owner(valkey, safe, "outage") as own:
        pair = workers(valkey, safe, "outage", 2, seconds=0.2)
        async with worker_processes(pair):
            await own.arm_many({f"b{n}": 0.3 + n / 10 for n in range(11 * SECONDS)})
            await until(lambda: started(own, 20), "some act")
            await valkey.stop()
            gone, used = time.monotonic(), [cpu_seconds(worker.pid) for worker in pair]
            await own.arm("while away", 1.0)
            await own.cancel(f"b{5 * SECONDS}")
            await asyncio.sleep(max(0.0, gone + SECONDS - time.monotonic()))
            shares = [(cpu_seconds(worker.pid) - before) / SECONDS for worker, before in zip(pair, used, strict=True)]
            await valkey.start()
            await own.all_acted(limit=SECONDS + 20)
            assert not any(worker.ended for worker in pair), "an outage ends no worker"
        await own.verdict(f"{SECONDS} s outage")
        assert f"b{5 * SECONDS}" not in await own.record.acts()
        assert max(shares) < 0.1, f"{shares} of a core while Redis is away"


async def stopped(safe: Valkey) -> None:
    """SIGSTOP for six leases, as a minute is with the usual lease: the other replica does everything meanwhile."""
    async with owner(safe, safe, "stopped") as own:
        pair = workers(safe, safe, "stopped", 2, lease=SECONDS / 6, concurrency=10)
        async with worker_processes(pair):
            await own.arm_many({f"b{n}": 0.3 + n / 150 for n in range(600)})
            await until(lambda: started(own, 50), "some act")
            pair[0].send(signal.SIGSTOP)
            since = time.monotonic()
            await until(lambda: started(own, 600), "the other acts on all", limit=SECONDS)
            await asyncio.sleep(max(0.0, since + SECONDS - time.monotonic()))
            pair[0].send(signal.SIGCONT)
            await own.all_acted()
            await own.arm("after", 0.1)
            await own.all_acted()
        await own.verdict(f"{SECONDS} s of SIGSTOP", deliveries=2)
        counts = await own.record.deliveries()
        # Only what was in the middle of its task when the process stopped can have been delivered again.
        assert sum(count - 1 for count in counts.values()) <= 10

"""What the timers library promises while Redis, the workers and the network fail: no timer lost, none acted on twice.

Owners keep their timers elsewhere and arm them again when Redis forgot, as the README tells them to; acts are behind
a fence in a server that no test harms. Each test prints how late the acts were.
"""

import asyncio
import random
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from tocsin_stack.valkey import Valkey

from tests.chaos.timers_owner import Owner, owner, stream_of_timers, workers
from tests.rounds import LONG
from tests.timers.support import WorkerProcess, lateness, server, until, worker_processes

pytestmark = pytest.mark.chaos


@pytest.mark.long
@pytest.mark.parametrize("replicas", [2, 5] if LONG else [3])
async def test_replicas_share_the_work(safe: Valkey, replicas: int) -> None:
    async with owner(safe, safe, f"replicas{replicas}") as own:
        async with worker_processes(workers(safe, safe, f"replicas{replicas}", replicas)):
            await own.arm_many({f"b{n}": 0.5 + n % 7 / 10 for n in range(3000)})
            await stream_of_timers(own, 1.5, 100, 1.0)
            await own.all_acted()
        await own.verdict(f"{replicas} replicas", deliveries=1)
        assert len(await own.record.acts()) == 3000 + 120


@pytest.mark.long
async def test_a_flush_is_armed_again(tmp_path: Path, safe: Valkey) -> None:
    async with server(tmp_path / "redis") as valkey, owner(valkey, safe, "flush") as own:
        async with worker_processes(workers(valkey, safe, "flush", 2)):
            await own.arm_many({f"b{n}": 1 + n / 1000 for n in range(1000)})
            arming = asyncio.create_task(stream_of_timers(own, 2, 100, 1.5))
            await until(lambda: len(own.due) > 1100, "it is under way")
            await own.broker.shards[0]._commands.flushall()
            await arming
            await own.all_acted()
        await own.verdict("FLUSHALL")


@pytest.mark.long
@pytest.mark.parametrize("kept", [True, False])
async def test_redis_killed_and_restarted(tmp_path: Path, safe: Valkey, kept: bool) -> None:
    queue = f"killed{kept}"
    async with server(tmp_path / "redis", appendonly=kept) as valkey, owner(valkey, safe, queue) as own:
        async with worker_processes(workers(valkey, safe, queue, 2)):
            await own.arm_many({f"b{n}": 0.5 + n / 500 for n in range(1000)})
            arming = asyncio.create_task(stream_of_timers(own, 2.5, 100, 1.5))
            await until(lambda: len(own.due) > 1100, "it is under way")
            valkey.kill()
            await asyncio.sleep(0.3)
            await valkey.start()
            await arming
            await own.all_acted()
        await own.verdict(f"SIGKILL of Redis, {'append-only file' if kept else 'nothing kept'}")


@pytest.mark.parametrize(
    "step", ["executed", *(pytest.param(step, marks=pytest.mark.long) for step in ("promoted", "read", "acked"))]
)
async def test_workers_killed_at_every_step(safe: Valkey, step: str) -> None:
    """Two processes die right after (or, for executed, right before the ack of) that step; a third one clears up."""
    queue = f"step-{step}"
    async with owner(safe, safe, queue) as own:
        await own.arm_many({f"b{n}": 0.2 + n / 75 for n in range(300)})
        victims = workers(safe, safe, queue, 2, lease=1.0, die_at=step)
        async with worker_processes(victims):
            assert [await victim.wait() for victim in victims] == [-signal.SIGKILL] * 2
        async with worker_processes(workers(safe, safe, queue, 1, lease=1.0)):
            await own.all_acted()
        await own.verdict(f"SIGKILLs after {step}")
        assert len(await own.record.acts()) == 300


@pytest.mark.long
async def test_random_kills_of_promoters_and_workers(safe: Valkey) -> None:
    async with owner(safe, safe, "kills") as own:
        living = workers(safe, safe, "kills", 2, lease=1.0, seconds=0.02)
        async with worker_processes(living):
            arming = asyncio.create_task(stream_of_timers(own, 4, 100, 2.0))
            for _ in range(3):
                victim = random.randrange(2)
                await living[victim].kill()
                [living[victim]] = workers(safe, safe, "kills", 1, lease=1.0, seconds=0.02)
                await living[victim].start()
            await arming
            await own.all_acted()
            await asyncio.gather(*(worker.kill() for worker in living))
        await own.verdict("random SIGKILLs")


async def test_clocks_twenty_minutes_apart(safe: Valkey) -> None:
    owners = [Owner(safe.url, safe.url, "clocks", skew=timedelta(minutes=minutes)) for minutes in (-20, 0, 20)]
    async with worker_processes(workers(safe, safe, "clocks", 2)):
        for number, own in enumerate(owners):
            await own.arm_many({f"{number}-{n}": 0.4 + n / 100 for n in range(60)})
        for own in owners:
            await own.all_acted()
    acts = await owners[0].record.acts()
    due = owners[0].due | owners[1].due | owners[2].due
    assert acts.keys() == due.keys()
    assert min(at - due[id].timestamp() for id, at in acts.items()) > -0.005
    print(f"\nclocks 20 minutes apart: {lateness(acts, due)}")
    for own in owners:
        await own.close()


class CuttingProxy:
    """A TCP proxy that cuts connections at random: before the request arrives, or after it and before the answer."""

    def __init__(self, port: int, chance: float) -> None:
        self._target = port
        self._chance = chance
        self.cuts = 0
        self.port = 0

    async def start(self) -> asyncio.Server:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        return listener

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, there_writer))
                group.create_task(self._pump(there_reader, writer))
        except* (OSError, EOFError):
            self.cuts += 1
        finally:
            for end in (writer, there_writer):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if random.random() < self._chance:
                raise EOFError
            writer.write(data)
            await writer.drain()
        raise EOFError


@pytest.mark.long
async def test_connections_cut_in_the_middle_of_calls(safe: Valkey) -> None:
    """The call is lost before it arrives, or its answer after it was done: callers repeat, and nothing doubles."""
    proxy = CuttingProxy(safe.port, 0.01)
    listener = await proxy.start()
    url = safe.url.replace(str(safe.port), str(proxy.port))
    own = Owner(url, safe.url, "cut")
    watching = asyncio.create_task(own.watch())
    try:
        async with worker_processes([WorkerProcess(url, safe.url, "cut", lease=1.0) for _ in range(2)]):
            await stream_of_timers(own, 3, 150, 1.0)
            listener.close()
            proxy._chance = 0.0
            await own.all_acted()
        assert proxy.cuts > 10
        await own.verdict(f"{proxy.cuts} cut connections")
    finally:
        own._stop.set()
        await watching
        await own.close()
        listener.close()

"""What the timers library promises while Redis, the workers and the network fail: no timer lost, none acted on twice.

Owners keep their timers elsewhere and arm them again when the witness says so, as the README tells them to; acts are
behind a fence in a server that no test harms. Each test prints how late the acts were.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerBroker, TimerSource

from tests.timers.program import declare
from tests.timers.support import (
    Record,
    WorkerProcess,
    in_seconds,
    lateness,
    server,
    settled,
    until,
    worker_processes,
)

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
async def safe(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    async with server(Path(tmp_path_factory.mktemp("safe"))) as valkey:
        yield valkey


class Owner:
    """Keeps what it armed, cancels some of it, and arms again what Redis forgot, every 100 ms."""

    def __init__(self, url: str, safe_url: str, queue: str, *, skew: timedelta = timedelta(0), **options: Any) -> None:
        self.broker = TimerBroker(url, queue, command_timeout=0.5, **options)
        declare(self.broker, None, queue)
        self.source = TimerSource(self.broker, clock=lambda: datetime.now(UTC) + skew)
        self.record = Record(safe_url, queue)
        self.due: dict[str, datetime] = {}
        self.cancelled: set[str] = set()
        self._skew = skew
        self._task = self.broker.find_task("act")
        self._stop = asyncio.Event()
        self._again = False

    async def arm(self, id: str, seconds: float) -> None:
        self.due[id] = in_seconds(seconds)
        await self._send([id])

    async def arm_many(self, timers: dict[str, float]) -> None:
        self.due |= {id: in_seconds(seconds) for id, seconds in timers.items()}
        await self._send(list(timers))

    async def cancel(self, id: str) -> None:
        """As an owner with a database does: first its own record, then Redis, whether that answers or not."""
        self.cancelled.add(id)
        await self.record.cancel(id)
        try:
            await self.source.delete_schedule(id)
        except RedisError:
            return

    async def _send(self, ids: list[str]) -> None:
        assert self._task is not None
        try:
            await self.source.arm(self.source.timer(id, self.due[id] + self._skew, self._task, id) for id in ids)
        except RedisError:
            # Its own record holds it: `watch` arms it when Redis is back.
            self._again = True

    async def watch(self) -> None:
        while not self._stop.is_set():
            try:
                if not await self.broker.witness() or self._again:
                    self._again = False
                    acted = await self.record.acts()
                    await self._send([id for id in self.due if id not in acted and id not in self.cancelled])
            except RedisError:
                self._again = True
            try:
                async with asyncio.timeout(0.1):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def all_acted(self, limit: float = 20.0) -> None:
        """Every timer that was not cancelled acts, and nothing stays behind."""

        async def acted() -> bool:
            return len(self.due.keys() - self.cancelled - (await self.record.acts()).keys()) == 0

        await until(acted, "every timer acts", limit)
        await until(lambda: settled(self.broker), "nothing stays behind", limit)

    async def verdict(self, what: str, *, deliveries: int | None = None) -> None:
        """No act that was not due; print the lateness; `deliveries`: how many there were at most per timer."""
        acts = await self.record.acts()
        assert acts.keys() - self.due.keys() == set()
        early = {id: at - self.due[id].timestamp() for id, at in acts.items() if at < self.due[id].timestamp() - 0.002}
        assert not early, f"acted before due: {early}"
        counts = await self.record.deliveries()
        repeated = sum(count - 1 for count in counts.values())
        print(f"\n{what}: {lateness(acts, self.due)}, {repeated} deliveries fenced off")
        if deliveries is not None:
            assert max(counts.values()) <= deliveries, {id: n for id, n in counts.items() if n > deliveries}

    async def close(self) -> None:
        self._stop.set()
        await self.record.close()
        await self.broker.shutdown()


@asynccontextmanager
async def owner(valkey: Valkey, safe: Valkey, queue: str, **options: Any) -> AsyncIterator[Owner]:
    owning = Owner(valkey.url, safe.url, queue, **options)
    watching = asyncio.create_task(owning.watch())
    try:
        yield owning
    finally:
        owning._stop.set()
        await watching
        await owning.close()


def workers(valkey: Valkey, safe: Valkey, queue: str, number: int, **settings: Any) -> list[WorkerProcess]:
    return [WorkerProcess(valkey.url, safe.url, queue, **settings) for _ in range(number)]


async def stream_of_timers(owner: Owner, seconds: float, per_second: int, longest: float) -> None:
    """Arm and cancel (one in five) at a steady rate, whatever happens."""
    begun = time.monotonic()
    for number in range(int(seconds * per_second)):
        ahead = begun + number / per_second - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        await owner.arm(f"t{number}", random.uniform(0.3, longest))
        if number % 5 == 0:
            await owner.cancel(f"t{number}")


@pytest.mark.parametrize("replicas", [2, 5])
async def test_replicas_share_the_work(safe: Valkey, replicas: int) -> None:
    async with owner(safe, safe, f"replicas{replicas}") as own:
        async with worker_processes(workers(safe, safe, f"replicas{replicas}", replicas)):
            await own.arm_many({f"b{n}": 0.5 + n % 7 / 10 for n in range(3000)})
            await stream_of_timers(own, 1.5, 100, 1.0)
            await own.all_acted()
        await own.verdict(f"{replicas} replicas", deliveries=1)
        assert len(await own.record.acts()) == 3000 + 120


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


async def test_a_long_outage(tmp_path: Path, safe: Valkey) -> None:
    """Four seconds, two leases long; more would test nothing else."""
    async with server(tmp_path / "redis") as valkey, owner(valkey, safe, "outage") as own:
        async with worker_processes(workers(valkey, safe, "outage", 2, seconds=0.2)):
            await own.arm_many({f"b{n}": 0.3 + n / 100 for n in range(300)})
            await until(lambda: started(own, 20), "some act")
            await valkey.stop()
            gone = time.monotonic()
            await own.arm("while away", 1.0)
            await own.cancel("b299")
            await asyncio.sleep(max(0.0, gone + 4 - time.monotonic()))
            await valkey.start()
            back = time.monotonic()
            await own.all_acted()
            assert time.monotonic() - back < 8
        await own.verdict("4 s outage")
        assert "b299" not in await own.record.acts()


async def started(owner: Owner, number: int) -> bool:
    return await owner.record.count() >= number


@pytest.mark.parametrize("step", ["promoted", "read", "executed", "acked"])
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


async def test_a_stopped_process_that_goes_on_repeats_nothing(safe: Valkey) -> None:
    """SIGSTOP for longer than the lease: the other replica does everything, and the stopped one nothing again."""
    async with owner(safe, safe, "stopped") as own:
        pair = workers(safe, safe, "stopped", 2, lease=1.0, concurrency=10)
        async with worker_processes(pair):
            await own.arm_many({f"b{n}": 0.3 + n / 150 for n in range(600)})
            await until(lambda: started(own, 50), "some act")
            pair[0].send(signal.SIGSTOP)
            await until(lambda: started(own, 600), "the other acts on all", limit=15)
            pair[0].send(signal.SIGCONT)
            await own.all_acted()
            await own.arm("after", 0.1)
            await own.all_acted()
        await own.verdict("SIGSTOP", deliveries=2)
        counts = await own.record.deliveries()
        # Only what was in the middle of its task when the process stopped can have been delivered again.
        assert sum(count - 1 for count in counts.values()) <= 10


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

"""From a note on an incident to a thousand watchers; the floor is a bare server that writes the same bytes to as many streams."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from tocsin.escalation.v1 import incident_service_pb2, watch_service_pb2
from tocsin_stack.scratch import scratch
from tocsin_testkit.world import World

from tests.bench.report import report
from tests.bench.watching_floor import TELL, WATCH

WATCHERS = 1000
CONNECTIONS = 10
EVENTS = 30
PAUSE = 0.4
PATIENCE = 60.0
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"LOG_LEVEL": "WARNING", "GRPC_MAX_STREAMS": "10000", "TENANT_MAX_STREAMS": "2000"}
METHOD = "/tocsin.escalation.v1.WatchService/WatchIncidents"


class Watchers:
    """Open streams that note when each event came. Messages stay bytes, so that the client costs as little as it can."""

    def __init__(self, target: str, method: str, request: bytes, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        own = (("grpc.use_local_subchannel_pool", 1),)
        self.channels = [grpc.aio.insecure_channel(target, options=own) for _ in range(CONNECTIONS)]
        opening: list[Any] = [channel.unary_stream(method) for channel in self.channels]
        self._calls = [opening[number % CONNECTIONS](request, metadata=metadata) for number in range(WATCHERS)]
        self._open = 0
        self.came: dict[bytes, list[float]] = {}
        self.last = b""
        self._tasks = [asyncio.create_task(self._read(call)) for call in self._calls]

    async def opened(self) -> None:
        """Every stream has had its first message."""
        await self._until(lambda: self._open == WATCHERS)

    async def told(self, event: bytes) -> list[float]:
        """When each watcher had the event."""
        await self._until(lambda: len(self.came.get(event, ())) == WATCHERS)
        return self.came[event]

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self.channels:
            await channel.close()

    async def _read(self, call: Any) -> None:
        first = True
        async for message in call:
            now = time.monotonic()
            self._open += first
            first = False
            place = message.find(b"event-")
            if place >= 0:
                self.last = message
                self.came.setdefault(message[place : place + 9], []).append(now)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)


async def main() -> None:
    with scratch("tocsin-bench-") as folder:
        async with World(folder, environment=ENVIRONMENT) as world:
            tenant = world.tenant()
            incident = await (await tenant.integration()).triggers("db down")
            await world.idle()
            target = world.stack.services["escalation"][0].grpc_address
            metadata = (("authorization", f"Bearer {world.token(tenant.org_id)}"),)
            request = watch_service_pb2.WatchIncidentsRequest().SerializeToString()
            watchers = Watchers(target, METHOD, request, metadata)
            await watchers.opened()

            async def note(event: bytes) -> None:
                text = event.decode()
                await tenant.admin.incidents.AddNote(incident_service_pb2.AddNoteRequest(name=incident, text=text))

            waits = await told(watchers, note)
            message = watchers.last
            await watchers.close()
        floor = await bare(message)
    for percent in (50, 99):
        value, base = percentile(waits, percent) * 1000, percentile(floor, percent) * 1000
        report(f"watching_event_to_{WATCHERS}_p{percent}", value, "ms", base, value / base)


async def bare(message: bytes) -> list[float]:
    """The same with a server that knows its message before."""
    place = message.find(b"event-")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.watching_floor", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        target = f"127.0.0.1:{int(await process.stdout.readline())}"
        watchers = Watchers(target, WATCH, b"")
        await watchers.opened()
        tell: Any = watchers.channels[0].unary_unary(TELL)

        async def write(event: bytes) -> None:
            await tell(message[:place] + event + message[place + len(event) :])

        waits = await told(watchers, write)
        await watchers.close()
        return waits
    finally:
        process.kill()
        await process.wait()


async def told(watchers: Watchers, tell: Callable[[bytes], Awaitable[object]]) -> list[float]:
    """Seconds from the beginning of each event's call to each watcher."""
    waits: list[float] = []
    for number in range(EVENTS):
        await asyncio.sleep(PAUSE)
        event, began = f"event-{number:03}".encode(), time.monotonic()
        await tell(event)
        came = await watchers.told(event)
        if number >= 3:  # the first ones make what the others use
            waits += [at - began for at in came]
    return waits


def percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]

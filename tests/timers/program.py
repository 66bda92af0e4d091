"""A worker process of the fault tests: `python -m tests.timers.program '<json>'`.

Tasks write down every delivery and act once per id unless it is cancelled, behind a fence in another server, as a
careful user's task would.
`die_at` names a step at which the process kills itself, after it has done that step `die_after` times.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from redis.asyncio import Redis
from tocsin_timers import BackoffMiddleware, TimerBroker, Worker
from tocsin_timers.shard import Shard


def declare(broker: TimerBroker, record: Redis | None, name: str, seconds: float = 0.0) -> None:
    """The task `act`, as both the senders and the workers of the fault tests declare it."""

    @broker.task("act")
    async def act(id: str) -> None:
        assert record is not None
        now = time.time()
        await record.hincrby(f"{name}:deliveries", id, 1)
        if await record.sismember(f"{name}:cancelled", id):
            return
        if seconds:
            await asyncio.sleep(seconds)
        await record.hsetnx(f"{name}:acts", id, str(now))


def die_when(step: str, after: int) -> None:
    """Kill this process with SIGKILL right after the step has been done `after` times, or right before an ack."""
    seen = 0

    def counted(step_done: Callable[..., Awaitable[Any]], *, before: bool = False) -> Callable[..., Awaitable[Any]]:
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            if before:
                seen += 1
                if seen >= after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return await step_done(*args, **kwargs)
            result = await step_done(*args, **kwargs)
            hit = result.promoted if step == "promoted" else bool(result)
            seen += 1 if hit else 0
            if seen >= after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapper

    match step:
        case "promoted":
            Shard.promote = counted(Shard.promote)  # type: ignore[method-assign,assignment]
        case "read":
            Shard.read = counted(Shard.read)  # type: ignore[method-assign,assignment]
        case "executed":
            Shard.settle = counted(Shard.settle, before=True)  # type: ignore[method-assign,assignment]
        case "acked":
            Shard.settle = counted(Shard.settle)  # type: ignore[method-assign,assignment]
        case _:
            raise ValueError(step)


async def main(settings: dict[str, Any]) -> None:
    record = Redis.from_url(settings["record_url"], protocol=2)
    broker = TimerBroker(
        settings["url"],
        settings["queue"],
        shards=settings.get("shards", 1),
        lease=settings.get("lease", 2.0),
        backoff=BackoffMiddleware(10, base=0.05, cap=0.2),
    )
    declare(broker, record, settings["queue"], settings.get("seconds", 0.0))
    if "die_at" in settings:
        die_when(settings["die_at"], settings.get("die_after", 1))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    running = asyncio.create_task(Worker(broker, concurrency=settings.get("concurrency", 20)).run(stop))
    print("working", flush=True)
    await running
    await record.aclose()


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    with contextlib.suppress(KeyboardInterrupt):
        (uvloop.run if chosen.get("uvloop", True) else asyncio.run)(main(chosen))

"""Bytes of Redis' memory per pending timer, against the sorted set member alone."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin_timers import TimerSource

from tests.bench.report import report
from tests.bench.timers_setting import after, clients, task_of, timer_id

NUMBER = 200_000


async def main() -> None:
    async with clients() as (_, broker, raw):
        source, task, far = TimerSource(broker), task_of(broker), after(3600)
        before = await used(raw)
        await source.arm(
            source.timer(timer_id(n), far, task, Timestamp(seconds=2_000_000_000 + n, nanos=n + 1))
            for n in range(NUMBER)
        )
        ours = (await used(raw) - before) / NUMBER
        before = await used(raw)
        for start in range(0, NUMBER, 1000):
            await raw.zadd("raw", {timer_id(n): far.timestamp() + n for n in range(start, start + 1000)})
        floor = (await used(raw) - before) / NUMBER
        report("timers memory per pending timer", ours, "bytes", floor, ours / floor)


async def used(raw: Any) -> float:
    return float((await raw.info("memory"))["used_memory"])

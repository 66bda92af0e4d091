"""Tasks one worker process executes per second from a full stream, against a bare loop of XREADGROUP(100) and an XACK for each;
and 10,000 timers due at one instant: when the last one starts, whether in order, and how often."""

import asyncio
import time
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin_timers import TimerSource

from tests.bench.report import report
from tests.bench.timers_setting import WorkerProcess, after, clients, task_of, timer_id

EXECUTED = 40_000
BURST = 10_000


async def main() -> None:
    async with clients() as (valkey, broker, raw):
        task = task_of(broker)
        for start in range(0, EXECUTED, 1000):
            pipeline = raw.pipeline(transaction=False)
            for n in range(start, start + 1000):
                pipeline.xadd("raw", {b"n": n, b"d": b"x" * 72})
            await pipeline.execute()
        floor_process = WorkerProcess(valkey.url, raw=True)
        await floor_process.start()
        await until_read(raw, "raw", EXECUTED)
        floor = per_second(await floor_process.stop())

        await broker.kick_many(broker.encode(task, Timestamp(seconds=n)) for n in range(EXECUTED))
        worker = WorkerProcess(valkey.url)
        await worker.start()
        while (await broker.figures()).completed < EXECUTED:
            await asyncio.sleep(0.2)
        starts = await worker.stop()
        assert len({number for number, _ in starts}) == len(starts) == EXECUTED
        ours = per_second(starts)
        report("timers executed tasks, one worker process", ours, "1/s", floor, ours / floor)

        worker = WorkerProcess(valkey.url)
        await worker.start()
        due = after(3.0)
        source = TimerSource(broker)
        await source.arm(source.timer(timer_id(n), due, task, Timestamp(seconds=n)) for n in range(BURST))
        assert time.time() < due.timestamp(), "armed too late to measure anything"
        while (await broker.figures()).completed < EXECUTED + BURST:
            await asyncio.sleep(0.2)
        starts = await worker.stop()
        assert [number for number, _ in starts] == list(range(BURST)), "not in due order, or not once each"
        last = starts[-1][1] - due.timestamp()
        report(
            "timers 10,000 due at one instant: last one started after", last, "s", BURST / floor, last * floor / BURST
        )


async def until_read(raw: Any, stream: str, number: int) -> None:
    while True:
        [group] = await raw.xinfo_groups(stream) or [{}]
        if group.get("entries-read") == number and group.get("pending") == 0:
            return
        await asyncio.sleep(0.2)


def per_second(starts: list[tuple[int, float]]) -> float:
    return len(starts) / (starts[-1][1] - starts[0][1])

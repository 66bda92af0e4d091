"""Arming and cancelling in bulk, against raw pipelined ZADD+HSET and ZREM+HDEL in batches of the same thousand."""

import time

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin_timers import TimerSource

from tests.bench.report import report
from tests.bench.timers_setting import after, clients, task_of, timer_id

NUMBER = 100_000


async def main() -> None:
    async with clients() as (_, broker, raw):
        source, task, far = TimerSource(broker), task_of(broker), after(3600)
        moment = far.timestamp()
        begun = time.perf_counter()
        timers = [source.timer(timer_id(n), far, task, Timestamp(seconds=n)) for n in range(NUMBER)]
        encode = NUMBER / (time.perf_counter() - begun)

        begun = time.perf_counter()
        for start in range(0, NUMBER, 1000):
            pipeline = raw.pipeline(transaction=False)
            for timer in timers[start : start + 1000]:
                pipeline.zadd("rawdue", {timer.id: moment})
                pipeline.hset("rawdata", timer.id, timer.message.message)
            await pipeline.execute()
        raw_arm = NUMBER / (time.perf_counter() - begun)

        begun = time.perf_counter()
        assert await source.arm(timers) == NUMBER
        arm = NUMBER / (time.perf_counter() - begun)
        report("timers arm in bulk", arm, "1/s", raw_arm, arm / raw_arm)
        report("timers encode for bulk", encode, "1/s", raw_arm, encode / raw_arm)

        begun = time.perf_counter()
        for start in range(0, NUMBER, 1000):
            pipeline = raw.pipeline(transaction=False)
            for timer in timers[start : start + 1000]:
                pipeline.zrem("rawdue", timer.id)
                pipeline.hdel("rawdata", timer.id)
            await pipeline.execute()
        raw_cancel = NUMBER / (time.perf_counter() - begun)

        begun = time.perf_counter()
        assert await source.delete_schedules(timer.id for timer in timers) == NUMBER
        cancel = NUMBER / (time.perf_counter() - begun)
        report("timers cancel in bulk", cancel, "1/s", raw_cancel, cancel / raw_cancel)

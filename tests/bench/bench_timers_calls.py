"""Arming, cancelling and sending one at a time by fifty callers, against raw ZADD, ZREM and XADD calls.

Concurrent calls of ours share round trips, the raw client's do not: ratios above 1 are real.
"""

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin_timers import TimerSource

from tests.bench.report import report
from tests.bench.timers_setting import after, clients, rate, task_of, timer_id

NUMBER = 15_000


async def main() -> None:
    async with clients() as (_, broker, raw):
        source, task, far = TimerSource(broker), task_of(broker), after(3600)
        moment = far.timestamp()

        async def arm(n: int) -> None:
            await task.kicker().with_schedule_id(timer_id(n)).schedule_by_time(source, far, Timestamp(seconds=n))

        for name, ours, floor in (
            ("arm", arm, lambda n: raw.zadd("raw", {timer_id(n): moment})),
            ("cancel", lambda n: source.delete_schedule(timer_id(n)), lambda n: raw.zrem("raw", timer_id(n))),
            ("send", lambda n: task.kiq(Timestamp(seconds=n)), lambda n: raw.xadd("rawstream", {b"d": b"x" * 72})),
        ):
            raw_rate = await rate(NUMBER, floor)
            our_rate = await rate(NUMBER, ours)
            report(f"timers {name}, one at a time, 50 callers", our_rate, "1/s", raw_rate, our_rate / raw_rate)

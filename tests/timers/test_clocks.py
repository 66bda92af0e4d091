"""Redis' clock is set: what a script wrote before lies in the future."""

from redis.asyncio import Redis
from tocsin_timers import TimerBroker

RATE = 10.0


async def test_a_clock_that_is_set_back_does_not_stop_a_rate(broker: TimerBroker) -> None:
    [shard] = broker.shards
    redis = shard._commands
    assert isinstance(redis, Redis)
    assert await shard.permits(RATE, 1.0, 1, urgent=False) == (1, 0)
    await redis.hincrby(shard._due.removesuffix("due") + "rate", "at", 3600 * 1_000_000)
    _, wait = await shard.permits(RATE, 1.0, 1, urgent=False)
    assert wait <= 1 / RATE, "it would stand still for an hour"

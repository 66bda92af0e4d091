"""Settings of Redis under which timers can be lost, said aloud when a worker starts."""

import asyncio
import logging
from collections.abc import Sequence

from redis.exceptions import RedisError

from tocsin_timers.backoff import Backoff
from tocsin_timers.shard import Shard

logger = logging.getLogger(__name__)


async def warn_of_lossy_settings(shards: Sequence[Shard]) -> None:
    """One warning per lossy setting of each shard's server, as soon as it answers. Never raises RedisError."""
    backoff = Backoff(cap=5.0)
    while True:
        try:
            about = await asyncio.gather(*(shard.info() for shard in shards))
            break
        except (RedisError, OSError):
            await backoff.wait()
    for problem in sorted({problem for info in about for problem in problems(info)}):
        logger.warning("%s", problem)


def problems(info: dict[str, str]) -> list[str]:
    """What is wrong with a server that says this about itself."""
    found = []
    policy = info.get("maxmemory_policy", "noeviction")
    # The volatile-* policies evict keys with a time to live only: nothing of ours that matters has one.
    if policy.startswith("allkeys") and info.get("maxmemory", "0") != "0":
        found.append(f"Redis may evict pending timers: maxmemory-policy is {policy}, set it to noeviction")
    if info.get("aof_enabled") == "0":
        found.append(
            "Redis keeps no append-only file: a restart forgets pending timers until their owner arms them again"
        )
    return found

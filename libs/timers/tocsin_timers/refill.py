"""Fills a Redis that lost its data: one process at a time, and another one if that one dies."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence

from redis.exceptions import RedisError

from tocsin_timers.loops import cancel
from tocsin_timers.shard import Look, Shard

logger = logging.getLogger(__name__)


async def refill(shards: Sequence[Shard], lease: float, arm_all: Callable[[], Awaitable[object]]) -> bool:
    """See `TimerBroker.refill`."""
    token = secrets.token_hex(8)
    looks = await asyncio.gather(*(shard.look(token, lease) for shard in shards), return_exceptions=True)
    claimed = [shard for shard, look in zip(shards, looks, strict=True) if look is Look.CLAIMED]
    try:
        for look in looks:
            if isinstance(look, BaseException):
                raise look
        if not claimed:
            return all(look is Look.KNOWN for look in looks)
        keeping = asyncio.create_task(_keep(claimed, token, lease))
        try:
            await arm_all()
        finally:
            await cancel(keeping)
    except BaseException:
        await _drop(claimed, token)
        raise
    done = await asyncio.gather(*(shard.end_claim("done", token) for shard in claimed))
    if not all(done):
        logger.warning("Redis forgot again while it was filled, or this took longer than its claim lasted")
    return all(done) and Look.TAKEN not in looks


async def _keep(claimed: Sequence[Shard], token: str, lease: float) -> None:
    """Keep the claims while timers are being armed. A lost one is found out in the end."""
    while True:
        await asyncio.sleep(lease / 3)
        await asyncio.gather(*(shard.keep_claim(token, lease) for shard in claimed), return_exceptions=True)


async def _drop(claimed: Sequence[Shard], token: str) -> None:
    """Let another process begin at once; without Redis the claims end by themselves."""
    for shard in claimed:
        try:
            await shard.end_claim("drop", token)
        except (RedisError, OSError) as error:
            logger.debug("could not drop a claim: %r", error)

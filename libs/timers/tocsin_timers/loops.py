"""Loops that outlive the server they talk to."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError, ResponseError

from tocsin_timers.backoff import Backoff
from tocsin_timers.circuit import RedisUnresponsive

logger = logging.getLogger(__name__)


async def forever(name: str, step: Callable[[], Awaitable[None]], failed: Callable[[], None] | None = None) -> None:
    """Call `step` again and again until cancelled, backing off with jitter (50 ms to 1 s) while it raises.

    A Redis that hangs is not asked again before it answers the circuit's probe, and then at once.
    `failed` runs once per failure, before the wait. One line is logged when an outage begins and one when it ends:
    the stock receiver logged 30,000 tracebacks in ten seconds.
    """
    backoff = Backoff()
    while True:
        try:
            await step()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if failed is not None:
                failed()
            if not isinstance(error, (RedisError, OSError)):
                logger.exception("%s: failed in an unexpected way; trying again", name)
            elif not backoff.failures:
                trouble = "refuses" if isinstance(error, ResponseError) else "is away"
                logger.warning("%s: Redis %s: %r; trying again with backoff", name, trouble, error)
            if isinstance(error, RedisUnresponsive):
                backoff.failures += 1
                await error.circuit.answers()
            else:
                await backoff.wait()
        else:
            if backoff.failures:
                logger.info("%s: working again after %d failures", name, backoff.failures)
                backoff.reset()


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel and wait until every one has ended; how each ended does not matter here.

    redis-py loses a cancellation that lands while a blocking read returns (redis-py#2028, #2551), and the loop would
    read on: ask again.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.05)

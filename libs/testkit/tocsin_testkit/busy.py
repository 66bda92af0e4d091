"""How long something may take on a machine that other work shares."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable


def within(seconds: float) -> float:
    """What `seconds` of an idle machine become on this one now: multiplied by the load of each core (getloadavg(3)).

    A bound in plain seconds fails on a busy machine where nothing is wrong. Of the last minute's load and that of the
    last five minutes the higher one counts, since the first forgets a busy moment soon.
    """
    minute, five_minutes, _ = os.getloadavg()
    return seconds * max(1.0, max(minute, five_minutes) / len(os.sched_getaffinity(0)))


def until_next_look(began: float) -> float:
    """Seconds, for a wait that `began` then (`time.monotonic`).

    Each look takes some of the processor from what is waited for, so they become rarer: the end is noticed late by a tenth of
    what it took.
    """
    return min(0.1, max(0.005, (time.monotonic() - began) / 10))


async def until(condition: Callable[[], Awaitable[object] | object], seconds: float = 30.0) -> None:
    """Returns once the condition, which may be a coroutine function, holds; fails after `seconds`.

    A number of attempts is no deadline: how long they last depends on how fast the machine answers.
    """
    began = time.monotonic()
    async with asyncio.timeout(within(seconds)):
        while True:
            held = condition()
            if await held if isinstance(held, Awaitable) else held:
                return
            await asyncio.sleep(until_next_look(began))

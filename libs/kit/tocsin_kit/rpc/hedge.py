"""Asking again before the first answer has come: for calls that may be made twice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

SILENCE: Final = 0.7
"""Seconds after which another replica is asked as well; a quarter of the deadline if that is less."""
_MOST: Final = 3


async def hedged(method: Callable[..., Awaitable[T]], request: Any, *, seconds: float) -> T:
    """The first good answer of up to three calls, each made when those before have said nothing for a while.

    A replica that stands still, frozen or cut off, says nothing at all: its caller would wait for its whole deadline,
    while the channel's turns lead every other call to one that lives. Only for calls that do nothing the second time.
    `seconds` is the deadline of all of them together. An error is an answer unless a call is under way that may do
    better; otherwise it is raised as gRPC raised it.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    running = {asyncio.ensure_future(method(request, timeout=seconds))}
    made = 1
    try:
        while True:
            wait = min(SILENCE, seconds / 4) if made < _MOST else None
            done, running = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            good = next((each for each in done if each.exception() is None), None)
            if good is not None:
                return good.result()
            if not running:
                return done.pop().result()
            if not done:
                running.add(asyncio.ensure_future(method(request, timeout=max(0.0, deadline - clock()))))
                made += 1
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

"""Asking again before the first answer has come: for calls that may be made twice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def hedged(call: Callable[[float], Awaitable[T]], *, seconds: float, after: float, most: int = 3) -> T:
    """The first good answer of up to `most` calls, each made when those before have said nothing for `after` seconds.

    A replica that stands still, frozen or cut off, says nothing at all: its caller would wait for its whole deadline,
    while the channel's turns lead every other call to one that lives. Only for calls that do nothing the second time.
    `call` is given what is left of `seconds`, the deadline of all of them. An error is an answer unless a call is under
    way that may do better.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    running = {asyncio.ensure_future(call(seconds))}
    made = 1
    try:
        while True:
            wait = after if made < most else None
            done, running = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            good = next((each for each in done if each.exception() is None), None)
            if good is not None:
                return good.result()
            if not running:
                return done.pop().result()
            if not done:
                running.add(asyncio.ensure_future(call(max(0.0, deadline - clock()))))
                made += 1
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

"""Repeating a call before the first answer has come: for calls that may be made twice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

SILENCE: Final = 0.7
"""Seconds after which another replica is called as well, unless the deadline is near."""
_MOST: Final = 3


def silence_of(seconds: float) -> float:
    """After how many seconds a call with this deadline is made again.

    It is longer than gRPC retries a refused call (`tocsin_kit.rpc.client.RETRY_POLICY`): a refusal is an answer, not silence.
    """
    return min(SILENCE, seconds / 2)


async def hedged(method: Callable[..., Awaitable[T]], request: Any, *, seconds: float) -> T:
    """The first good answer of up to three calls, each made when the earlier ones have had no answer for a while.

    A replica that is frozen or cut off does not answer at all, and its caller would wait for the whole deadline. The rotation of
    the channel is no way around it: other calls use the rotation as well, and each new connection restarts it, so all three calls
    would reach the same replica once in eight times. So `method`, of `tocsin_kit.rpc.client.channel`, gets the length of the
    silence, and makes the next call over a new connection.

    Only for calls that change nothing when repeated. `seconds` is the deadline of all of them together. An error is an answer
    unless a call is under way that may succeed; otherwise it is raised as gRPC raised it.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    silence = silence_of(seconds)
    running = {asyncio.ensure_future(method(request, timeout=seconds))}
    made = 1
    try:
        while True:
            wait = silence if made < _MOST else None
            done, running = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            # Each is asked: asyncio logs the error of one that nobody has asked, as a defect.
            if good := [each for each in done if each.exception() is None]:
                return good[0].result()
            if not running:
                return done.pop().result()
            if not done:
                left = max(0.0, deadline - clock())
                running.add(asyncio.ensure_future(method(request, timeout=left, silent_for=silence)))
                made += 1
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

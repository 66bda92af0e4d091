"""Long looks, again and again, with rests between them."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

_REST: Final = 10
"""Times as long as a look took, no further one begins."""


class Resting:
    """`look`, unless the last one was so long that pages would feel another one so soon."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        self._look = look
        self._rests_until = float("-inf")

    async def soon(self) -> None:
        """Raises what `look` raises."""
        began = time.monotonic()
        if began >= self._rests_until:
            await self._look()
            ended = time.monotonic()
            self._rests_until = ended + _REST * (ended - began)

"""Long work that repeats, with a pause after each run."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

_REST: Final = 10
"""The pause is this many times as long as the run took."""


class Resting:
    """`look`, unless the last run was so long that another one so soon would delay pages."""

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

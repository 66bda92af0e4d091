"""Long work that repeats, with a pause after each run."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

_PAUSE: Final = 10
"""The pause is this many times as long as the run took."""


class PacedWork:
    """Runs `work`, unless the last run was so long that another one so soon would delay pages."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._pauses_until = float("-inf")

    async def run(self) -> None:
        """Returns at once during a pause. Raises what `work` raises."""
        began = time.monotonic()
        if began >= self._pauses_until:
            await self._work()
            ended = time.monotonic()
            self._pauses_until = ended + _PAUSE * (ended - began)

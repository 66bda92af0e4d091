"""How long to wait before trying again."""

import asyncio
import random


def full_jitter(attempt: int, base: float, cap: float) -> float:
    """Seconds before try `attempt` + 1: anything between 0 and base * 2^(attempt - 1), at most `cap`.

    The whole range is random so that a thousand failures of one instant do not come back as one wave
    (AWS Architecture Blog, "Exponential Backoff And Jitter", the variant called full jitter).
    """
    return random.uniform(0, min(cap, base * 2.0 ** min(attempt - 1, 60)))


class Backoff:
    """The waits of a loop that lost its server. Never shorter than half a step: a loop that waits 0 s would use a whole core."""

    def __init__(self, base: float = 0.05, cap: float = 1.0) -> None:
        self._base = base
        self._cap = cap
        self.failures = 0

    def reset(self) -> None:
        """A success: the next wait is the shortest again."""
        self.failures = 0

    async def wait(self) -> None:
        """One more failure."""
        self.failures += 1
        step = min(self._cap, self._base * 2.0 ** min(self.failures - 1, 30))
        await asyncio.sleep(random.uniform(step / 2, step))

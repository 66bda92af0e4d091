"""Work that is not urgent gives way to new pages, and to people who answer: all of these share the processor and the event
loop with thousands of due rows."""

import asyncio
from types import TracebackType
from typing import Final

from tocsin_kit.loops import wait_or_stop

_MOST_SECONDS: Final = 0.02
"""In a storm of pages or answers, other work goes on after this wait, one round at a time."""


class PeopleFirst:
    """One object per process. Use it as a context manager from the arrival of pages until their calls have begun, and for the
    first moment of what a person does by an answer."""

    def __init__(self, most: float = _MOST_SECONDS) -> None:
        """`most`: seconds that a round waits."""
        self._most = most
        self._coming = 0
        self._clear = asyncio.Event()
        self._clear.set()

    def __enter__(self) -> None:
        self._coming += 1
        self._clear.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._coming -= 1
        if not self._coming:
            self._clear.set()

    async def give_way(self) -> None:
        """Returns once no page is between its arrival and its call and no answer is being taken, or after the longest wait."""
        if self._coming:
            await wait_or_stop(self._clear, self._most)

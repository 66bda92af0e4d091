"""Waiting for messages: for a condition, with a deadline, never for a time."""

import asyncio
from collections.abc import Callable

from tocsin_testkit.busy import within
from tocsin_testkit.received import Received

PATIENCE = 20.0


class Inbox:
    """Everything that arrived anywhere, in order."""

    def __init__(self) -> None:
        self.messages: list[Received] = []
        self._arrived = asyncio.Condition()
        self._expected: set[int] = set()

    async def put(self, message: Received) -> None:
        """A message has arrived."""
        async with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def expect(self, message: Received) -> Received:
        """A test has asked for this message: no other call gets it, and it is not reported as unexpected."""
        self._expected.add(id(message))
        return message

    def is_expected(self, message: Received) -> bool:
        """Whether a test has asked for it."""
        return id(message) in self._expected

    async def wait_for(self, fits: Callable[[Received], bool], what: str, patience: float = PATIENCE) -> Received:
        """The first message that fits, whether it is here already or comes within `patience` seconds of an idle machine.

        Raises AssertionError that says what did come.
        """

        def found() -> Received | None:
            return next((message for message in self.messages if fits(message)), None)

        async with self._arrived:
            try:
                async with asyncio.timeout(within(patience)):
                    await self._arrived.wait_for(lambda: found() is not None)
            except TimeoutError:
                came = "\n  ".join(f"{m.address}: {m.kind} {m.subject!r} level {m.level}" for m in self.messages)
                raise AssertionError(f"{what} did not come within {patience:g} s; what came:\n  {came}") from None
        message = found()
        assert message is not None, "the condition held"
        return message

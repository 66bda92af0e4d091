"""The right to begin a provider call, checked once more just before the call leaves this process (`delivery.gate` has
the proof)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tocsin_kit.errors import TocsinError
from tocsin_kit.loops import wait_or_stop

from tocsin_notify.app.delivery.late_calls import LateCall, LateCalls, Passed
from tocsin_notify.channels.base import Delivery, NotStarted
from tocsin_notify.store.delivery.gate import PROOF_SECONDS, gate_clock

T = TypeVar("T")

FRESH_SECONDS: Final = PROOF_SECONDS / 2
"""A call that leaves later than this after the last proof asks the gate again: this process may have been paused."""
_ASKS: Final = 10
_PAUSE: Final = 0.1

_STOPPED: Final = (
    "it was stopped, another replica took it over, or a page in it was answered, before the provider was called"
)
_UNKNOWN: Final = "the gate could not be asked whether the call may still begin"


class Permit:
    """The permit of one attempt. The claim of the attempt is its first proof; each later request of the same attempt
    has to ask."""

    def __init__(self, late: LateCalls, delivery: Delivery, since: float, used: Callable[[], None]) -> None:
        """`since`: when the claim's session was known to hold its locks, by `gate_clock`. `used` is called once: when
        the call has begun, or when it can no longer begin under the claim's lock."""
        self._late = late
        self._delivery = delivery
        self._since = since
        self._used: Callable[[], None] | None = used
        self._revoked = False
        self.refused = ""
        """Why the last call of `begin` was refused; empty if it was not."""

    async def begin(self, call: Callable[[], Awaitable[T]], *, repeat: bool = False) -> T:
        """See `channels.base.Permit`."""
        if not (repeat or self._revoked) and gate_clock() - self._since < FRESH_SECONDS:
            self.settle()
            return await call()
        late = LateCall(self._delivery, call)
        try:
            try:
                await self._ask(late)
            except TocsinError as error:
                raise self._refuse(f"{_UNKNOWN}: {error.message}") from error
            assert late.task is not None, "it has begun"
            answer: T = await late.task
            return answer
        finally:
            late.cancelled = True
            if late.task is not None:
                late.task.cancel()

    def settle(self) -> None:
        """The claim's lock is no longer needed for this call."""
        if self._used is not None:
            self._used()
            self._used = None

    def revoke(self) -> None:
        """The claim's lock is released: a call that has not begun has to ask."""
        if self._used is not None:
            self._revoked = True
            self.settle()

    async def _ask(self, late: LateCall) -> None:
        """Returns when the call has begun."""
        for _ in range(_ASKS):
            match await self._late.begin(late):
                case Passed.BEGUN:
                    self._since, self._revoked = late.since, False
                    return
                case Passed.STOPPED:
                    raise self._refuse(_STOPPED)
                case Passed.AGAIN:
                    await wait_or_stop(asyncio.Event(), _PAUSE * random.random())
        raise self._refuse(_UNKNOWN)

    def _refuse(self, reason: str) -> NotStarted:
        self.refused = reason
        return NotStarted(reason)

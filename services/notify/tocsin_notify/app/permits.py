"""The right to begin a provider call, checked once more where the call leaves this process (`store.gate` has the proof)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

from tocsin_kit.errors import TocsinError
from tocsin_kit.loops import wait_or_stop

from tocsin_notify.channels.base import Delivery, NotStarted
from tocsin_notify.store import notifications
from tocsin_notify.store.gate import PROOF_SECONDS, Gate, gate_clock, incident_key

T = TypeVar("T")

FRESH_SECONDS: Final = PROOF_SECONDS / 2
"""A call that leaves later than this after the last proof asks the gate again: this process may have stood still."""
_ASKS: Final = 10
_PAUSE: Final = 0.1

_STOPPED: Final = "its incident was stopped, or another replica took it over, before the provider was called"
_UNKNOWN: Final = "the gate could not be asked whether the call may still begin"


class Permit:
    """Of one attempt. The claim of the attempt is its first proof; everything later in it has to ask."""

    def __init__(self, gate: Gate, delivery: Delivery, since: float, used: Callable[[], None]) -> None:
        """`since`: when the claim's session was known to hold its locks, by `gate_clock`. `used` is called once, when the
        call has begun or will never do so by the claim's lock."""
        self._gate = gate
        self._delivery = delivery
        self._since = since
        self._used: Callable[[], None] | None = used
        self._revoked = False
        self.refused = ""
        """Why the last call of `begin` was not allowed to start; empty: nothing was refused."""

    async def begin(self, call: Callable[[], Awaitable[T]], *, repeat: bool = False) -> T:
        """See `channels.base.Permit`."""
        if not (repeat or self._revoked) and gate_clock() - self._since < FRESH_SECONDS:
            self.settle()
            return await call()
        running: list[asyncio.Task[T]] = []
        try:
            try:
                await self._ask(call, running)
            except TocsinError as error:
                raise self._refuse(f"{_UNKNOWN}: {error.message}") from error
            return await running[0]
        finally:
            for task in running:
                task.cancel()

    def settle(self) -> None:
        """The claim's lock need not be held for this call any more."""
        if self._used is not None:
            self._used()
            self._used = None

    def revoke(self) -> None:
        """The claim's lock is let go: a call that has not begun has to ask."""
        if self._used is not None:
            self._revoked = True
            self.settle()

    async def _ask(self, call: Callable[[], Awaitable[T]], running: list["asyncio.Task[T]"]) -> None:
        """Have the call begin, as a task in `running`, while the gate's lock is held."""
        delivery = self._delivery
        incident = delivery.job.incident.rpartition("/")[2]
        key = incident_key(delivery.org_id, UUID(incident)) if incident else None
        for _ in range(_ASKS):
            async with self._gate.late_passage(key) as passage:
                if not await notifications.may_start(
                    passage.tx, delivery.org_id, delivery.notification, delivery.attempt
                ):
                    raise self._refuse(_STOPPED)
                await passage.commit()
                if (key is None or key in passage.held) and gate_clock() - passage.since < PROOF_SECONDS:
                    self._since, self._revoked = passage.since, False
                    await _begin(call, running)
                    return
            # A cancel waits that is about other pages of this incident, or the database is slow.
            await wait_or_stop(asyncio.Event(), _PAUSE * random.random())
        raise self._refuse(_UNKNOWN)

    def _refuse(self, reason: str) -> NotStarted:
        self.refused = reason
        return NotStarted(reason)


async def _begin(call: Callable[[], Awaitable[T]], running: list["asyncio.Task[T]"]) -> None:
    """Returns when the task has taken its first step."""

    async def run() -> T:
        return await call()

    loop = asyncio.get_running_loop()
    running.append(loop.create_task(run()))
    begun = loop.create_future()
    loop.call_soon(begun.set_result, None)  # runs behind the task's first step
    await asyncio.shield(begun)

"""Calls that begin later than the claim of their attempt waited for: they pass the gate once more (`gate` has the proof)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final
from uuid import UUID

from tocsin_kit.batches import Batches

from tocsin_notify.channels.base import Delivery
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.gate import PROOF_SECONDS, Gate, gate_clock, incident_key

_MOST: Final = 50
"""Late calls in one passage: a cancel of one of them waits until all of them have begun."""
_TOGETHER: Final = 5
"""Late calls of one tenant that share a passage with those of other tenants."""
AT_ONCE: Final = 2
"""Passages at once; each needs a session of the gate."""


class Passed(Enum):
    """The result of a late call."""

    BEGUN = "begun"
    STOPPED = "stopped"
    AGAIN = "again"
    """A cancel is waiting that is about other pages of its incident, or the database is slow."""


@dataclass(slots=True, eq=False)
class LateCall:
    """A call that has not begun in time. `task` is set once it has begun. `cancelled`: the caller gave it up."""

    delivery: Delivery
    call: Callable[[], Awaitable[Any]]
    task: asyncio.Task[Any] | None = None
    begun: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Done when `task` is set."""
    since: float = 0.0
    """When the session of its passage was last known to hold its locks, by `gate_clock`."""
    cancelled: bool = False

    @property
    def key(self) -> int | None:
        """The advisory lock of its incident."""
        incident = self.delivery.job.incident.rpartition("/")[2]
        return incident_key(self.delivery.org_id, UUID(incident)) if incident else None


class LateCalls:
    """The late calls of one process.

    Many calls share a passage, for each passage costs several round trips, and a storm makes hundreds of calls late.
    Tenants alternate: the single call of one tenant does not wait for those of another tenant's storm.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._waiting: Batches[LateCall, Passed] = Batches(
            self._pass, most=_MOST, lane=lambda each: each.delivery.org_id, at_once=AT_ONCE, together=_TOGETHER
        )

    async def begin(self, call: LateCall) -> Passed:
        """Start it, as its `task`, while the gate's lock is held. Raises DATABASE_UNAVAILABLE, CONFLICT, OVERLOADED.

        A call that has begun does not wait for the end of its passage. A provider may answer sooner, and an HTTP client
        closes a connection on which an answer arrives while it is still writing.
        """
        passed = self._waiting.enqueue(call)
        try:
            await asyncio.wait((passed, call.begun), return_when=asyncio.FIRST_COMPLETED)
            return Passed.BEGUN if call.begun.done() else passed.result()
        finally:
            if not passed.cancel() and not passed.cancelled():
                passed.exception()  # read here, or asyncio would log it; it changes nothing any more

    async def _pass(self, calls: list[LateCall]) -> list[Passed]:
        keys = {id(each): each.key for each in calls}
        async with self._gate.passage(key for key in keys.values() if key is not None) as passage:
            able = await notifications.may_start(
                passage.tx,
                [(each.org_id, each.notification, each.attempt, each.answered) for each in (c.delivery for c in calls)],
            )
            await passage.commit()
            proven = gate_clock() - passage.since < PROOF_SECONDS
            answers = []
            for each in calls:
                key = keys[id(each)]
                if each.task is not None:
                    answers.append(Passed.BEGUN)  # by a passage whose end failed
                elif each.delivery.notification not in able or each.cancelled:
                    answers.append(Passed.STOPPED)
                elif proven and (key is None or key in passage.held):
                    answers.append(Passed.BEGUN)
                else:
                    answers.append(Passed.AGAIN)
            begin = [each for each, answer in zip(calls, answers, strict=True) if answer is Passed.BEGUN]
            await _begin([each for each in begin if each.task is None], passage.since)
        return answers


async def _begin(calls: Sequence[LateCall], since: float) -> None:
    """Returns when each task has taken its first step."""

    async def run(call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()

    loop = asyncio.get_running_loop()
    for each in calls:
        each.since = since
        each.task = loop.create_task(run(each.call))
        each.begun.set_result(None)
    begun = loop.create_future()
    loop.call_soon(begun.set_result, None)  # runs behind the tasks' first steps
    await asyncio.shield(begun)

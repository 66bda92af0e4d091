"""Collects timers that are due at the same moment, so that a thousand of them need a few transactions."""

import asyncio
import random
from enum import Enum, auto
from typing import Final
from uuid import UUID

from tocsin_kit.batches import Batches
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.fire_timers import Fired, fire_timers
from tocsin_escalation.domain.events import TimerFired

_log = get_logger(__name__)

MOST_PER_TRANSACTION: Final = 200
MOST_ALONE: Final = 2
"""Transactions that wait for the row of one incident. Each holds a connection of those that relays and sweeps use as well."""
MOST_AGAIN: Final = 10_000
"""Timers that are retried from memory. More are left to the sweep, as are those whose incident is held for longer."""
PAUSES: Final = (0.05, 0.1, 0.2, 0.4)
"""Seconds, plus or minus half, before a held timer is retried: turns are held for milliseconds."""


class _Answer(Enum):
    FIRED = auto()
    ROW_HELD = auto()
    TURN_HELD = auto()


class TimerConsumer:
    """A single timer never waits; timers that arrive while it is being committed are the next batch."""

    def __init__(self, db: Database, effects: Effects) -> None:
        self._db = db
        self._effects = effects
        self._batches: Batches[Fired, _Answer] = Batches(self._fire, most=MOST_PER_TRANSACTION)
        self._alone = 0
        self._again = 0

    async def fire(self, incident_id: UUID, event: TimerFired) -> None:
        """Returns once it is committed, or held by another transaction: then it is retried without its caller.

        A caller that waited would use a place of the worker, and timers of one policy whose turns are held would use all of them.
        Raises TocsinError while the database is away, and when it was OVERLOADED.
        """
        fired = (incident_id, event)
        answer = await self._batches.submit(fired)
        if answer is _Answer.ROW_HELD and self._alone < MOST_ALONE:
            # Its incident is locked by another transaction: this timer waits for the lock, and no other timer waits for it.
            self._alone += 1
            try:
                await fire_timers(self._db, self._effects, [fired], wait=True)
            finally:
                self._alone -= 1
        elif answer is not _Answer.FIRED:
            self._later(fired, 0)

    def _later(self, fired: Fired, failures: int) -> None:
        if failures == len(PAUSES) or self._again >= MOST_AGAIN:
            _log.info("held_timer_left_to_sweep", incident=str(fired[0]), failures=failures)
            return
        self._again += 1
        pause = PAUSES[failures] * random.uniform(0.5, 1.5)
        asyncio.get_running_loop().call_later(pause, self._try_again, fired, failures + 1)

    def _try_again(self, fired: Fired, failures: int) -> None:
        self._again -= 1

        def end(answer: "asyncio.Future[_Answer]") -> None:
            if answer.cancelled():
                return
            error = answer.exception()
            if error is not None:
                _log.info("held_timer_left_to_sweep", incident=str(fired[0]), failures=failures, error=repr(error))
            elif answer.result() is not _Answer.FIRED:
                self._later(fired, failures)

        try:
            self._batches.enqueue(fired).add_done_callback(end)
        except TocsinError as error:
            _log.info("held_timer_left_to_sweep", incident=str(fired[0]), failures=failures, error=error.message)

    async def _fire(self, timers: list[Fired]) -> list[_Answer]:
        left = await fire_timers(self._db, self._effects, timers)
        rows, turns = ({incident_id for incident_id, _ in held} for held in (left.rows, left.turns))
        return [
            _Answer.ROW_HELD if id in rows else _Answer.TURN_HELD if id in turns else _Answer.FIRED for id, _ in timers
        ]

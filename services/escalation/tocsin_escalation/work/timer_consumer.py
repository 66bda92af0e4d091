"""Gathers timers that are due at the same moment, so that a thousand of them are a few transactions and not a thousand."""

import asyncio
from uuid import UUID

from tocsin_kit.db.pool import Database

from tocsin_escalation.app.effects import Effects
from tocsin_escalation.app.fire_timers import fire_timers
from tocsin_escalation.domain.events import TimerFired

MOST_PER_TRANSACTION = 200


class TimerConsumer:
    """The next set is whatever arrived while the last one was being committed; a lone timer never waits."""

    def __init__(self, db: Database, effects: Effects) -> None:
        self._db = db
        self._effects = effects
        self._waiting: list[tuple[UUID, TimerFired, asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None
        self._alone_now: set[asyncio.Task[None]] = set()

    async def fire(self, incident_id: UUID, event: TimerFired) -> None:
        """Returns once it is committed; raises what stopped it. The broker bounds how many wait here."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((incident_id, event, done))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._drain())
        await done

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST_PER_TRANSACTION], self._waiting[MOST_PER_TRANSACTION:]
            timers = [(incident_id, event) for incident_id, event, _ in batch]
            try:
                held = {incident_id for incident_id, _ in await fire_timers(self._db, self._effects, timers)}
            except Exception as error:
                for _, _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            for incident_id, event, done in batch:
                if incident_id in held:
                    alone = asyncio.create_task(self._alone(incident_id, event, done))
                    self._alone_now.add(alone)
                    alone.add_done_callback(self._alone_now.discard)
                elif not done.done():
                    done.set_result(None)

    async def _alone(self, incident_id: UUID, event: TimerFired, done: "asyncio.Future[None]") -> None:
        """One whose incident somebody else holds: it waits for its turn, and nobody waits for it."""
        try:
            await fire_timers(self._db, self._effects, [(incident_id, event)], wait=True)
        except Exception as error:
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(None)

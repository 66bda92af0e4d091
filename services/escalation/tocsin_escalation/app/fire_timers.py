"""Fire due timers: as a set, and one by one when the set fails, so that one broken row cannot hold up the others."""

from collections.abc import Sequence
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.advance import Advanced, Step, advance
from tocsin_escalation.app.effects import Effects
from tocsin_escalation.domain.events import TimerFired
from tocsin_escalation.store import timers

log = get_logger(__name__)


async def fire_timers(
    db: Database, effects: Effects, fired: Sequence[tuple[UUID, TimerFired]], way: str = "redis"
) -> None:
    """Fire these timers. One that fails is kept for later with a growing pause; a stale one does nothing.

    `way` says who found them due, `redis` or `sweep`: the lateness of both is measured apart.
    """

    async def work(tx: Tx, some: Sequence[tuple[UUID, TimerFired]] = fired) -> None:
        answers = await advance(tx, [Step(incident_id, event) for incident_id, event in some], effects)
        for (incident_id, event), answer in zip(some, answers, strict=True):
            if isinstance(answer, Advanced):
                timer = answer.run.timer
                if way == "sweep" and timer is not None and timer.id == event.timer_id:
                    # Due, and nothing came of it: without a rest the sweep would find it again at once, for ever.
                    log.error("timer_without_effect", incident=str(incident_id), timer=str(timer.id))
                    await timers.postpone(tx, incident_id)
                for entry in answer.entries:
                    if entry.lateness_ms or entry.kind in ("level_paged", "exhausted"):
                        effects.metrics.timer_lateness.labels(way).observe(entry.lateness_ms / 1000)

    try:
        await db.run(None, work)
    except TocsinError:
        raise
    except Exception:
        if len(fired) == 1:
            await _postpone(db, effects, fired[0][0])
            return
        log.exception("timer_batch_failed", timers=len(fired))
        for one in fired:
            await fire_timers(db, effects, [one], way)


async def _postpone(db: Database, effects: Effects, incident_id: UUID) -> None:
    effects.metrics.timers_failed.inc()
    attempts = await db.run(None, lambda tx: timers.postpone(tx, incident_id))
    log.exception("timer_failed", incident=str(incident_id), attempts=attempts)


async def sweep_overdue(db: Database, effects: Effects, grace: float, limit: int) -> int:
    """Fire what is overdue straight from PostgreSQL, whether or not Redis knows of it; how many there were."""

    async with db.claim() as tx:
        due = await timers.overdue(tx, grace, limit)
    if due:
        await fire_timers(db, effects, [(t.incident_id, TimerFired(t.timer_id, t.generation)) for t in due], "sweep")
    return len(due)

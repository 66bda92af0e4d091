"""Fire due timers: as a set that waits for no lock, and in halves when it fails, so that no row can hold up the others."""

from collections.abc import Sequence
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db import queues
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_escalation.app import turning
from tocsin_escalation.app.advance import Advanced, Known, Step, advance
from tocsin_escalation.app.effects import Effects
from tocsin_escalation.domain.events import TimerFired
from tocsin_escalation.store import escalations, timers

log = get_logger(__name__)


Fired = tuple[UUID, TimerFired]


async def fire_timers(
    db: Database, effects: Effects, fired: Sequence[Fired], way: str = "redis", *, wait: bool = False
) -> list[Fired]:
    """Fire these timers. One that fails is kept for later with a growing pause; a stale one does nothing.

    Answers with those it left alone, because another transaction decides about their incident, or takes a turn of their policy,
    at this moment. A set never waits for that: a replica that stands still inside its transaction would hold up the timers of
    every tenant. With `wait` one does, and CONFLICT is raised when it takes too long.
    `way` says who found them due, `redis` or `sweep`: the lateness of both is measured apart.
    """

    begun = False

    async def work(tx: Tx) -> list[Fired]:
        nonlocal begun
        begun = False
        runs = await escalations.lock(tx, list({incident_id for incident_id, _ in fired}), wait=wait)
        begun = True
        steps = [Step(incident_id, event) for incident_id, event in fired if incident_id in runs]
        taking = await turning.lock_for(tx, turning.running_of(steps, runs), wait=wait)
        steps = [step for step in steps if step.incident_id not in taking.held]
        if steps:
            known = await Known.read(tx, runs, steps, ahead=taking.ahead, locked=taking.locked)
            await _take(tx, steps, effects, known, way)
        taken = {step.incident_id for step in steps}
        left = [(incident_id, event) for incident_id, event in fired if incident_id not in taken]
        held = await escalations.known(tx, [incident_id for incident_id, _ in left]) if left else set()
        return [(incident_id, event) for incident_id, event in left if incident_id in held]

    try:
        return await db.run(None, work)
    except Exception as error:
        # A database that is away is nobody's fault. One that ends a transaction which has begun may do so because of one of these:
        # deciding about it took too long. It would be the first of each batch again, and the others would wait behind it.
        if isinstance(error, TocsinError) and not (begun and error.reason == reasons.ERROR_REASON_DATABASE_UNAVAILABLE):
            raise
        if len(fired) == 1:
            await _postpone(db, effects, fired[0][0])
            return []
        log.exception("timer_batch_failed", timers=len(fired))
        half = len(fired) // 2
        return [
            held
            for part in (fired[:half], fired[half:])
            for held in await fire_timers(db, effects, part, way, wait=wait)
        ]


async def _take(tx: Tx, steps: Sequence[Step], effects: Effects, known: Known, way: str) -> None:
    for step, answer in zip(steps, await advance(tx, steps, effects, known), strict=True):
        if isinstance(answer, Advanced) and isinstance(step.event, TimerFired):
            timer = answer.run.timer
            if way == "sweep" and timer is not None and timer.id == step.event.timer_id:
                # Due, and nothing came of it: without a rest the sweep would find it again at once, for ever.
                log.error("timer_without_effect", incident=str(step.incident_id), timer=str(timer.id))
                await timers.postpone(tx, step.incident_id)
            for entry in answer.entries:
                if entry.lateness_ms or entry.kind in ("level_paged", "exhausted"):
                    effects.metrics.timer_lateness.labels(way).observe(entry.lateness_ms / 1000)


async def _postpone(db: Database, effects: Effects, incident_id: UUID) -> None:
    effects.metrics.timers_failed.inc()
    attempts = await db.run(None, lambda tx: timers.postpone(tx, incident_id))
    log.exception("timer_failed", incident=str(incident_id), attempts=attempts)


async def sweep_overdue(db: Database, effects: Effects, queue: str, grace: float, limit: int) -> int:
    """Fire what is overdue straight from PostgreSQL, whether or not Redis knows of it; how many that were.

    None while `queue` is paused. What another transaction holds is left to the next round.
    """

    async with db.claim() as tx:
        if await queues.is_paused(tx, queue):
            return 0
        due = await timers.overdue(tx, grace, limit)
    if not due:
        return 0
    fired = [(timer.incident_id, TimerFired(timer.timer_id, timer.generation)) for timer in due]
    return len(due) - len(await fire_timers(db, effects, fired, "sweep"))

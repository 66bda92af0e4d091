"""Fires due timers: as a set that waits for no lock, and in halves when it fails, so that no row can delay the others."""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.tasks.journal import Noted

from tocsin_escalation.app.bisection import TransactionLost, lock_then_run
from tocsin_escalation.app.incidents import journal_notes, round_robin, shared_transactions
from tocsin_escalation.app.incidents.advance import Advanced, advance
from tocsin_escalation.app.incidents.decision_data import DecisionData, Step
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.domain.events import TimerFired
from tocsin_escalation.store.incidents import escalations, timers

_log = get_logger(__name__)

_MOST_TRANSACTIONS: Final = 24
"""Transactions of one call. The rest is left to the next call."""

Fired = tuple[UUID, TimerFired]


@dataclass(frozen=True, slots=True)
class UnfiredTimers:
    """Timers that were not fired. `rows`: another transaction holds their incident. `turns`: it holds the turns of a policy on
    which they may page, or too many of them page many schedules.
    """

    rows: tuple[Fired, ...] = ()
    turns: tuple[Fired, ...] = ()

    def __len__(self) -> int:
        return len(self.rows) + len(self.turns)

    def __add__(self, other: "UnfiredTimers") -> "UnfiredTimers":
        return UnfiredTimers(self.rows + other.rows, self.turns + other.turns)


async def fire_timers(
    db: Database, effects: Effects, fired: Sequence[Fired], way: str = "redis", *, wait: bool = False
) -> UnfiredTimers:
    """Fire these timers. A timer that fails is postponed with a growing pause; a stale one does nothing.

    Returns the timers that were not fired. A set never waits for locks of another transaction: a replica that is stopped inside
    its transaction would delay the timers of every tenant. With `wait`, a single timer waits, and CONFLICT is raised when that
    takes too long. Timers of policies that name many schedules are fired after the others (`app.incidents.shared_transactions`).
    `way` says who found them due, `redis` or `sweep`: the lateness of each is measured separately.
    """
    left = UnfiredTimers()
    waiting = deque([tuple(fired)])
    for _ in range(_MOST_TRANSACTIONS):
        if not waiting:
            return left
        more, apart = await _fire(db, effects, waiting.popleft(), way, wait=wait)
        left += more
        if apart:
            waiting.append(apart)
    return left + UnfiredTimers(turns=tuple(each for batch in waiting for each in batch))


async def _fire(
    db: Database, effects: Effects, fired: Sequence[Fired], way: str, *, wait: bool
) -> tuple[UnfiredTimers, tuple[Fired, ...]]:
    """One transaction, or several when it fails. Includes those that are fired apart from the others."""
    try:
        return await _transaction(db, effects, fired, way, wait=wait)
    except Exception as error:
        # A database that is away is no fault of these timers. A database that ends a transaction after it began may do so because
        # the decision about one of these took too long. That timer would be the first of each batch again, and the others would
        # wait behind it.
        if isinstance(error, TocsinError) and not isinstance(error, TransactionLost):
            raise
        if len(fired) == 1:
            if isinstance(error, TransactionLost) and await _fired_with_less(db, effects, fired, way):
                return UnfiredTimers(), ()
            await _postpone(db, effects, fired[0][0], error)
            return UnfiredTimers(), ()
        _log.exception("timer_batch_failed", timers=len(fired))
    half = len(fired) // 2
    left, apart = UnfiredTimers(), tuple[Fired, ...]()
    for part in (fired[:half], fired[half:]):
        more, heavy = await _fire(db, effects, part, way, wait=wait)
        left, apart = left + more, apart + heavy
    return left, apart


async def _fired_with_less(db: Database, effects: Effects, fired: Sequence[Fired], way: str) -> bool:
    """Whether a timer that lost the database was fired after all: unchanged, or else without the schedules of its policy.

    Schedules cost more than anything else of a timer. Its level is then skipped, with the reason, unless it names users and
    teams.
    """
    for most_schedules in (shared_transactions.MOST_LOOKED_AT, 0):
        try:
            await _transaction(db, effects, fired, way, wait=True, most_schedules=most_schedules)
        except TocsinError as error:
            if not isinstance(error, TransactionLost) and error.reason == reasons.ERROR_REASON_DATABASE_UNAVAILABLE:
                raise
            _log.exception("timer_lost", incident=str(fired[0][0]), schedules_looked_at=most_schedules)
        else:
            return True
    return False


async def _transaction(
    db: Database,
    effects: Effects,
    fired: Sequence[Fired],
    way: str,
    *,
    wait: bool,
    most_schedules: int = shared_transactions.MOST_LOOKED_AT,
) -> tuple[UnfiredTimers, tuple[Fired, ...]]:
    async def work(tx: Tx, runs: dict[UUID, Escalation]) -> tuple[UnfiredTimers, tuple[Fired, ...]]:
        steps = [Step(incident_id, event) for incident_id, event in fired if incident_id in runs]
        taking = await round_robin.lock_for(tx, round_robin.running_of(steps, runs), wait=wait)
        steps = [step for step in steps if step.incident_id not in taking.held | taking.apart]
        if steps:
            known = await DecisionData.read(tx, runs, steps, taking=taking, most_schedules=most_schedules)
            await _take(tx, steps, effects, known, way)
        absent = [incident_id for incident_id, _ in fired if incident_id not in runs]
        held = await escalations.known(tx, absent) if absent else set()
        return UnfiredTimers(_of(fired, held), _of(fired, taking.held)), _of(fired, taking.apart)

    incidents = list({incident_id for incident_id, _ in fired})
    return await lock_then_run(db, None, lambda tx: escalations.lock(tx, incidents, wait=wait), work)


def _of(fired: Sequence[Fired], incidents: Collection[UUID]) -> tuple[Fired, ...]:
    return tuple(each for each in fired if each[0] in incidents)


async def _take(tx: Tx, steps: Sequence[Step], effects: Effects, known: DecisionData, way: str) -> None:
    answers = await advance(tx, steps, effects, known)
    notes: list[Noted] = []
    tx.after_commit(lambda: effects.note(notes))
    for step, answer in zip(steps, answers, strict=True):
        if isinstance(answer, Advanced) and isinstance(step.event, TimerFired):
            timer = answer.run.timer
            if answer.before is not None:
                notes += journal_notes.fired(answer.before, answer.run, step.event.timer_id, answer.update_time)
            if way == "sweep" and timer is not None and timer.id == step.event.timer_id:
                # It was due and had no effect: without a pause the sweep would find it again at once, for ever.
                _log.error("timer_without_effect", incident=str(step.incident_id), timer=str(timer.id))
                await timers.postpone(tx, step.incident_id)
            for entry in answer.entries:
                if entry.lateness_ms or entry.kind in ("level_paged", "exhausted"):
                    effects.metrics.timer_lateness.labels(way).observe(entry.lateness_ms / 1000)


async def _postpone(db: Database, effects: Effects, incident_id: UUID, error: Exception) -> None:
    effects.metrics.timers_failed.inc()
    retries = effects.retries

    async def work(tx: Tx) -> tuple[int, datetime]:
        return await timers.postpone(tx, incident_id, retries.backoff, retries.most_backoff), await tx.now()

    attempts, now = await db.run(None, work)
    effects.note([journal_notes.failed(incident_id, now, attempts, f"{type(error).__name__}: {error}")])
    _log.exception("timer_failed", incident=str(incident_id), attempts=attempts)
    if attempts == retries.attempts:
        effects.metrics.timers_keep_failing.inc()
        _log.error(
            "timer_keeps_failing",
            incident=str(incident_id),
            attempts=attempts,
            meaning="its incident pages no further user until the fault is corrected; it is retried",
        )


async def sweep_overdue(db: Database, effects: Effects, queue: str, grace: float, limit: int) -> int:
    """Fire overdue timers from PostgreSQL, whether or not Redis has them; returns how many.

    None while `queue` is paused. Timers that another transaction holds are left to the next round.
    """

    due: list[timers.LiveTimer] = []
    for fair in (False, True):
        async with db.autocommit() as tx:
            due = await timers.overdue(tx, grace, limit, queue, fair=fair)
        if len(due) < limit:
            break
    if not due:
        return 0
    fired = [(timer.incident_id, TimerFired(timer.timer_id, timer.generation)) for timer in due]
    return len(due) - len(await fire_timers(db, effects, fired, "sweep"))

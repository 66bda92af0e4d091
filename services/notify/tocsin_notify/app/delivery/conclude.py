"""Writes the outcomes of attempts in sets (tx B): sent, to be tried again, or given up."""

import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin.escalation.v1.internal_service_pb2 import PageOutcome
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.tasks.journal import NO_NOTES, Notes
from tocsin_kit.time_slices import CountSlice, TimeSlice

from tocsin_notify.app.delivery import page_outcomes
from tocsin_notify.app.delivery.calls import Finished
from tocsin_notify.app.delivery.circuits import Circuits
from tocsin_notify.app.delivery.failures import Failed, Failures
from tocsin_notify.app.delivery.go_around import GoAround
from tocsin_notify.app.delivery.hints import Hint, Hints
from tocsin_notify.app.delivery.journal_notes import concluded
from tocsin_notify.app.delivery.served_again import Call, ServedAgain
from tocsin_notify.domain.attempt import (
    Done,
    GiveUp,
    Outcome,
    Permanent,
    Retryable,
    RetryIn,
    RetryPolicy,
    Sent,
    judge,
    span,
)
from tocsin_notify.domain.circuit import says_it_fails
from tocsin_notify.domain.failover import cannot_wait
from tocsin_notify.domain.page import PAGES, WAKING, DeathReason, Kind, State
from tocsin_notify.domain.storable import storable
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import failures, notifications
from tocsin_notify.store.delivery.notifications import Conclusion
from tocsin_notify.store.delivery.rows import Concluded
from tocsin_notify.store.pages import bundles, pages

_log = get_logger(__name__)

_DETAIL_LIMIT: Final = 1024
_COUNTER_SHARDS: Final = 64


Gone = Callable[[str, UUID, datetime, str], Awaitable[None]]
"""Called with a tenant, a contact method whose address does not exist, the time of the attempt that showed it, and the
reason."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What an attempt that failed has for consequences."""

    failures: Failures
    circuits: Circuits
    go_around: GoAround
    gone: Gone


class Conclude:
    """Counters are kept in one row per process, chosen once, so that replicas do not wait for each other's commits."""

    def __init__(
        self,
        db: Database,
        hints: Hints,
        metrics: NotifyMetrics,
        policy: RetryPolicy,
        aftermath: Aftermath,
        *,
        notes: Notes = NO_NOTES,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._notes = notes
        self._db = db
        self._hints = hints
        self._metrics = metrics
        self._failures = aftermath.failures
        self._policy = policy
        self._circuits = aftermath.circuits
        self._go_around = aftermath.go_around
        self._gone = aftermath.gone
        self._chance = chance
        self._again = ServedAgain()
        self._shard = random.randrange(_COUNTER_SHARDS)

    async def __call__(self, finished: Sequence[Finished]) -> list[None]:
        """Write the outcomes. Raises DATABASE_UNAVAILABLE; repeating is safe: an attempt is concluded once."""
        for each in finished:
            # Done before the attempt is concluded: if the process dies in between, the next attempt shows it again.
            if isinstance(each.outcome, Permanent) and each.outcome.gone:
                delivery = each.start.delivery
                await self._gone(delivery.org_id, each.start.contact_method, delivery.start_time, each.outcome.reason)
        conclusions = list[Conclusion]()
        time_slice = CountSlice()
        for each in finished:
            await time_slice.yield_if_over()
            conclusions.append(self._conclusion(each))
        outcomes = {each.start.delivery.notification: each.outcome for each in finished}
        providers = {each.start.delivery.notification: each.start.provider for each in finished}
        if all(conclusion.verdict == "sent" for conclusion in conclusions) and not any(map(_is_bundle, finished)):
            # Nothing follows from these, so one statement is the whole transaction.
            async with self._db.autocommit() as tx:
                rows = await notifications.conclude(tx, conclusions, shard=self._shard)
            await self._wake(finished, ())
            await self._tell(rows, finished, {row.id: row.state for row in rows})
            return [None] * len(finished)
        async with self._db.system() as tx:
            rows = await notifications.conclude(tx, conclusions, shard=self._shard)
            failed = [_failed(row, outcomes[row.id]) for row in rows if self._moves_on(row, outcomes[row.id])]
            waiting = [row for row in rows if row.state == "pending"]
            behind = [row for row in waiting if Kind(row.type) in WAKING and self._circuits.is_open(providers[row.id])]
            # All pages at once, in one order: two transactions that each hold some pages and wait for the other's would
            # deadlock.
            held = await pages.lock(tx, {(row.org_id, row.page_id) for row in (*failed, *behind)})
            followed = await self._failures.follow(tx, failed, held)
            waiting = [row for row in waiting if row.id not in followed.dead]
            behind = [row for row in behind if row.id not in followed.dead]
            await page_outcomes.append_sent(tx, await self._bundled(tx, rows, finished))
            detours = await self._go_around.take(tx, {row.id: (row, providers[row.id]) for row in behind}, held)
        self._go_around.hint(detours)
        waiting = [row for row in waiting if row.id not in detours.ids]
        # A circuit that opened during this transaction looked for waiting notifications before these were visible.
        self._circuits.look_again(
            providers[row.id].channel
            for row in waiting
            if row not in behind and Kind(row.type) in WAKING and self._circuits.is_open(providers[row.id])
        )
        self._hints.arm([Hint(row.id, row.delay, row.priority) for row in waiting])
        self._failures.hint(followed)
        # A slow retry may fail because of its receiver alone, so the phone must not ring more often for it.
        slow = {
            hint.id for hint in followed.later if hint.id in providers and self._circuits.is_open(providers[hint.id])
        }
        await self._wake(finished, {row.id for row in waiting} | slow)
        states = {row.id: "dead" if row.id in followed.dead else row.state for row in rows}
        # Of those that are retried slowly it was logged when that began.
        await self._tell(rows, finished, states, but_log={hint.id for hint in followed.later})
        return [None] * len(finished)

    async def _tell(
        self,
        rows: Sequence[Concluded],
        finished: Sequence[Finished],
        states: Mapping[UUID, str],
        *,
        but_log: Collection[UUID] = (),
    ) -> None:
        """The journal, the metrics and the log, after the commit."""
        ended = {each.start.delivery.notification: each for each in finished}
        time_slice = CountSlice()
        for row in rows:
            await time_slice.yield_if_over()
            self._notes.note(concluded(row, states[row.id], ended[row.id]))
            if row.id not in but_log:
                self._note(row, states[row.id])

    async def _wake(self, finished: Sequence[Finished], waiting: Collection[UUID]) -> None:
        """Notifications that wait for a provider that serves again are tried at once. One whose wait the provider asked
        for (Retry-After) keeps waiting."""
        calls = [(each, _call_of(each)) for each in finished]
        self._again.failed(
            call
            for each, call in calls
            if call.notification in waiting
            and says_it_fails(each.outcome, self._circuits.policy)
            and not (isinstance(each.outcome, Retryable) and each.outcome.after)
        )
        woken = self._again.served(call for each, call in calls if not isinstance(each.outcome, Retryable))
        if not woken:
            return
        try:
            await self._db.run(None, lambda tx: failures.pull_forward(tx, woken))
        except TocsinError as error:
            _log.info("not_woken", notifications=len(woken), error=error.message)  # tried when their wait is over
            return
        self._hints.now([id for _, id in woken])
        _log.info("provider_serves_again", woken=len(woken))

    async def _bundled(self, tx: Tx, rows: Sequence[Concluded], finished: Sequence[Finished]) -> list[PageOutcome]:
        """What escalation is told of the pages of bundles that were sent."""
        sent = {row.id: row for row in rows if row.type == Kind.BUNDLE and row.state == State.SENT}
        if not sent:
            return []
        starts = {each.start.delivery.notification: each.start for each in finished}
        held = await bundles.members(tx, {(row.org_id, row.page_id) for row in sent.values()})
        outcomes, time_slice = list[PageOutcome](), TimeSlice()
        for id, row in sent.items():
            channel, tries = starts[id].delivery.target.channel, starts[id].tries
            outcomes += page_outcomes.sent_together(row.org_id, held[row.page_id], id, channel, tries)
            await time_slice.yield_if_over()
        return outcomes

    def _conclusion(self, finished: Finished) -> Conclusion:
        delivery = finished.start.delivery
        match finished.outcome:
            case Sent(provider_id=provider_id):
                outcome, detail = "sent", finished.faults
            case Retryable(reason=detail):
                outcome, provider_id = "retryable", ""
            case Permanent(reason=detail):
                outcome, provider_id = "permanent", ""
        report = None
        match judge(finished.outcome, finished.start.tries, self._policy, self._chance()):
            case Done():
                verdict, delay = "sent", 0.0
                report = _report(finished)
            case RetryIn(seconds=delay):
                verdict = "retry"
            case GiveUp():
                verdict, delay = "dead", 0.0
        return Conclusion(
            delivery.notification,
            delivery.attempt,
            outcome,
            _kept(detail),
            _kept(provider_id),
            verdict,
            delay,
            delivery.org_id,
            report,
        )

    def _moves_on(self, row: Concluded, outcome: Outcome) -> bool:
        """Whether its page is to go to another method now, if there is one."""
        waits = row.state == "pending"
        return row.state == "dead" or (waits and cannot_wait(Kind(row.type), outcome, self._policy))

    def _note(self, row: Concluded, state: str) -> None:
        fields = {
            "org_id": row.org_id,
            "notification": str(row.id),
            "page": str(row.page_id),
            "user": row.user_id,
        }
        if state == "sent":
            late = (row.now - row.planned_time) / timedelta(seconds=1) if row.planned_time else None
            if late is not None and row.type in PAGES:
                self._metrics.lateness.observe(max(0.0, late))
            _log.info("notification_sent", lateness=late, **fields)
        elif state == "pending":
            _log.warning("attempt_failed", retry_in=round(row.delay, 3), detail=row.detail, **fields)
        else:
            _log.warning("notification_ended", state=state, detail=row.detail, **fields)


def _call_of(finished: Finished) -> Call:
    """The part of the call that is remembered."""
    start = finished.start
    return Call(start.provider, start.delivery.org_id, start.delivery.notification, finished.began)


def _is_bundle(finished: Finished) -> bool:
    return finished.start.delivery.kind is Kind.BUNDLE


def _report(finished: Finished) -> bytes | None:
    delivery = finished.start.delivery
    if delivery.kind not in PAGES:
        return None
    outcome = page_outcomes.sent(
        delivery.job, delivery.notification, delivery.target.channel, attempts=finished.start.tries
    )
    return outcome.SerializeToString()


def _failed(row: Concluded, outcome: Outcome) -> Failed:
    reason = DeathReason.PERMANENT_FAILURE if isinstance(outcome, Permanent) else DeathReason.ATTEMPTS_EXHAUSTED
    after = outcome.after if isinstance(outcome, Retryable) else None
    waits = row.state == "pending"
    detail = f"its provider asks to wait {span(after)}: {row.detail}" if waits and after else row.detail
    return Failed.of(row, reason, _kept(detail), after, waits=waits)


def _kept(text: str) -> str:
    """The contract promises at most 1024 characters."""
    return storable(text)[:_DETAIL_LIMIT]

"""Accept pages: store them, plan them, and start the calls that are due at once, in one transaction."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin.escalation.v1.internal_service_pb2 import PageOutcome
from tocsin_kit.db.pool import OneRoundTrip, Tx
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger
from tocsin_kit.tasks.journal import NO_NOTES, Notes

from tocsin_notify.app.delivery import page_outcomes
from tocsin_notify.app.delivery.first_calls import FirstCalls, TransactionCalls
from tocsin_notify.app.delivery.hints import Hint, Hints
from tocsin_notify.app.delivery.journal_notes import added
from tocsin_notify.app.pages.placing import Bundled, Placing, may_wait, why_not_sent
from tocsin_notify.app.pages.recently_stored import RecentlyStored
from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.domain.page import ONE_WAY, PAGES, DeathReason, Kind, State, is_late
from tocsin_notify.domain.planning import Planned, after_quiet_hours, is_kept_quiet, plan
from tocsin_notify.domain.reach import why_unreachable
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import dead_letters, failures
from tocsin_notify.store.delivery.dead_letters import NewDeadLetter
from tocsin_notify.store.delivery.gate import Gate, incident_key
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.pages import intake
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.store.pages.people import Person

_log = get_logger(__name__)


class Submit:
    """The only entry for pages: jobs from the stream, jobs by RPC, and this service's own (tests, verification codes).

    A step without a delay is stored as being sent, with its attempt, and its call starts when the transaction has
    committed. No second transaction delays the first call of a page.
    """

    def __init__(
        self,
        gate: Gate,
        first_calls: FirstCalls,
        hints: Hints,
        metrics: NotifyMetrics,
        *,
        nudge: Callable[[], None],
        bundling: BundlePolicy,
        notes: Notes = NO_NOTES,
    ) -> None:
        """`nudge`: tells the relay that the outbox has an outcome for escalation."""
        self._gate = gate
        self._first_calls = first_calls
        self._hints = hints
        self._metrics = metrics
        self._nudge = nudge
        self._placing = Placing(bundling)
        self._notes = notes
        self.lately: Final = RecentlyStored()
        self.stopping = False
        """If set, pages are stored and other replicas send them."""

    async def __call__(self, given: Sequence[NewPage], *, patience: float = 0.0) -> list[bool]:
        """Store these; returns for each whether it was new. Committed when it returns; repeating changes nothing.

        Raises CONFLICT when another session holds what these need for longer than `patience` (`store.delivery.gate`).
        """
        unique = {page.id: page for page in given}
        calls = self._first_calls.of_transaction()
        round_ = _Round(calls, self._metrics)
        try:
            async with self._gate.passage(
                (incident_key(page.org_id, page.incident) for page in unique.values() if page.incident is not None),
                patience=patience,
            ) as passage:
                stored, known = await intake.take(passage.tx, list(unique.values()))
                fresh = [page for id, page in unique.items() if id in stored.fences]
                if fresh and stored.now is not None:
                    round_.begin(passage.held, stored.now, direct=not (stored.paused or self.stopping))
                    planned = {page.id: round_.steps(page, known[page.org_id, page.user_id]) for page in fresh}
                    able = [
                        page for page in fresh if stored.fences[page.id] is None and planned[page.id] and may_wait(page)
                    ]
                    # The paces of people, the bundles and the notifications: one round trip.
                    round_trip = OneRoundTrip(passage.tx)
                    bundled = await self._placing(round_trip, able, known, stored.now)
                    for page in fresh:
                        person = known[page.org_id, page.user_id]
                        stopped = stored.fences[page.id] or why_not_sent(page, person, stored.now)
                        round_.plan(page, person, planned[page.id], stopped, bundled.get(page.id))
                    if round_.rows:
                        await round_.insert(round_trip)
                        await round_.supersede(passage.tx)
                    await round_trip.send()
                    if round_.letters:
                        await dead_letters.insert(passage.tx, round_.letters)
                    await page_outcomes.append(passage.tx, round_.outcomes)
                starts = calls.take()
                try:
                    await passage.commit()
                except BaseException:
                    self._first_calls.calls.abandon(starts)
                    raise
                self.lately.add((f"pages/{id}" for id in unique), passage.session_ended)
                await self._first_calls.calls.start(starts, passage.since)
        finally:
            calls.release()
        round_.hint(self._hints)
        if stored.now is not None:
            for row in round_.rows:
                self._notes.note(added(row, stored.now))
        if round_.outcomes:
            self._nudge()
        first_seen: set[UUID] = set(stored.fences)
        answers = []
        for page in given:
            answers.append(page.id in first_seen)
            first_seen.discard(page.id)
        self._metrics.pages.labels("new").inc(sum(answers))
        self._metrics.pages.labels("known").inc(len(answers) - sum(answers))
        return answers


class _Round:
    """One transaction's worth of planning."""

    def __init__(self, calls: TransactionCalls, metrics: NotifyMetrics) -> None:
        self._calls = calls
        self._metrics = metrics
        self._again: set[UUID] = set()
        self._superseded: list[UUID] = []
        self.rows: list[NewNotification] = []
        self.letters: list[NewDeadLetter] = []
        self.outcomes: list[PageOutcome] = []

    def begin(self, held: frozenset[int], now: datetime, *, direct: bool) -> None:
        self._held = held
        self._now = now
        self._direct = direct

    def steps(self, page: NewPage, person: Person) -> list[Planned]:
        """The steps that the person's rules and quiet hours give the page."""
        planned = plan(page.page, person.methods, person.rules)
        return after_quiet_hours(page.page, planned, person.settings, self._now)

    def plan(
        self, page: NewPage, person: Person, planned: Sequence[Planned], fence: str | None, bundled: Bundled | None
    ) -> None:
        """`fence`: why it is not sent. `bundled`: the bundle in which it waits."""
        if not planned and fence is None and not is_kept_quiet(page.page, person.methods):
            self._bury(page, person)
        if page.page.kind is Kind.ESCALATION:
            self._again.add(page.id)
        for step in planned:
            self.rows.append(self._row(page, person, step, fence, bundled))

    async def insert(self, tx: Tx) -> None:
        """Rows that another replica made before are dropped."""
        made = await self._calls.insert(tx, self.rows)
        self.rows = [row for row in self.rows if row.id in made]

    async def supersede(self, tx: Tx) -> None:
        """A page that is being retried is cancelled once a later page of its incident goes through the same method:
        when the provider is back, one of them is enough. A later page with a delay does this only when its delay is
        over. The first page of an incident has no earlier one, so it skips this query.
        """
        live = (State.PENDING, State.SENDING)
        newer = [row for row in self.rows if row.page_id in self._again and row.state in live and row.delay <= 0]
        if newer:
            self._superseded = await failures.supersede(tx, newer)

    def hint(self, hints: Hints) -> None:
        """After the commit: hints for the notifications that wait for their time or for a slot."""
        waiting = [row for row in self.rows if row.state is State.PENDING]
        hints.arm([Hint(row.id, row.delay, row.priority) for row in waiting if row.delay > 0])
        hints.now([row.id for row in waiting if row.delay <= 0])
        hints.disarm(self._superseded)
        self._metrics.cancelled.inc(len(self._superseded))

    def _row(
        self, page: NewPage, person: Person, step: Planned, fence: str | None, bundled: Bundled | None
    ) -> NewNotification:
        id = new_id()
        state, reason = State.PENDING, step.reason
        if fence is not None:
            state, reason = State.CANCELLED, fence
        elif bundled is not None:
            state, reason = State.BUNDLED, bundled.reason
        elif step.delay <= 0 and self._may_start(page):
            method, target, language = step.method.id, person.targets[step.method.id], person.settings.language
            reason = ""
            if self._calls.add(id, page, method, target, now=self._now, language=language):
                state = State.SENDING
        return NewNotification(
            id=id,
            org_id=page.org_id,
            page_id=page.id,
            user_id=page.user_id,
            incident=page.incident,
            generation=page.generation,
            priority=page.priority,
            contact_method=step.method.id,
            channel=step.method.channel,
            step=step.step,
            state=state,
            reason=reason,
            delay=step.delay,
            outlasts=page.page.outlasts,
        )

    def _may_start(self, page: NewPage) -> bool:
        """A late page waits until escalation was asked about its incident (`app.delivery.still_wanted`)."""
        if not self._direct or is_late(page.page.kind, page.planned_time, self._now):
            return False
        return page.incident is None or incident_key(page.org_id, page.incident) in self._held

    def _bury(self, page: NewPage, person: Person) -> None:
        if page.page.kind in PAGES:
            reason = why_unreachable(person.methods, page.page.channel_override)
            self.outcomes.append(page_outcomes.unreachable(page.job, reason))
        detail = f"{page.user_id} has no verified and enabled contact method"
        if page.page.channel_override is not None and page.page.kind not in ONE_WAY:
            detail += f" of channel {page.page.channel_override}"
        _log.error("nobody_to_notify", org_id=page.org_id, page=str(page.id), user=page.user_id, detail=detail)
        self._metrics.dead_letters.labels(DeathReason.NO_CONTACT_METHOD).inc()
        self.letters.append(
            NewDeadLetter(
                id=new_id(),
                org_id=page.org_id,
                notification_id=None,
                page_id=page.id,
                user_id=page.user_id,
                incident=page.incident,
                reason=DeathReason.NO_CONTACT_METHOD,
                detail=detail,
                job=page.job.SerializeToString(),
            )
        )

"""Notifications that failed for good or too often: their page goes to the user's next method, is retried slowly, or
ends.

A page does not end because a provider is away. Without another method its notification stays pending. It is retried
slowly, in a lane behind all new ones, until a person answers or it is too old. One error line says when it begins.

Every notification that ends DEAD has exactly one dead letter, as the contract says; its detail names the method that
the page went to, or says that there was none. If there was none, it is also an error line and a metric value of its
own.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.escalation.v1.internal_service_pb2 import PageOutcome
from tocsin_kit.db.pool import Tx
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery import page_outcomes
from tocsin_notify.app.delivery.hints import Hint, Hints
from tocsin_notify.app.pages.stored_jobs import job_of
from tocsin_notify.domain.attempt import RetryPolicy, keep_trying
from tocsin_notify.domain.failover import Add, PullForward, Sibling, fail_over, reaches_nobody
from tocsin_notify.domain.page import (
    PAGES,
    SLOW,
    WAKING,
    Channel,
    DeathReason,
    Kind,
    Method,
    Page,
    State,
    is_slow,
    priority_of,
)
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import dead_letters, failures, notifications
from tocsin_notify.store.delivery.dead_letters import NewDeadLetter
from tocsin_notify.store.delivery.failures import Begun, Kept
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.delivery.rows import NotificationHead
from tocsin_notify.store.pages import bundles, pages, people

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failed(NotificationHead):
    """A notification to give up. `after`: the provider's Retry-After, seconds.

    `waits`: it is to be tried again, and is given up only if another method takes its page now.
    """

    reason: DeathReason
    detail: str
    after: float | None = None
    waits: bool = False

    @classmethod
    def of(
        cls,
        head: NotificationHead,
        reason: DeathReason,
        detail: str,
        after: float | None = None,
        *,
        waits: bool = False,
    ) -> "Failed":
        """From any row of a notification."""
        columns = {field.name: getattr(head, field.name) for field in fields(NotificationHead)}
        return cls(**columns, reason=reason, detail=detail, after=after, waits=waits)


@dataclass(frozen=True, slots=True)
class Followed:
    """What is delivered instead: `now`, notifications that are due; `later`, those that are retried.

    `dead`: those that were given up. `told`: some of these changes go to escalation. Call `Failures.hint` after the
    commit.
    """

    now: Sequence[UUID] = ()
    later: Sequence[Hint] = ()
    dead: frozenset[UUID] = frozenset()
    told: bool = False


@dataclass(slots=True)
class _Rows:
    """The rows that one call writes."""

    pulled: list[tuple[str, UUID]] = field(default_factory=list)
    added: list[NewNotification] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    letters: list[NewDeadLetter] = field(default_factory=list)
    reasons: dict[tuple[str, UUID], str] = field(default_factory=dict)
    outcomes: list[PageOutcome] = field(default_factory=list)
    bundles: dict[tuple[str, UUID], tuple[str, bool]] = field(default_factory=dict)
    """Bundles that have failed: why, and whether a provider had accepted their message."""
    waiting: dict[tuple[str, UUID], tuple[UUID, str, Channel | None]] = field(default_factory=dict)
    """Bundles that are retried: by which notification, why, and through which channel."""
    failed_pages: set[UUID] = field(default_factory=set)
    """Reported once per page, even when two of its notifications ended in this transaction."""


class Failures:
    """Decides and writes, in the transaction that found the failures."""

    def __init__(
        self,
        policy: RetryPolicy,
        metrics: NotifyMetrics,
        hints: Hints,
        nudge: Callable[[], None],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`nudge`: tells the relay that the outbox has an outcome for escalation."""
        self.nudge = nudge
        self._policy = policy
        self._metrics = metrics
        self._hints = hints
        self._chance = chance

    async def follow(self, tx: Tx, failed: Sequence[Failed], held: pages.Held | None = None) -> Followed:
        """Fail over, retry, or end these and keep dead letters; returns the argument for `hint` after the commit.

        Two replicas that give up notifications of one page run one after the other, so each sees the method that the
        other chose. `held`: their pages, if the caller has locked them together with other pages.
        """
        if not failed:
            return Followed()
        owned = {(each.org_id, each.page_id) for each in failed}
        locked = await pages.lock(tx, owned) if held is None else held
        known = await people.read(tx, {(each.org_id, each.user_id) for each in failed})
        siblings = await failures.siblings(tx, owned)
        begun = await failures.begun(tx, [(each.org_id, each.id) for each in failed])
        rows = _Rows()
        for each in failed:
            page, job = locked[each.page_id]
            family = [replace(s, state=State.DEAD) if s.id == each.id else s for s in siblings[each.page_id]]
            siblings[each.page_id] = family
            self._follow(each, page, job, family, known[each.org_id, each.user_id].methods, begun[each.id], rows)
        if rows.kept:
            await failures.keep(tx, rows.kept)
        if rows.letters:
            await failures.kill(tx, rows.reasons)
            await dead_letters.insert(tx, rows.letters)
        if rows.pulled:
            await failures.pull_forward(tx, rows.pulled)
        if rows.added:
            await notifications.insert(tx, rows.added)
        await _tell(tx, rows)
        return Followed(
            now=[*(id for _, id in rows.pulled), *(row.id for row in rows.added)],
            later=[Hint(kept.id, kept.delay, kept.priority) for kept in rows.kept],
            dead=frozenset(id for _, id in rows.reasons),
            told=bool(rows.outcomes),
        )

    def hint(self, followed: Followed) -> None:
        """Nudge after the commit."""
        self._hints.arm(followed.later)
        self._hints.now(followed.now)
        if followed.told:
            self.nudge()

    async def tell_hopeless(self, tx: Tx, waiting: Sequence[NotificationHead], why: str) -> None:
        """Their contact methods cannot be used any more. Escalation is told which of their pages can now reach no one.

        Without it a level would wait for a later step that cannot be sent. `why` is part of the outcome.
        """
        if not waiting:
            return
        owned = {(each.org_id, each.page_id) for each in waiting}
        locked = await pages.lock(tx, owned)
        known = await people.read(tx, {(each.org_id, each.user_id) for each in waiting})
        siblings = await failures.siblings(tx, owned)
        rows = _Rows()
        for each in waiting:
            (page, job), methods = locked[each.page_id], known[each.org_id, each.user_id].methods
            family = siblings[each.page_id]
            hope = not reaches_nobody(family, methods) or fail_over(page, each.contact_method, family, methods)
            if page.kind in WAKING and not hope:
                self._end_page(each, f"{why}; no other contact method is left", page, job, family, methods, rows)
        await _tell(tx, rows)
        if rows.outcomes:
            tx.after_commit(self.nudge)

    def _end_page(
        self,
        head: NotificationHead,
        detail: str,
        page: Page,
        job: bytes,
        family: Sequence[Sibling],
        methods: Sequence[Method],
        rows: _Rows,
    ) -> None:
        if head.page_id in rows.failed_pages:
            return
        rows.failed_pages.add(head.page_id)
        undelivered = any(sibling.taken for sibling in family)
        if page.kind is Kind.BUNDLE:
            rows.bundles[head.org_id, head.page_id] = detail, undelivered
            return
        channel = next((method.channel for method in methods if method.id == head.contact_method), None)
        reason = f"{channel} failed for good: {detail}" if channel else detail
        read = job_of(head, page.kind, job)
        rows.outcomes.append(page_outcomes.failed(read, reason, channel, undelivered=undelivered))

    def _follow(
        self,
        failed: Failed,
        page: Page,
        job: bytes,
        family: list[Sibling],
        methods: Sequence[Method],
        begun: Begun,
        rows: _Rows,
    ) -> None:
        match fail_over(page, failed.contact_method, family, methods):
            case PullForward(notification=next_one, method=method):
                rows.pulled.append((failed.org_id, next_one))
                outcome = f"; the page went to contactMethods/{method}"
            case Add(method=next_method, step=step):
                row = replacement(failed, page, next_method, step)
                rows.added.append(row)
                family.append(Sibling(row.id, row.contact_method, State.SENDING))
                outcome = f"; the page went to contactMethods/{next_method.id}"
            case None if failed.waits:
                if not any(each.state in (State.SENDING, State.SENT) for each in family):
                    _delay(failed, page, job, failed.detail, methods, rows)
                family[:] = still_tried(family, failed.id)
                return
            case None:
                wait = keep_trying(page.kind, failed.reason, begun.age, self._policy, self._chance(), failed.after)
                if wait is not None:
                    # A notification that went around its provider becomes slow before its attempts are used up.
                    first = not is_slow(failed.priority) or begun.tries == self._policy.attempts
                    kept = self._kept(failed, page, begun.time, wait.seconds, first=first)
                    rows.kept.append(kept)
                    family[:] = still_tried(family, failed.id)
                    if first:
                        _delay(failed, page, job, kept.reason, methods, rows)
                    return
                outcome = "; no other contact method is left"
                if page.kind in WAKING and failed.reason is DeathReason.ATTEMPTS_EXHAUSTED:
                    outcome += f", and it was tried for {timedelta(seconds=round(begun.age))}"
                if page.kind in WAKING and reaches_nobody(family, methods):
                    self._end_page(failed, failed.detail, page, job, family, methods, rows)
                _log.error("notification_dead", **_fields(failed), reason=failed.reason, detail=failed.detail)
        detail = failed.detail + outcome
        rows.reasons[failed.org_id, failed.id] = detail
        rows.letters.append(
            NewDeadLetter(
                id=new_id(),
                org_id=failed.org_id,
                notification_id=failed.id,
                page_id=failed.page_id,
                user_id=failed.user_id,
                incident=failed.incident,
                reason=failed.reason,
                detail=detail,
                job=job,
            )
        )
        self._metrics.dead_letters.labels(failed.reason).inc()

    def _kept(self, failed: Failed, page: Page, begin_time: datetime, delay: float, *, first: bool) -> Kept:
        until = begin_time + timedelta(seconds=self._policy.window)
        if first:
            _log.error(
                "notification_tried_on",
                **_fields(failed),
                detail=failed.detail,
                until=until.isoformat(),
                meaning="no provider accepts this page; it is retried until a person answers",
            )
        return Kept(
            failed.org_id,
            failed.id,
            f"{failed.detail}; no other contact method is left, so it is tried on until {until:%Y-%m-%d %H:%M:%S} UTC",
            SLOW[priority_of(page.kind, page.urgency)],
            delay,
        )


async def _tell(tx: Tx, rows: _Rows) -> None:
    """Put the outcomes for escalation into the outbox."""
    if rows.bundles or rows.waiting:
        together = await bundles.members(tx, rows.bundles.keys() | rows.waiting.keys())
        for (org_id, id), (why, undelivered) in rows.bundles.items():
            rows.outcomes += page_outcomes.failed_together(org_id, together[id], why, None, undelivered=undelivered)
        for (org_id, id), (notification, why, channel) in rows.waiting.items():
            rows.outcomes += page_outcomes.delayed_together(org_id, together[id], notification, why, channel)
    await page_outcomes.append(tx, rows.outcomes)


def still_tried(family: Sequence[Sibling], id: UUID) -> list[Sibling]:
    """The page's notifications once this one waits for another attempt."""
    return [replace(each, state=State.PENDING, tried=True) if each.id == id else each for each in family]


def _delay(failed: Failed, page: Page, job: bytes, reason: str, methods: Sequence[Method], rows: _Rows) -> None:
    """Report that no provider has accepted the page so far."""
    channel = next((method.channel for method in methods if method.id == failed.contact_method), None)
    if page.kind is Kind.BUNDLE:
        rows.waiting[failed.org_id, failed.page_id] = failed.id, reason, channel
    elif page.kind in PAGES:
        rows.outcomes.append(page_outcomes.delayed(job_of(failed, page.kind, job), failed.id, reason, channel))


def _fields(failed: Failed) -> dict[str, str]:
    return {
        "org_id": failed.org_id,
        "notification": str(failed.id),
        "page": str(failed.page_id),
        "user": failed.user_id,
    }


def replacement(head: NotificationHead, page: Page, method: Method, step: int) -> NewNotification:
    """A notification that carries the page of `head` through another method, due now."""
    return NewNotification(
        id=new_id(),
        org_id=head.org_id,
        page_id=head.page_id,
        user_id=head.user_id,
        incident=head.incident,
        generation=head.generation,
        priority=priority_of(page.kind, page.urgency),  # in a lane of new pages, even if the other one was a slow retry
        contact_method=method.id,
        channel=method.channel,
        step=step,
        state=State.PENDING,
        reason=f"took over from notifications/{head.id}",
        delay=0.0,
        outlasts=page.outlasts,
    )

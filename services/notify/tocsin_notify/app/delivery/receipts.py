"""What providers report later about messages that they accepted, and what follows from it."""

from dataclasses import dataclass, field
from uuid import UUID

from tocsin.escalation.v1.internal_service_pb2 import PageOutcome
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery import page_outcomes
from tocsin_notify.app.delivery.failures import Failed, Failures, Followed
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.pages.stored_jobs import job_of
from tocsin_notify.domain.evidence import Evidence, Receipt, moves_on
from tocsin_notify.domain.page import PAGES, Channel, Kind, State
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import receipts
from tocsin_notify.store.delivery.rows import Receipted
from tocsin_notify.store.pages import bundles

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptName:
    """Which attempt a receipt is about."""

    org_id: str
    notification: UUID
    number: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What a transaction has noted."""

    known: bool
    channel: str = ""
    news: bool = False
    sent: bool = False
    followed: Followed = field(default_factory=Followed)


class Receipts:
    """Notes evidence on attempts. Any number of receipts may come, in any order: a later one never removes what an
    earlier one proved."""

    def __init__(self, db: Database, failures: Failures, hints: Hints, metrics: NotifyMetrics) -> None:
        self._db = db
        self._failures = failures
        self._hints = hints
        self._metrics = metrics

    async def call_number(self, attempt: AttemptName) -> int:
        """Which call in a row the attempt is, from 1: attempts without a call do not count.

        Raises DATABASE_UNAVAILABLE.
        """
        if attempt.number == 1:
            return 1
        async with self._db.transaction(attempt.org_id) as tx:
            return 1 + await receipts.calls_before(tx, attempt.notification, attempt.number)

    async def take(self, attempt: AttemptName, receipt: Receipt) -> bool:
        """Write the receipt; returns whether the attempt is known here. Idempotent.

        Any receipt of a message proves that the provider accepted it. So a receipt ends an attempt whose answer was
        lost, and the message is not sent again. A message that could not be delivered goes to the user's next method at
        once. Without another method it is retried, if that may help. Raises DATABASE_UNAVAILABLE.
        """

        async def work(tx: Tx) -> Taken:
            return await self._note(tx, attempt, receipt)

        return self._noted(attempt, receipt, await self._db.run(attempt.org_id, work))

    def _noted(self, attempt: AttemptName, receipt: Receipt, taken: Taken) -> bool:
        fields = {
            "org_id": attempt.org_id,
            "notification": str(attempt.notification),
            "attempt": attempt.number,
            "provider_id": receipt.provider_id,
            "code": receipt.code,
        }
        if not taken.known:
            _log.info("receipt_of_unknown_attempt", **fields)
            return False
        self._metrics.receipts.labels(taken.channel, receipt.evidence).inc()
        if taken.news:
            _log.info("receipt", evidence=str(receipt.evidence), reason=receipt.reason, **fields)
        if taken.sent:
            self._hints.disarm([attempt.notification])
        self._failures.hint(taken.followed)
        return True

    async def _note(self, tx: Tx, attempt: AttemptName, receipt: Receipt) -> Taken:
        row = await receipts.lock(tx, attempt.notification, attempt.number)
        if row is None:
            return Taken(False)
        if not moves_on(Evidence(row.evidence), receipt.evidence):
            return Taken(True, row.channel)
        settles = receipt.evidence not in (Evidence.ACCEPTED, Evidence.FAILED)
        await receipts.note(tx, attempt.notification, attempt.number, receipt, settles=settles)
        state = State(row.state)
        # What a person answered was sent, also if its attempt was taken for failed and the answer stopped the next one before
        # it was noted.
        answered = receipt.evidence is Evidence.ANSWERED
        sent = state in (State.PENDING, State.SENDING) or (state is State.CANCELLED and answered)
        if sent:
            await receipts.mark_sent(tx, attempt.notification, attempt.number, row.fence_reason)
        if Kind(row.type) in PAGES:
            await page_outcomes.append_sent(tx, _outcomes(row, sent=sent, evidence=receipt.evidence))
        if Kind(row.type) is Kind.BUNDLE and sent:
            held = await bundles.members(tx, [(row.org_id, row.page_id)])
            sent_pages = page_outcomes.sent_together(
                row.org_id, held[row.page_id], row.id, Channel(row.channel), row.tries
            )
            await page_outcomes.append_sent(tx, sent_pages)
        current = not row.outdone and (sent or state is State.SENT)
        if receipt.evidence is not Evidence.FAILED or not current or row.fence_reason is not None:
            return Taken(True, row.channel, news=True, sent=sent)
        await receipts.mark_failed(tx, attempt.notification, receipt.reason)
        followed = await self._failures.follow(tx, [Failed.of(row, receipt.death, receipt.reason)])
        return Taken(True, row.channel, news=True, sent=sent, followed=followed)


def _outcomes(row: Receipted, *, sent: bool, evidence: Evidence) -> list[PageOutcome]:
    """The outcomes for escalation: that the page was accepted, if the provider's answer did not say so, and that it was
    delivered."""
    job, channel = job_of(row, Kind(row.type), row.job), Channel(row.channel)
    outcomes = [page_outcomes.sent(job, row.id, channel, attempts=row.tries)] if sent else []
    if evidence is Evidence.DELIVERED:
        outcomes.append(page_outcomes.delivered(job, row.id, channel))
    return outcomes

"""Claim rows for which there are slots, and start their calls (tx A), in sets."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.calls import Calls, Start
from tocsin_notify.app.delivery.failures import Failed, Failures
from tocsin_notify.app.delivery.slots import Slot, Slots
from tocsin_notify.app.pages.bundle_message import without_answered
from tocsin_notify.app.pages.stored_jobs import job_of
from tocsin_notify.app.pages.targets import Attempt, PageContent, make_delivery
from tocsin_notify.domain.attempt import RetryPolicy
from tocsin_notify.domain.page import DeathReason, Kind
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.cipher import Cipher, SecretLost
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.candidates import Candidate
from tocsin_notify.store.delivery.gate import Gate, incident_key
from tocsin_notify.store.delivery.rows import Claimed
from tocsin_notify.store.delivery.senders import Leases

_log = get_logger(__name__)

MOST_PER_CLAIM: Final = 200
"""Each claim holds up to this many advisory locks; PostgreSQL's shared lock table is finite."""


class Claim:
    """One object per process."""

    def __init__(
        self,
        gate: Gate,
        calls: Calls,
        slots: Slots,
        cipher: Cipher,
        failures: Failures,
        policy: RetryPolicy,
        metrics: NotifyMetrics,
        leases: Leases,
    ) -> None:
        """`policy`: read at each claim, since options of the queue change it."""
        self._gate = gate
        self._calls = calls
        self._slots = slots
        self._cipher = cipher
        self._failures = failures
        self._policy = policy
        self._metrics = metrics
        self._leases = leases

    async def __call__(self, taken: Mapping[UUID, tuple[Slot, Candidate]]) -> int:
        """Returns how many were claimed, once the calls of those that are to be sent have begun. The calls then own
        their slots; all other slots are given back. Raises DATABASE_UNAVAILABLE, and CONFLICT when another session
        holds what these need.
        """
        keys = {id: _key(candidate) for id, (_, candidate) in taken.items()}
        started: set[UUID] = set()
        try:
            async with self._gate.passage(key for key in keys.values() if key is not None) as passage:
                ids = [id for id, key in keys.items() if key is None or key in passage.held]
                rows = await notifications.claim(
                    passage.tx,
                    ids,
                    max_tries=self._policy.attempts,
                    lease=self._leases.seconds,
                    sender=self._leases.sender,
                )
                rows = await without_answered(passage.tx, rows)
                starts, lost = self._starts(rows, taken)
                followed = await self._failures.follow(passage.tx, [*map(_failed, rows_to_give_up(rows)), *lost])
                started = {start.delivery.notification for start in starts}  # their slots are the calls' from here on
                try:
                    await passage.commit()
                except BaseException:
                    self._calls.abandon(starts)
                    raise
                await self._calls.start(starts, passage.since)
        finally:
            for id, (slot, _) in taken.items():
                if id not in started:
                    self._slots.give_back(slot)
        for row in rows:
            if row.verdict == "cancelled":
                self._metrics.cancelled.inc()
                _log.info("notification_cancelled", notification=str(row.id), reason=row.stop_reason)
        self._failures.hint(followed)
        return len(rows)

    def _starts(
        self, rows: Sequence[Claimed], taken: Mapping[UUID, tuple[Slot, Candidate]]
    ) -> tuple[list[Start], list[Failed]]:
        starts: list[Start] = []
        lost: list[Failed] = []
        for row in rows:
            if row.verdict != "sending":
                continue
            try:
                kind = Kind(row.type)
                delivery = make_delivery(
                    self._cipher,
                    PageContent(row.org_id, row.page_id, kind, job_of(row, kind, row.job)),
                    Attempt(row.id, row.attempts, row.attempt_group, row.now, row.answered),
                    row.contact_method,
                    row.target,
                    row.language,
                )
            except SecretLost as error:
                _log.error("contact_secret_lost", org_id=row.org_id, error=str(error))
                lost.append(_failed(row, DeathReason.PERMANENT_FAILURE, str(error)))
                continue
            starts.append(Start(delivery, taken[row.id][0], row.tries, row.contact_method))
        return starts, lost


def rows_to_give_up(rows: Sequence[Claimed]) -> list[Claimed]:
    """Rows that a claim found and will not send."""
    return [row for row in rows if row.verdict in ("unusable", "exhausted")]


def _failed(row: Claimed, reason: DeathReason | None = None, detail: str = "") -> Failed:
    if reason is None:
        exhausted = row.verdict == "exhausted"
        reason = DeathReason.ATTEMPTS_EXHAUSTED if exhausted else DeathReason.NO_CONTACT_METHOD
        detail = "its senders vanished during the attempts" if exhausted else "its contact method can no longer be used"
    return Failed.of(row, reason, detail)


def _key(candidate: Candidate) -> int | None:
    return None if candidate.incident is None else incident_key(candidate.org_id, candidate.incident)

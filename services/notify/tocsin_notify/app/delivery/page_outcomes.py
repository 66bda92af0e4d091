"""The outcomes of pages for escalation: one outbox row per change that a responder wants to know, and none per attempt.

For news and this service's own pages (tests, codes) no escalation waits, so no outcome is written.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tocsin.escalation.v1 import internal_service_pb2 as pb
from tocsin.notify.v1.notification_pb2 import CHANNEL_UNSPECIFIED, NotificationJob
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Tx

from tocsin_notify.app.pages.jobs import CHANNELS
from tocsin_notify.app.pages.stored_jobs import job_of_member
from tocsin_notify.domain.page import Channel
from tocsin_notify.store.delivery.outcomes import NOT_REACHED, SENT
from tocsin_notify.store.pages.bundles import BundledPage

_CHANNELS_OF: Final = {channel: number for number, channel in CHANNELS.items()}
_MOST_WORDS: Final = 2048


def unreachable(job: NotificationJob, reason: str) -> pb.PageOutcome:
    """No contact method may carry the page."""
    return _outcome(job, pb.PAGE_OUTCOME_KIND_UNREACHABLE, reason=reason)


def failed(job: NotificationJob, reason: str, channel: Channel | None, *, undelivered: bool) -> pb.PageOutcome:
    """Every contact method that was tried failed for good; `channel` is the last one's. `undelivered`: escalation was
    told before that the page was sent."""
    outcome = _outcome(job, pb.PAGE_OUTCOME_KIND_FAILED, channel=channel, reason=reason)
    outcome.undelivered = undelivered
    return outcome


def delayed(job: NotificationJob, notification: UUID, reason: str, channel: Channel | None) -> pb.PageOutcome:
    """No provider has accepted the page so far, and it is retried."""
    return _outcome(job, pb.PAGE_OUTCOME_KIND_DELAYED, notification=notification, channel=channel, reason=reason)


def sent(job: NotificationJob, notification: UUID, channel: Channel, attempts: int) -> pb.PageOutcome:
    """A provider accepted the page."""
    return _outcome(job, pb.PAGE_OUTCOME_KIND_SENT, notification=notification, channel=channel, attempts=attempts)


def delivered(job: NotificationJob, notification: UUID, channel: Channel) -> pb.PageOutcome:
    """A provider says that the page was delivered."""
    return _outcome(job, pb.PAGE_OUTCOME_KIND_DELIVERED, notification=notification, channel=channel)


def sent_together(
    org_id: str, members: Sequence[BundledPage], notification: UUID, channel: Channel, attempts: int
) -> list[pb.PageOutcome]:
    """A provider accepted the one message for all of these pages; reported for those that are still open."""
    together = _together(members)
    return [
        _outcome(
            job_of_member(org_id, each),
            pb.PAGE_OUTCOME_KIND_SENT,
            notification=notification,
            channel=channel,
            attempts=attempts,
            reason=together,
        )
        for each in members
        if each.stopped is None
    ]


def failed_together(
    org_id: str, members: Sequence[BundledPage], reason: str, channel: Channel | None, *, undelivered: bool
) -> list[pb.PageOutcome]:
    """No contact method could deliver the one message for all of these pages."""
    why = f"{_together(members)}: {reason}"
    return [
        failed(job_of_member(org_id, each), why, channel, undelivered=undelivered)
        for each in members
        if each.stopped is None
    ]


def delayed_together(
    org_id: str, members: Sequence[BundledPage], notification: UUID, reason: str, channel: Channel | None
) -> list[pb.PageOutcome]:
    """No provider has accepted the one message for all of these pages so far, and it is retried."""
    why = f"{_together(members)}: {reason}"
    return [
        delayed(job_of_member(org_id, each), notification, why, channel) for each in members if each.stopped is None
    ]


def _together(members: Sequence[BundledPage]) -> str:
    """One row for all of them: escalation reads each page from it."""
    count = len({each.incident for each in members if each.stopped is None})
    return f"in one message for {count} page{'s' * (count != 1)}"


async def append(tx: Tx, outcomes: Sequence[pb.PageOutcome]) -> None:
    """Write these outcomes; nudge the relay after the commit, because a level may wait for them."""
    rows = [(each.org_id, "", each.SerializeToString()) for each in outcomes]
    await outbox.append_across(tx, NOT_REACHED, rows)


async def append_sent(tx: Tx, outcomes: Sequence[pb.PageOutcome]) -> None:
    """Write these outcomes; the next round of the relay sends them."""
    await outbox.append_across(tx, SENT, [(each.org_id, "", each.SerializeToString()) for each in outcomes])


def _outcome(
    job: NotificationJob,
    kind: pb.PageOutcomeKind.ValueType,
    *,
    notification: UUID | None = None,
    channel: Channel | None = None,
    attempts: int = 0,
    reason: str = "",
) -> pb.PageOutcome:
    return pb.PageOutcome(
        org_id=job.org_id,
        incident=job.incident,
        page=job.page,
        user=job.user,
        kind=kind,
        notification=f"notifications/{notification}" if notification else "",
        channel=_CHANNELS_OF.get(channel, CHANNEL_UNSPECIFIED) if channel else CHANNEL_UNSPECIFIED,
        attempts=attempts,
        reason=reason[:_MOST_WORDS],
        level=job.level,
    )

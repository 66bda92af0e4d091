"""Reads jobs from the rows of pages.

If a job cannot be read, its person is still paged, with the text that the columns of the row give; and no page that is
handled together with it is delayed.
"""

from typing import Final
from uuid import UUID

from google.protobuf.message import DecodeError
from tocsin.notify.v1.notification_pb2 import NOTIFICATION_TYPE_UNSPECIFIED, NotificationJob
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_WARNING
from tocsin_kit.logging import get_logger

from tocsin_notify.app.pages.jobs import KINDS
from tocsin_notify.domain.page import CRITICAL, SLOW, Kind, Urgency
from tocsin_notify.store.delivery.rows import NotificationHead
from tocsin_notify.store.pages.bundles import BundledPage

_log = get_logger(__name__)

UNREADABLE: Final = "An incident of yours: what it is about cannot be read, so open it"
_TYPES: Final = {kind: number for number, kind in KINDS.items()}


def job_of(head: NotificationHead, kind: Kind, job: bytes) -> NotificationJob:
    """The job of a notification's page."""
    urgent = head.priority in (CRITICAL, SLOW[CRITICAL])
    return job_of_page(
        head.org_id, head.page_id, kind, head.user_id, head.incident, job, generation=head.generation, urgent=urgent
    )


def job_of_member(org_id: str, member: BundledPage) -> NotificationJob:
    """The job of a page in a bundle."""
    urgent = member.urgency == Urgency.HIGH
    return job_of_page(
        org_id,
        member.id,
        Kind(member.type),
        member.user_id,
        member.incident,
        member.job,
        generation=member.generation,
        urgent=urgent,
    )


def job_of_page(
    org_id: str,
    page: UUID,
    kind: Kind,
    user: str,
    incident: UUID | None,
    job: bytes,
    *,
    generation: int = 0,
    urgent: bool = True,
) -> NotificationJob:
    """The job of a page; made of its columns if it cannot be read."""
    read = readable(job, org_id, page)
    if read is not None:
        return read
    return NotificationJob(
        page=f"pages/{page}",
        org_id=org_id,
        type=_TYPES.get(kind, NOTIFICATION_TYPE_UNSPECIFIED),
        user=user,
        incident=f"incidents/{incident}" if incident is not None else "",
        title=UNREADABLE,
        severity=SEVERITY_CRITICAL if urgent else SEVERITY_WARNING,
        generation=generation,
    )


def title_of(job: bytes) -> str:
    """For lists, of which one bad row must not hide the others."""
    try:
        return NotificationJob.FromString(job).title
    except DecodeError:
        return UNREADABLE


def readable(job: bytes, org_id: str, page: UUID) -> NotificationJob | None:
    """None for bytes that are no job, or that are another page's."""
    try:
        read = NotificationJob.FromString(job)
    except DecodeError as error:
        _log.error("stored_job_unreadable", org_id=org_id, page=str(page), error=str(error))
        return None
    if (read.org_id, read.page) != (org_id, f"pages/{page}"):
        _log.error("stored_job_unreadable", org_id=org_id, page=str(page), error="it is another page's")
        return None
    return read

"""Converts jobs of the contract into this service's values."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Literal

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import Severity
from tocsin_kit.db.pool import SYSTEM
from tocsin_kit.errors import invalid
from tocsin_kit.ids import parse_uuid_name

from tocsin_notify.channels.text import is_urgent
from tocsin_notify.domain.page import NORMAL, ONE_WAY, PAGES, Channel, Kind, Page, Urgency, priority_of, urgency_of
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.texts.own_messages import in_language

KINDS: Final = {
    pb.NOTIFICATION_TYPE_NEW_INCIDENT: Kind.NEW_INCIDENT,
    pb.NOTIFICATION_TYPE_ESCALATION: Kind.ESCALATION,
    pb.NOTIFICATION_TYPE_ACKNOWLEDGMENT: Kind.ACKNOWLEDGMENT,
    pb.NOTIFICATION_TYPE_RESOLUTION: Kind.RESOLUTION,
    pb.NOTIFICATION_TYPE_TEST: Kind.TEST,
    pb.NOTIFICATION_TYPE_VERIFICATION: Kind.VERIFICATION,
    pb.NOTIFICATION_TYPE_URGENCY_RAISED: Kind.URGENCY_RAISED,
    pb.NOTIFICATION_TYPE_CONTACT_CHANGED: Kind.CONTACT_CHANGED,
    pb.NOTIFICATION_TYPE_MESSAGE: Kind.MESSAGE,
    pb.NOTIFICATION_TYPE_BUNDLE: Kind.BUNDLE,
    pb.NOTIFICATION_TYPE_DIGEST: Kind.DIGEST,
}
CHANNELS: Final = {pb.Channel.Value(f"CHANNEL_{channel.name}"): channel for channel in Channel}
SEVERE: Final = frozenset({Severity.SEVERITY_UNSPECIFIED, Severity.SEVERITY_CRITICAL, Severity.SEVERITY_ERROR})
"""Pages of incidents with these severities are of high urgency, unless their policy says otherwise."""


def read_job(job: pb.NotificationJob) -> NewPage:
    """A job that passed its annotations. Raises INVALID_FIELD for rules that annotations cannot express.

    Shift notices get their title and text here, as lists and programs read them.
    """
    kind = KINDS[job.type]
    if kind is Kind.DIGEST or (kind not in PAGES and kind not in ONE_WAY):
        raise invalid("type", f"{kind} is no job another service may hand over")
    _require_one_tenant(job)
    if job.HasField("shift"):
        if kind is not Kind.MESSAGE:
            raise invalid("shift", "only a message tells of shifts")
        try:
            job = in_language(job, LANGUAGES[0])
        except (ValueError, OverflowError) as error:
            raise invalid("shift", "must have times of the years 1 to 9999, and the shift that begins") from error
    urgency = urgency_of(kind, severe=is_urgent(job))
    about_none = kind is Kind.MESSAGE and not job.incident
    return NewPage(
        id=parse_uuid_name(job.page, "pages", field="page"),
        org_id=job.org_id,
        user_id=job.user,
        incident=None if about_none else parse_uuid_name(job.incident, "incidents", field="incident"),
        page=Page(kind, urgency, CHANNELS.get(job.channel_override), outlasts=job.outlasts_acknowledge),
        priority=priority_of(kind, urgency),
        generation=job.generation,
        planned_time=_time(job, "planned_time"),
        job=job,
        expire_time=_time(job, "expire_time"),
    )


def _require_one_tenant(job: pb.NotificationJob) -> None:
    if job.org_id == SYSTEM or "\0" in job.org_id:
        raise invalid("org_id", "must be one tenant, without the character NUL (U+0000)")


def read_kept(job: pb.NotificationJob) -> NewPage:
    """A job from a dead letter: as `read_job`; or the job of a bundle or a digest, whose stored page holds what the job
    lacks. An operator may redrive it after the time by which a message was to be sent."""
    _require_one_tenant(job)
    id = parse_uuid_name(job.page, "pages", field="page")
    if KINDS.get(job.type) is Kind.DIGEST:
        page = Page(Kind.DIGEST, Urgency.LOW)
        return NewPage(id, job.org_id, job.user, None, page, NORMAL, 0, _time(job, "planned_time"), job)
    if KINDS.get(job.type) is Kind.BUNDLE:
        urgency = urgency_of(Kind.BUNDLE, severe=is_urgent(job))
        page, lane = Page(Kind.BUNDLE, urgency), priority_of(Kind.BUNDLE, urgency)
        return NewPage(id, job.org_id, job.user, id, page, lane, job.generation, _time(job, "planned_time"), job)
    return replace(read_job(job), expire_time=None)


def _time(job: pb.NotificationJob, field: Literal["planned_time", "expire_time"]) -> datetime | None:
    if not job.HasField(field):
        return None
    given: Timestamp = getattr(job, field)
    try:
        return given.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(field, "must be a time of the years 1 to 9999") from error

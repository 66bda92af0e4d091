"""Replacements for pages and cancellations that notify refuses for good.

A person must be paged even if the alert's texts are the fault. So everything that is not needed to reach them is left out, and
the title says so. The original stays as a dead letter.
"""

import re
from typing import Final

from google.protobuf.message import DecodeError
from tocsin.notify.v1.incident_event_pb2 import IncidentEvent
from tocsin.notify.v1.internal_service_pb2 import Cancellation
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_INFO, SEVERITY_WARNING
from tocsin_kit.db.outbox import OutboxRow

from tocsin_escalation.app.incidents.jobs import USER

_TITLE: Final = 200
_NAME: Final = 100
_LEFT_OUT: Final = " (parts of this page were left out)"
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_POLICY: Final = re.compile(r"policies/[a-z0-9][a-z0-9._-]{0,62}")
_SEVERITIES: Final = (SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_WARNING, SEVERITY_INFO)


def less_of_page(row: OutboxRow, reason: str) -> bytes | None:
    """The page with only the fields that reach its user; None when it cannot be read. `reason` is kept by the relay."""
    try:
        job = NotificationJob.FromString(row.payload)
    except DecodeError:
        return None
    job.DiscardUnknownFields()
    job.title = (_plain(job.title, _TITLE) or "an incident") + _LEFT_OUT
    job.source = _plain(job.source, _NAME)
    job.actor = _plain(job.actor, _NAME)
    job.ClearField("links")
    job.ClearField("ordered_links")
    if job.severity not in _SEVERITIES:
        job.severity = SEVERITY_CRITICAL
    if not _POLICY.fullmatch(job.policy):
        job.policy = ""
    return job.SerializeToString()


def less_of_notice(row: OutboxRow, reason: str) -> bytes | None:
    """For a notice of a shift the same as for a page. A change of a user has nothing to leave out."""
    return None if row.kind == USER else less_of_page(row, reason)


def less_of_cancellation(row: OutboxRow, reason: str) -> bytes | None:
    """The cancellation with a simple reason; None when it cannot be read, or has nothing left to leave out."""
    try:
        cancellation = Cancellation.FromString(row.payload)
    except DecodeError:
        return None
    plain = _plain(cancellation.reason, _TITLE)
    if plain == cancellation.reason:
        return None
    cancellation.reason = plain
    return cancellation.SerializeToString()


def less_of_event(row: OutboxRow, reason: str) -> bytes | None:
    """The event with simple texts; None when it cannot be read, or has nothing left to leave out."""
    try:
        event = IncidentEvent.FromString(row.payload)
    except DecodeError:
        return None
    event.DiscardUnknownFields()
    event.message = _plain(event.message, _TITLE)
    event.actor = _plain(event.actor, _NAME)
    event.incident.title = _plain(event.incident.title, _TITLE)
    event.incident.source = _plain(event.incident.source, _NAME)
    less = event.SerializeToString()
    return None if less == row.payload else less


def _plain(text: str, limit: int) -> str:
    return _UNPRINTABLE.sub("?", text)[:limit]

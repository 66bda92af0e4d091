"""What goes to escalation in place of an event that it refuses for good: the same event without what may be the cause.

An incident must page even if its alert cannot be stored. So the title is reduced to printable ASCII, and what is not needed to page
is left out; the event says what. The original stays as a dead letter.
"""

import re
from typing import Final

from google.protobuf.message import DecodeError
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent, IncidentOpened
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_INFO, SEVERITY_WARNING
from tocsin_kit.db.outbox import OutboxRow

_TITLE: Final = 200
_NAME: Final = 100
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_POLICY: Final = re.compile(r"policies/[a-z0-9][a-z0-9._-]{0,62}")
_INTEGRATION: Final = re.compile(r"integrations/[a-z0-9][a-z0-9._-]{0,62}")
_SEVERITIES: Final = (SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_WARNING, SEVERITY_INFO)


def substitute(row: OutboxRow, reason: str) -> bytes | None:
    """The payload to deliver instead; None when nothing can be left out. `reason` is not needed: the relay keeps it."""
    try:
        event = IncidentEvent.FromString(row.payload)
    except DecodeError:
        return None
    return stripped.SerializeToString() if (stripped := strip(event)) is not None else None


def strip(event: IncidentEvent) -> IncidentEvent | None:
    """The event with nothing but what paging needs; None when that is all it has."""
    less = IncidentEvent.FromString(event.SerializeToString())
    match event.WhichOneof("event"):
        case "opened":
            less.opened.CopyFrom(_strip_opened(event.opened))
        case "alerts_added":
            less.alerts_added.summary = _plain(event.alerts_added.summary, _TITLE)
        case "acknowledged":
            less.acknowledged.actor = _plain(event.acknowledged.actor, _NAME) or "a sender"
        case "resolved":
            less.resolved.actor = _plain(event.resolved.actor, _NAME) or "a sender"
            less.resolved.because = _plain(event.resolved.because, _TITLE)
        case "noted":
            less.noted.actor = _plain(event.noted.actor, _NAME) or "a sender"
            less.noted.text = _plain(event.noted.text, _TITLE)
    return None if less == event else less


def _strip_opened(opened: IncidentOpened) -> IncidentOpened:
    title = _plain(opened.title, _TITLE)
    less = IncidentOpened(
        title=title if title.strip("? ") else "an alert whose summary cannot be shown",
        source=_plain(opened.source, _NAME),
        severity=opened.severity if opened.severity in _SEVERITIES else SEVERITY_CRITICAL,
        policy=opened.policy if _POLICY.fullmatch(opened.policy) else "",
        integration=opened.integration if _INTEGRATION.fullmatch(opened.integration) else "",
        alert_count=max(1, opened.alert_count),
        anew_because=_plain(opened.anew_because, _TITLE),
        resolved_by=_plain(opened.resolved_by, _NAME),
        left_out=opened.left_out,
    )
    for name in ("labels", "links"):
        if getattr(opened, name) and name not in less.left_out:
            less.left_out.append(name)
    for name in ("title", "source", "severity", "policy", "integration"):
        if getattr(less, name) != getattr(opened, name):
            less.left_out.append(f"parts of the {name}")
    return less


def _plain(text: str, limit: int) -> str:
    return _UNPRINTABLE.sub("?", text)[:limit]

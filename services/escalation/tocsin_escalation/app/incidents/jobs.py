"""Jobs for notify: decisions as contract messages."""

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.notify.v1 import internal_service_pb2, notification_pb2

from tocsin_escalation.domain.decision import Page, PageType, StopPages
from tocsin_escalation.domain.escalation import Escalation

PAGE: Final = "page"
CANCEL: Final = "cancel"
USER: Final = "user"
"""The kinds of outbox rows."""

TYPES: Final = {
    PageType.NEW_INCIDENT: notification_pb2.NOTIFICATION_TYPE_NEW_INCIDENT,
    PageType.ESCALATION: notification_pb2.NOTIFICATION_TYPE_ESCALATION,
    PageType.ACKNOWLEDGMENT: notification_pb2.NOTIFICATION_TYPE_ACKNOWLEDGMENT,
    PageType.URGENCY_RAISED: notification_pb2.NOTIFICATION_TYPE_URGENCY_RAISED,
    PageType.RESOLUTION: notification_pb2.NOTIFICATION_TYPE_RESOLUTION,
}
_NONE: Final = -1
"""A generation before all others: a notify that does not know `own` stops nothing, in place of the pages of all users."""
_URGENCIES: Final = {
    None: notification_pb2.URGENCY_UNSPECIFIED,
    True: notification_pb2.URGENCY_HIGH,
    False: notification_pb2.URGENCY_LOW,
}


def notification_job(run: Escalation, page: Page, time_zone: str = "") -> notification_pb2.NotificationJob:
    """The job behind one page. `time_zone`: the one that its user has chosen, if it is known."""
    planned = Timestamp()
    planned.FromDatetime(page.planned_time)
    return notification_pb2.NotificationJob(
        page=f"pages/{page.id}",
        org_id=run.org_id,
        type=TYPES[page.type],
        user=f"users/{page.user}",
        incident=f"incidents/{run.incident_id}",
        title=run.facts.title,
        source=run.facts.source,
        severity=run.facts.severity,  # type: ignore[arg-type]  # the number is the enum's own
        level=page.level,
        repeat=page.repeat,
        generation=page.generation,
        planned_time=planned,
        actor=page.actor,
        ordered_links=[notification_pb2.NotificationLink(href=href, text=text) for href, text in run.facts.links],
        alert_count=run.facts.alert_count,
        policy=f"policies/{run.policy.id}" if run.policy else "",
        urgency=_URGENCIES[page.urgent],
        time_zone=time_zone,
    )


def cancellation(run: Escalation, stop: StopPages) -> internal_service_pb2.Cancellation:
    """The order to stop an incident's pages, or those of one user."""
    order = internal_service_pb2.Cancellation(
        org_id=run.org_id,
        incident=f"incidents/{run.incident_id}",
        generation=stop.generation,
        reason=stop.reason,
        spares_lasting=not stop.final,
    )
    if stop.user:
        order.generation = _NONE
        order.own.user = f"users/{stop.user}"
        order.own.generation = stop.generation
    return order

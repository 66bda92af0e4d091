"""Notify, as escalation sees it."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final
from uuid import UUID

import grpc
from tocsin.notify.v1 import internal_service_pb2 as pb
from tocsin.notify.v1 import internal_service_pb2_grpc as pb_grpc
from tocsin.notify.v1 import notification_pb2
from tocsin.notify.v1.incident_event_pb2 import IncidentEvent
from tocsin_kit.errors import from_rpc_error
from tocsin_kit.rpc.hedge import hedged

from tocsin_escalation.domain.explanation import Contact, Notification, Tried

_SUBMIT_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 1.0
"""The caller waits for a policy, and a warning must not cost more time."""
_MOST_USERS: Final = 1000
_MOST_PAGES: Final = 1000


class Notify:
    """Every call has a deadline; every failure is a TocsinError."""

    def __init__(self, channel: grpc.aio.Channel, cancel_timeout: float) -> None:
        self._stub: pb_grpc.NotifyInternalServiceAsyncStub = pb_grpc.NotifyInternalServiceStub(channel)
        self._cancel_timeout = cancel_timeout

    async def submit(self, jobs: Sequence[notification_pb2.NotificationJob]) -> None:
        """Send pages; returns once notify has committed them."""
        request = pb.SubmitNotificationsRequest(jobs=jobs)
        try:
            await hedged(self._stub.SubmitNotifications, request, seconds=_SUBMIT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="notify") from error

    async def knows(self, pages: Sequence[tuple[str, UUID]]) -> list[int | None]:
        """See `app.incidents.reconcile_pages.Knowing`."""
        claims = [pb.PageClaim(org_id=org_id, page=f"pages/{page}") for org_id, page in pages]
        known: list[int | None] = []
        for start in range(0, len(claims), _MOST_PAGES):
            request = pb.ComparePagesRequest(pages=claims[start : start + _MOST_PAGES])
            try:
                response = await hedged(self._stub.ComparePages, request, seconds=_SUBMIT_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, service="notify") from error
            # A notify of the version before does not tell what is stopped.
            stopped = response.stopped or [0] * len(response.known)
            known += [up_to if known else None for known, up_to in zip(response.known, stopped, strict=True)]
        return known

    async def publish(self, events: Sequence[IncidentEvent]) -> None:
        """Send incident events; returns once notify has committed them."""
        request = pb.PublishIncidentEventsRequest(events=events)
        try:
            await hedged(self._stub.PublishIncidentEvents, request, seconds=_SUBMIT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="notify") from error

    async def change_users(self, changes: Sequence[pb.UserChange]) -> None:
        """Send changes of users; returns once notify has committed them."""
        request = pb.ApplyUserChangesRequest(changes=changes)
        try:
            await hedged(self._stub.ApplyUserChanges, request, seconds=_SUBMIT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="notify") from error

    async def unreachable(self, org_id: str, users: Sequence[str]) -> dict[str, str]:
        """See `app.people.reach.Reaching`."""
        found: dict[str, str] = {}
        for start in range(0, len(users), _MOST_USERS):
            names = [f"users/{user}" for user in users[start : start + _MOST_USERS]]
            request = pb.CheckReachabilityRequest(org_id=org_id, users=names)
            try:
                response = await hedged(self._stub.CheckReachability, request, seconds=_CHECK_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, service="notify") from error
            found |= {each.user.removeprefix("users/"): each.reason for each in response.unreachable}
        return found

    async def describe(self, org_id: str, incident_id: UUID, user: str) -> Contact:
        """See `app.foresight.explain.Describing`."""
        request = pb.ExplainDeliveriesRequest(org_id=org_id, incident=f"incidents/{incident_id}", user=f"users/{user}")
        try:
            response = await hedged(self._stub.ExplainDeliveries, request, seconds=_CHECK_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="notify") from error
        return Contact(
            tuple(map(_notification, response.notifications)),
            response.unreachable_reason,
            tuple(response.rules),
            response.quiet_hours,
        )

    async def cancel(self, cancellations: Sequence[pb.Cancellation]) -> None:
        """Stop pages; returns once no provider call starts for them."""
        request = pb.CancelNotificationsRequest(cancellations=cancellations)
        try:
            await hedged(self._stub.CancelNotifications, request, seconds=self._cancel_timeout)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="notify") from error


def _notification(told: notification_pb2.Notification) -> Notification:
    channel = _word(notification_pb2.Channel.Name(told.channel), "CHANNEL_")
    state = _word(notification_pb2.NotificationState.Name(told.state), "NOTIFICATION_STATE_")
    reason = f": {told.state_reason}" if told.state_reason else ""
    due = f", due at {told.due_time.ToDatetime(UTC):%Y-%m-%d %H:%M:%S} UTC" if told.HasField("due_time") else ""
    return Notification(
        told.name,
        told.page,
        f"{channel} through {told.contact_method} for {told.page}: {state}{reason}{due}",
        told.create_time.ToDatetime(UTC),
        told.level,
        told.state == notification_pb2.NOTIFICATION_STATE_SENT,
        tuple(_tried(channel, attempt) for attempt in told.attempts),
    )


def _tried(channel: str, attempt: notification_pb2.Attempt) -> Tried:
    outcome = _word(notification_pb2.AttemptOutcome.Name(attempt.outcome), "ATTEMPT_OUTCOME_")
    text = f"attempt {attempt.number} by {channel}: {outcome}{f' ({attempt.detail})' if attempt.detail else ''}"
    if attempt.HasField("evidence_time"):
        evidence = _word(notification_pb2.Evidence.Name(attempt.evidence), "EVIDENCE_")
        code = f" ({attempt.evidence_code})" if attempt.evidence_code else ""
        text += f"; receipt at {attempt.evidence_time.ToDatetime(UTC):%Y-%m-%d %H:%M:%S} UTC: {evidence}{code}"
    return Tried(attempt.start_time.ToDatetime(UTC), text)


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()

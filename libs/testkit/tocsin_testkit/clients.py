"""Every service of a stack, called as one principal. The stubs are generated from the contracts; nothing of ours is between."""

from collections.abc import Sequence
from typing import Any

import grpc
from tocsin.audit.v1 import audit_service_pb2_grpc
from tocsin.credentials.v1 import credential_service_pb2_grpc
from tocsin.credentials.v1 import internal_service_pb2_grpc as credential_internal_service_pb2_grpc
from tocsin.escalation.v1 import (
    analytics_service_pb2_grpc,
    calendar_service_pb2_grpc,
    directory_service_pb2_grpc,
    follow_service_pb2_grpc,
    incident_service_pb2_grpc,
    internal_service_pb2_grpc,
    policy_service_pb2_grpc,
    reminder_service_pb2_grpc,
    schedule_service_pb2_grpc,
    shift_notice_service_pb2_grpc,
    watch_service_pb2_grpc,
)
from tocsin.ingest.v1 import alert_service_pb2_grpc, integration_service_pb2_grpc, silence_service_pb2_grpc
from tocsin.limits.v1 import limit_service_pb2_grpc
from tocsin.notify.v1 import (
    contact_service_pb2_grpc,
    digest_service_pb2_grpc,
    message_service_pb2_grpc,
    notification_service_pb2_grpc,
    recurring_message_service_pb2_grpc,
    slack_group_service_pb2_grpc,
    subscription_service_pb2_grpc,
    template_service_pb2_grpc,
)
from tocsin.queue.v1 import queue_service_pb2_grpc

Metadata = Sequence[tuple[str, str]]


class Channels:
    """One channel per service, shared by all clients."""

    def __init__(self, targets: dict[str, str]) -> None:
        self.by_service = {name: grpc.aio.insecure_channel(target) for name, target in targets.items()}

    async def close(self) -> None:
        """Hang up."""
        for channel in self.by_service.values():
            await channel.close()


class Clients:
    """The public services with one token. `await clients.incidents.GetIncident(request)`."""

    def __init__(self, channels: Channels, token: str) -> None:
        by = channels.by_service
        self.alerts: Any = _Bearer(alert_service_pb2_grpc.AlertServiceStub(by["ingest"]), token)
        self.integrations: Any = _Bearer(integration_service_pb2_grpc.IntegrationServiceStub(by["ingest"]), token)
        self.silences: Any = _Bearer(silence_service_pb2_grpc.SilenceServiceStub(by["ingest"]), token)
        self.incidents: Any = _Bearer(incident_service_pb2_grpc.IncidentServiceStub(by["escalation"]), token)
        self.policies: Any = _Bearer(policy_service_pb2_grpc.PolicyServiceStub(by["escalation"]), token)
        self.schedules: Any = _Bearer(schedule_service_pb2_grpc.ScheduleServiceStub(by["escalation"]), token)
        self.watches: Any = _Bearer(watch_service_pb2_grpc.WatchServiceStub(by["escalation"]), token)
        self.analytics: Any = _Bearer(analytics_service_pb2_grpc.AnalyticsServiceStub(by["escalation"]), token)
        self.calendars: Any = _Bearer(calendar_service_pb2_grpc.CalendarServiceStub(by["escalation"]), token)
        self.reminders: Any = _Bearer(reminder_service_pb2_grpc.ReminderServiceStub(by["escalation"]), token)
        self.follows: Any = _Bearer(follow_service_pb2_grpc.FollowServiceStub(by["escalation"]), token)
        self.shift_notices: Any = _Bearer(shift_notice_service_pb2_grpc.ShiftNoticeServiceStub(by["escalation"]), token)
        self.directory: Any = _Bearer(directory_service_pb2_grpc.DirectoryServiceStub(by["escalation"]), token)
        self.credentials: Any = _Bearer(credential_service_pb2_grpc.CredentialServiceStub(by["escalation"]), token)
        self.credentials_internal: Any = _Bearer(
            credential_internal_service_pb2_grpc.CredentialInternalServiceStub(by["escalation"]), token
        )
        self.contacts: Any = _Bearer(contact_service_pb2_grpc.ContactServiceStub(by["notify"]), token)
        self.messages: Any = _Bearer(message_service_pb2_grpc.MessageServiceStub(by["notify"]), token)
        self.subscriptions: Any = _Bearer(subscription_service_pb2_grpc.SubscriptionServiceStub(by["notify"]), token)
        self.templates: Any = _Bearer(template_service_pb2_grpc.TemplateServiceStub(by["notify"]), token)
        self.recurring_messages: Any = _Bearer(
            recurring_message_service_pb2_grpc.RecurringMessageServiceStub(by["notify"]), token
        )
        self.slack_groups: Any = _Bearer(slack_group_service_pb2_grpc.SlackGroupServiceStub(by["notify"]), token)
        self.digests: Any = _Bearer(digest_service_pb2_grpc.DigestServiceStub(by["notify"]), token)
        self.notifications: Any = _Bearer(notification_service_pb2_grpc.NotificationServiceStub(by["notify"]), token)
        self.escalation_queues: Any = _Bearer(queue_service_pb2_grpc.QueueServiceStub(by["escalation"]), token)
        self.audit: dict[str, Any] = {
            name: _Bearer(audit_service_pb2_grpc.AuditServiceStub(channel), token) for name, channel in by.items()
        }
        """By service."""
        self.limits: dict[str, Any] = {
            name: _Bearer(limit_service_pb2_grpc.LimitServiceStub(channel), token) for name, channel in by.items()
        }
        """By service."""
        self.notify_queues: Any = _Bearer(queue_service_pb2_grpc.QueueServiceStub(by["notify"]), token)
        self.escalation_internal: Any = _Bearer(
            internal_service_pb2_grpc.EscalationInternalServiceStub(by["escalation"]), token
        )


class _Bearer:
    """A stub whose every call carries the token and a deadline."""

    def __init__(self, stub: object, token: str) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._stub, method)

        def with_token(request: Any = None, *, timeout: float = 15.0, metadata: Metadata = (), **options: Any) -> Any:
            return call(request, timeout=timeout, metadata=(*self._metadata, *metadata), **options)

        return with_token

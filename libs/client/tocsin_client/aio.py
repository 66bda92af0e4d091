"""The client for asyncio. Make one in the running loop and keep it."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Self

import grpc
from tocsin.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from tocsin.credentials.v1.credential_service_pb2_grpc import CredentialServiceStub
from tocsin.escalation.v1.analytics_service_pb2_grpc import AnalyticsServiceStub
from tocsin.escalation.v1.calendar_service_pb2_grpc import CalendarServiceStub
from tocsin.escalation.v1.directory_service_pb2_grpc import DirectoryServiceStub
from tocsin.escalation.v1.follow_service_pb2_grpc import FollowServiceStub
from tocsin.escalation.v1.incident_service_pb2_grpc import IncidentServiceStub
from tocsin.escalation.v1.policy_service_pb2_grpc import PolicyServiceStub
from tocsin.escalation.v1.reminder_service_pb2_grpc import ReminderServiceStub
from tocsin.escalation.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from tocsin.escalation.v1.shift_notice_service_pb2_grpc import ShiftNoticeServiceStub
from tocsin.escalation.v1.watch_service_pb2_grpc import WatchServiceStub
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin.ingest.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.ingest.v1.integration_service_pb2_grpc import IntegrationServiceStub
from tocsin.ingest.v1.silence_service_pb2_grpc import SilenceServiceStub
from tocsin.limits.v1.limit_service_pb2_grpc import LimitServiceStub
from tocsin.notify.v1.contact_service_pb2_grpc import ContactServiceStub
from tocsin.notify.v1.digest_service_pb2_grpc import DigestServiceStub
from tocsin.notify.v1.message_service_pb2_grpc import MessageServiceStub
from tocsin.notify.v1.notification_service_pb2_grpc import NotificationServiceStub
from tocsin.notify.v1.recurring_message_service_pb2_grpc import RecurringMessageServiceStub
from tocsin.notify.v1.slack_group_service_pb2_grpc import SlackGroupServiceStub
from tocsin.notify.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from tocsin.notify.v1.template_service_pb2_grpc import TemplateServiceStub
from tocsin.outbox.v1.outbox_service_pb2_grpc import OutboxServiceStub
from tocsin.queue.v1.queue_service_pb2_grpc import QueueServiceStub

from tocsin_client.aio_alerts import send_alerts
from tocsin_client.aio_channel import AioClientChannel
from tocsin_client.alerts import BATCH, PATIENCE, AlertResult
from tocsin_client.connection import DEFAULT_TIMEOUT, SERVICE_CONFIG, Connection, Tls, Token

if TYPE_CHECKING:
    from tocsin.audit.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from tocsin.credentials.v1.credential_service_pb2_grpc import CredentialServiceAsyncStub
    from tocsin.escalation.v1.analytics_service_pb2_grpc import AnalyticsServiceAsyncStub
    from tocsin.escalation.v1.calendar_service_pb2_grpc import CalendarServiceAsyncStub
    from tocsin.escalation.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub
    from tocsin.escalation.v1.follow_service_pb2_grpc import FollowServiceAsyncStub
    from tocsin.escalation.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub
    from tocsin.escalation.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub
    from tocsin.escalation.v1.reminder_service_pb2_grpc import ReminderServiceAsyncStub
    from tocsin.escalation.v1.schedule_service_pb2_grpc import ScheduleServiceAsyncStub
    from tocsin.escalation.v1.shift_notice_service_pb2_grpc import ShiftNoticeServiceAsyncStub
    from tocsin.escalation.v1.watch_service_pb2_grpc import WatchServiceAsyncStub
    from tocsin.ingest.v1.alert_service_pb2_grpc import AlertServiceAsyncStub
    from tocsin.ingest.v1.integration_service_pb2_grpc import IntegrationServiceAsyncStub
    from tocsin.ingest.v1.silence_service_pb2_grpc import SilenceServiceAsyncStub
    from tocsin.limits.v1.limit_service_pb2_grpc import LimitServiceAsyncStub
    from tocsin.notify.v1.contact_service_pb2_grpc import ContactServiceAsyncStub
    from tocsin.notify.v1.digest_service_pb2_grpc import DigestServiceAsyncStub
    from tocsin.notify.v1.message_service_pb2_grpc import MessageServiceAsyncStub
    from tocsin.notify.v1.notification_service_pb2_grpc import NotificationServiceAsyncStub
    from tocsin.notify.v1.recurring_message_service_pb2_grpc import RecurringMessageServiceAsyncStub
    from tocsin.notify.v1.slack_group_service_pb2_grpc import SlackGroupServiceAsyncStub
    from tocsin.notify.v1.subscription_service_pb2_grpc import SubscriptionServiceAsyncStub
    from tocsin.notify.v1.template_service_pb2_grpc import TemplateServiceAsyncStub
    from tocsin.outbox.v1.outbox_service_pb2_grpc import OutboxServiceAsyncStub
    from tocsin.queue.v1.queue_service_pb2_grpc import QueueServiceAsyncStub


class AioClient:
    """Every public service of Tocsin as a typed, generated stub: `await client.incidents.GetIncident(request)`.

    `ingest`, `escalation` and `notify` are gRPC targets, such as `tocsin.example.com:7101` or `dns:///ingest:7101`;
    leave out those that are not used. A service is dialled by its first call. `tls=None` speaks plain text. `timeout`
    is the deadline of a unary call, in seconds, when the call names none. Calls raise `TocsinError`.
    """

    def __init__(
        self,
        *,
        token: Token,
        ingest: str = "",
        escalation: str = "",
        notify: str = "",
        tls: Tls | None = Tls(),  # noqa: B008 - it is immutable
        timeout: float = DEFAULT_TIMEOUT,
        service_config: str = SERVICE_CONFIG,
    ) -> None:
        targets = {"ingest": ingest, "escalation": escalation, "notify": notify}
        self._connection = Connection(targets, token, tls, timeout, service_config)
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up. Calls under way fail with `Cancelled`."""
        for channel in self._channels.values():
            await channel.close()

    def channel(self, service: str) -> grpc.aio.Channel:
        """The channel to `ingest`, `escalation` or `notify`, for stubs that have no property here.

        Raises ValueError when the client was made without the address of that service.
        """
        if service not in self._channels:
            target, tls, options = self._connection.target(service), self._connection.tls, self._connection.options()
            if tls is None:
                inner = grpc.aio.insecure_channel(target, options=options)
            else:
                inner = grpc.aio.secure_channel(target, tls.credentials(), options=options)
            self._channels[service] = AioClientChannel(inner, self._connection)
        return self._channels[service]

    @cached_property
    def alerts(self) -> "AlertServiceAsyncStub":
        """Alerts in, and what became of them."""
        return AlertServiceStub(self.channel("ingest"))

    @cached_property
    def integrations(self) -> "IntegrationServiceAsyncStub":
        """Who may send alerts, and how they are routed."""
        return IntegrationServiceStub(self.channel("ingest"))

    @cached_property
    def silences(self) -> "SilenceServiceAsyncStub":
        """Silences: alerts that page no one for some time."""
        return SilenceServiceStub(self.channel("ingest"))

    @cached_property
    def incidents(self) -> "IncidentServiceAsyncStub":
        """What responders see and do."""
        return IncidentServiceStub(self.channel("escalation"))

    @cached_property
    def watches(self) -> "WatchServiceAsyncStub":
        """Streams of what changes."""
        return WatchServiceStub(self.channel("escalation"))

    @cached_property
    def recurring_messages(self) -> "RecurringMessageServiceAsyncStub":
        """Messages that are sent again and again."""
        return RecurringMessageServiceStub(self.channel("notify"))

    @cached_property
    def digests(self) -> "DigestServiceAsyncStub":
        """What happened, once a day or a week, for those who want it."""
        return DigestServiceStub(self.channel("notify"))

    @cached_property
    def slack_groups(self) -> "SlackGroupServiceAsyncStub":
        """User groups of Slack that follow who is on call."""
        return SlackGroupServiceStub(self.channel("notify"))

    @cached_property
    def reminders(self) -> "ReminderServiceAsyncStub":
        """Who is reminded of which incident, and when."""
        return ReminderServiceStub(self.channel("escalation"))

    @cached_property
    def policies(self) -> "PolicyServiceAsyncStub":
        """Who is paged in which order."""
        return PolicyServiceStub(self.channel("escalation"))

    @cached_property
    def schedules(self) -> "ScheduleServiceAsyncStub":
        """Who is on call when."""
        return ScheduleServiceStub(self.channel("escalation"))

    @cached_property
    def follows(self) -> "FollowServiceAsyncStub":
        """Who hears of which incident without being paged for it."""
        return FollowServiceStub(self.channel("escalation"))

    @cached_property
    def shift_notices(self) -> "ShiftNoticeServiceAsyncStub":
        """What users are told of their shifts."""
        return ShiftNoticeServiceStub(self.channel("escalation"))

    @cached_property
    def analytics(self) -> "AnalyticsServiceAsyncStub":
        """Figures of incidents and pages."""
        return AnalyticsServiceStub(self.channel("escalation"))

    @cached_property
    def calendars(self) -> "CalendarServiceAsyncStub":
        """Calendar feeds: secret URLs for calendar programs."""
        return CalendarServiceStub(self.channel("escalation"))

    @cached_property
    def directory(self) -> "DirectoryServiceAsyncStub":
        """Users and teams."""
        return DirectoryServiceStub(self.channel("escalation"))

    @cached_property
    def credentials(self) -> "CredentialServiceAsyncStub":
        """Service accounts with their API keys; revoked tokens."""
        return CredentialServiceStub(self.channel("escalation"))

    @cached_property
    def contacts(self) -> "ContactServiceAsyncStub":
        """Contact methods and notification rules of users."""
        return ContactServiceStub(self.channel("notify"))

    @cached_property
    def messages(self) -> "MessageServiceAsyncStub":
        """Messages to users and addresses, at once and at a time."""
        return MessageServiceStub(self.channel("notify"))

    @cached_property
    def subscriptions(self) -> "SubscriptionServiceAsyncStub":
        """Systems that are told of incidents, and what was delivered to them."""
        return SubscriptionServiceStub(self.channel("notify"))

    @cached_property
    def templates(self) -> "TemplateServiceAsyncStub":
        """What messages say."""
        return TemplateServiceStub(self.channel("notify"))

    @cached_property
    def notifications(self) -> "NotificationServiceAsyncStub":
        """What became of pages; dead letters."""
        return NotificationServiceStub(self.channel("notify"))

    @cached_property
    def escalation_queues(self) -> "QueueServiceAsyncStub":
        """Figures and pause of escalation's queue."""
        return QueueServiceStub(self.channel("escalation"))

    @cached_property
    def notify_queues(self) -> "QueueServiceAsyncStub":
        """Figures and pause of notify's queue."""
        return QueueServiceStub(self.channel("notify"))

    @cached_property
    def ingest_audit(self) -> "AuditServiceAsyncStub":
        """Who changed what at ingest."""
        return AuditServiceStub(self.channel("ingest"))

    @cached_property
    def escalation_audit(self) -> "AuditServiceAsyncStub":
        """Who changed what at escalation."""
        return AuditServiceStub(self.channel("escalation"))

    @cached_property
    def notify_audit(self) -> "AuditServiceAsyncStub":
        """Who changed what at notify."""
        return AuditServiceStub(self.channel("notify"))

    @cached_property
    def ingest_outbox(self) -> "OutboxServiceAsyncStub":
        """Messages of ingest that the next service refused for good: list, redrive, discard."""
        return OutboxServiceStub(self.channel("ingest"))

    @cached_property
    def escalation_outbox(self) -> "OutboxServiceAsyncStub":
        """Messages of escalation that the next service refused for good: list, redrive, discard."""
        return OutboxServiceStub(self.channel("escalation"))

    @cached_property
    def notify_outbox(self) -> "OutboxServiceAsyncStub":
        """Messages of notify that the next service refused for good: list, redrive, discard."""
        return OutboxServiceStub(self.channel("notify"))

    @cached_property
    def ingest_limits(self) -> "LimitServiceAsyncStub":
        """What tenants may use of ingest: read, change, list."""
        return LimitServiceStub(self.channel("ingest"))

    @cached_property
    def escalation_limits(self) -> "LimitServiceAsyncStub":
        """What tenants may use of escalation: read, change, list."""
        return LimitServiceStub(self.channel("escalation"))

    @cached_property
    def notify_limits(self) -> "LimitServiceAsyncStub":
        """What tenants may use of notify: read, change, list."""
        return LimitServiceStub(self.channel("notify"))

    def send_alerts(
        self,
        requests: AsyncIterable[SendAlertRequest] | Iterable[SendAlertRequest],
        *,
        batch: int = BATCH,
        patience: float = PATIENCE,
    ) -> AsyncIterator[AlertResult]:
        """Send many alerts, in order, and give the result of each, in the same order. The iterable may be endless.

        Alerts go in batches of at most `batch` (1000): all that arrived while the last batch was under way. What is
        refused for now (overloaded, rate limited, unavailable) is sent again with the same `request_id` for `patience`
        seconds; the result then has the error. Raises TocsinError when a whole batch is refused for good, for example
        because of the credential.
        """
        return send_alerts(self.alerts, requests, batch, patience)

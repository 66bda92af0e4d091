"""The client for threads. One client may be used by any number of threads; make one and keep it."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Self

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

from tocsin_client.alerts import BATCH, PATIENCE, AlertResult, send_alerts
from tocsin_client.connection import DEFAULT_TIMEOUT, SERVICE_CONFIG, Connection, Tls, Token
from tocsin_client.sync_channel import ClientChannel


class Client:
    """Every public service of Tocsin as a typed, generated stub: `client.incidents.GetIncident(request)`.

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
        self._channels: dict[str, grpc.Channel] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. Calls under way fail with `Cancelled`."""
        for channel in self._channels.values():
            channel.close()

    def channel(self, service: str) -> grpc.Channel:
        """The channel to `ingest`, `escalation` or `notify`, for stubs that have no property here.

        Raises ValueError when the client was made without the address of that service.
        """
        if service not in self._channels:
            target, tls, options = self._connection.target(service), self._connection.tls, self._connection.options()
            if tls is None:
                inner = grpc.insecure_channel(target, options=options)
            else:
                inner = grpc.secure_channel(target, tls.credentials(), options=options)
            # Two threads may get here at once; the first one's channel stays.
            if self._channels.setdefault(service, channel := ClientChannel(inner, self._connection)) is not channel:
                channel.close()
        return self._channels[service]

    @cached_property
    def alerts(self) -> AlertServiceStub:
        """Alerts in, and what became of them."""
        return AlertServiceStub(self.channel("ingest"))

    @cached_property
    def integrations(self) -> IntegrationServiceStub:
        """Who may send alerts, and how they are routed."""
        return IntegrationServiceStub(self.channel("ingest"))

    @cached_property
    def silences(self) -> SilenceServiceStub:
        """Silences: alerts that page no one for some time."""
        return SilenceServiceStub(self.channel("ingest"))

    @cached_property
    def incidents(self) -> IncidentServiceStub:
        """What responders see and do."""
        return IncidentServiceStub(self.channel("escalation"))

    @cached_property
    def watches(self) -> WatchServiceStub:
        """Streams of what changes."""
        return WatchServiceStub(self.channel("escalation"))

    @cached_property
    def recurring_messages(self) -> RecurringMessageServiceStub:
        """Messages that are sent again and again."""
        return RecurringMessageServiceStub(self.channel("notify"))

    @cached_property
    def digests(self) -> DigestServiceStub:
        """What happened, once a day or a week, for those who want it."""
        return DigestServiceStub(self.channel("notify"))

    @cached_property
    def slack_groups(self) -> SlackGroupServiceStub:
        """User groups of Slack that follow who is on call."""
        return SlackGroupServiceStub(self.channel("notify"))

    @cached_property
    def reminders(self) -> ReminderServiceStub:
        """Who is reminded of which incident, and when."""
        return ReminderServiceStub(self.channel("escalation"))

    @cached_property
    def policies(self) -> PolicyServiceStub:
        """Who is paged in which order."""
        return PolicyServiceStub(self.channel("escalation"))

    @cached_property
    def schedules(self) -> ScheduleServiceStub:
        """Who is on call when."""
        return ScheduleServiceStub(self.channel("escalation"))

    @cached_property
    def follows(self) -> FollowServiceStub:
        """Who hears of which incident without being paged for it."""
        return FollowServiceStub(self.channel("escalation"))

    @cached_property
    def shift_notices(self) -> ShiftNoticeServiceStub:
        """What users are told of their shifts."""
        return ShiftNoticeServiceStub(self.channel("escalation"))

    @cached_property
    def analytics(self) -> AnalyticsServiceStub:
        """Figures of incidents and pages."""
        return AnalyticsServiceStub(self.channel("escalation"))

    @cached_property
    def calendars(self) -> CalendarServiceStub:
        """Calendar feeds: secret URLs for calendar programs."""
        return CalendarServiceStub(self.channel("escalation"))

    @cached_property
    def directory(self) -> DirectoryServiceStub:
        """Users and teams."""
        return DirectoryServiceStub(self.channel("escalation"))

    @cached_property
    def credentials(self) -> CredentialServiceStub:
        """Service accounts with their API keys; revoked tokens."""
        return CredentialServiceStub(self.channel("escalation"))

    @cached_property
    def contacts(self) -> ContactServiceStub:
        """Contact methods and notification rules of users."""
        return ContactServiceStub(self.channel("notify"))

    @cached_property
    def messages(self) -> MessageServiceStub:
        """Messages to users and addresses, at once and at a time."""
        return MessageServiceStub(self.channel("notify"))

    @cached_property
    def subscriptions(self) -> SubscriptionServiceStub:
        """Systems that are told of incidents, and what was delivered to them."""
        return SubscriptionServiceStub(self.channel("notify"))

    @cached_property
    def templates(self) -> TemplateServiceStub:
        """What messages say."""
        return TemplateServiceStub(self.channel("notify"))

    @cached_property
    def notifications(self) -> NotificationServiceStub:
        """What became of pages; dead letters."""
        return NotificationServiceStub(self.channel("notify"))

    @cached_property
    def escalation_queues(self) -> QueueServiceStub:
        """Figures and pause of escalation's queue."""
        return QueueServiceStub(self.channel("escalation"))

    @cached_property
    def notify_queues(self) -> QueueServiceStub:
        """Figures and pause of notify's queue."""
        return QueueServiceStub(self.channel("notify"))

    @cached_property
    def ingest_audit(self) -> AuditServiceStub:
        """Who changed what at ingest."""
        return AuditServiceStub(self.channel("ingest"))

    @cached_property
    def escalation_audit(self) -> AuditServiceStub:
        """Who changed what at escalation."""
        return AuditServiceStub(self.channel("escalation"))

    @cached_property
    def notify_audit(self) -> AuditServiceStub:
        """Who changed what at notify."""
        return AuditServiceStub(self.channel("notify"))

    @cached_property
    def ingest_outbox(self) -> OutboxServiceStub:
        """Messages of ingest that the next service refused for good: list, redrive, discard."""
        return OutboxServiceStub(self.channel("ingest"))

    @cached_property
    def escalation_outbox(self) -> OutboxServiceStub:
        """Messages of escalation that the next service refused for good: list, redrive, discard."""
        return OutboxServiceStub(self.channel("escalation"))

    @cached_property
    def notify_outbox(self) -> OutboxServiceStub:
        """Messages of notify that the next service refused for good: list, redrive, discard."""
        return OutboxServiceStub(self.channel("notify"))

    @cached_property
    def ingest_limits(self) -> LimitServiceStub:
        """What tenants may use of ingest: read, change, list."""
        return LimitServiceStub(self.channel("ingest"))

    @cached_property
    def escalation_limits(self) -> LimitServiceStub:
        """What tenants may use of escalation: read, change, list."""
        return LimitServiceStub(self.channel("escalation"))

    @cached_property
    def notify_limits(self) -> LimitServiceStub:
        """What tenants may use of notify: read, change, list."""
        return LimitServiceStub(self.channel("notify"))

    def send_alerts(
        self, requests: Iterable[SendAlertRequest], *, batch: int = BATCH, patience: float = PATIENCE
    ) -> Iterator[AlertResult]:
        """Send many alerts, in order, and give the result of each, in the same order. The iterable may be endless.

        Alerts go in batches of at most `batch` (1000): all that arrived while the last batch was under way. What is
        refused for now (overloaded, rate limited, unavailable) is sent again with the same `request_id` for `patience`
        seconds; the result then has the error. Raises TocsinError when a whole batch is refused for good, for example
        because of the credential.
        """
        return send_alerts(self.alerts, requests, batch, patience)

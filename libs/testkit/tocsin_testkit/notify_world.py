"""Notify by itself on real servers: whole replicas in this process, and an escalation that keeps what it is told."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration
from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import internal_service_pb2 as internal_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1.contact_service_pb2_grpc import ContactServiceStub
from tocsin.notify.v1.digest_service_pb2_grpc import DigestServiceStub
from tocsin.notify.v1.internal_service_pb2_grpc import NotifyInternalServiceStub
from tocsin.notify.v1.message_service_pb2_grpc import MessageServiceStub
from tocsin.notify.v1.notification_service_pb2_grpc import NotificationServiceStub
from tocsin.notify.v1.recurring_message_service_pb2_grpc import RecurringMessageServiceStub
from tocsin.notify.v1.slack_group_service_pb2_grpc import SlackGroupServiceStub
from tocsin.notify.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from tocsin.notify.v1.template_service_pb2_grpc import TemplateServiceStub
from tocsin.queue.v1.queue_service_pb2_grpc import QueueServiceStub
from tocsin.type.v1 import severity_pb2
from tocsin_kit.auth import JwtAuthenticator, SigningKeys, mint
from tocsin_kit.db.probe import Probe
from tocsin_kit.http import HttpServer
from tocsin_kit.ids import new_id
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.loops import Loops
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.health import Health, HealthCheck
from tocsin_kit.rpc.server import RpcServer
from tocsin_notify.settings import NotifySettings
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.wiring import build
from tocsin_stack.postgres import tenant_url

from tocsin_testkit.clock import clock_is_ahead
from tocsin_testkit.databases import dialed
from tocsin_testkit.fake_escalation import FakeEscalation
from tocsin_testkit.hooks import HookServer
from tocsin_testkit.inbox import Inbox
from tocsin_testkit.mail import MailServer

KEYS = "k1:" + "Ab3dEf6hIj9lMn" * 3 + "A"
SECRET = "a-secret-of-the-receiver"
ALL_SCOPES = (
    "contacts:read",
    "contacts:write",
    "messages:read",
    "messages:write",
    "notifications:read",
    "notifications:write",
    "subscriptions:read",
    "subscriptions:write",
    "templates:read",
    "templates:write",
    "queues:read",
    "queues:write",
)

CRITICAL = severity_pb2.SEVERITY_CRITICAL
WARNING = severity_pb2.SEVERITY_WARNING


class _Settings(NotifySettings):
    """What is given, and nothing of the environment: to look there for each of a hundred settings takes most of the time."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """See pydantic-settings."""
        return (init_settings,)


class NotifyWorld:
    """The servers around notify, and its database as its owner sees it."""

    def __init__(
        self,
        database_url: str,
        redis_url: str,
        admin: "asyncpg.Connection[asyncpg.Record]",
        inbox: Inbox,
        mail: MailServer,
        hooks: HookServer,
    ) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.admin = admin
        self.inbox = inbox
        self.mail = mail
        self.hooks = hooks
        self.escalation = FakeEscalation()  # type: ignore[abstract]

    @contextlib.asynccontextmanager
    async def replica(self, *, works: bool = True, **overrides: Any) -> AsyncIterator["Notify"]:
        """A replica that serves and works until the block ends, as `tocsin_kit.lifecycle.serve` makes it."""
        given: dict[str, Any] = {
            "REDIS_URL": SecretStr(self.redis_url),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": self.mail.port,
            "allow_private_webhooks": True,
            "backoff_base_seconds": 0.02,
            "backoff_cap_seconds": 0.05,
            "storm_pages": 0,  # floods are what many tests are about
            "shutdown_grace_seconds": 2.0,
            "ESCALATION_TARGET": f"127.0.0.1:{self.escalation.port}",
            **overrides,
        }
        settings: NotifySettings = _Settings(
            database_url=SecretStr(self.database_url),
            auth_signing_keys=SecretStr(KEYS),
            database_pool_size=8,
            **given,
        )
        stop = asyncio.Event()
        metrics = Metrics()
        login = tenant_url(self.database_url)
        database = await dialed(self.database_url, name="notify", tenant_url=login, size=8, metrics=metrics)
        health = Health((HealthCheck("database", Probe(database).check),), metrics)
        authenticators: list[Any] = [JwtAuthenticator(settings.signing_keys)]
        rpc = RpcServer(settings, authenticators=authenticators, metrics=metrics, health_checks=health)
        http = HttpServer(settings, metrics=metrics, health=health)
        loops = Loops(metrics)
        only = None if works else "serve"
        runtime = Runtime("notify", settings, metrics, database, authenticators, health, rpc, http, loops, stop, only)  # type: ignore[arg-type]
        service = await build(runtime)
        await rpc.start()
        await http.start()
        loops.add("health", health.run)
        calls_ended = asyncio.Event()
        loops.start(stop, works=works, calls_ended=calls_ended)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{rpc.port}") as channel:
            try:
                yield Notify(runtime, channel)
            finally:
                stop.set()
                await asyncio.gather(loops.join(settings.shutdown_grace_seconds), rpc.stop(1.0))
                await http.stop()
                calls_ended.set()
                await loops.join_everywhere(settings.shutdown_grace_seconds)
                for close in service.close:
                    await close()
                await database.close()

    async def method(
        self,
        org: str,
        user: str = "users/ana",
        *,
        webhook: str = "",
        email: str = "",
        verified: bool = True,
        disabled: bool = False,
        secret: str = "",
        **other: str,
    ) -> uuid.UUID:
        """A contact method, put straight into the table: a webhook at a path of `hooks`, an address, or the console.

        `other`: one channel and the address there, such as `sms="+49…"`.
        """
        id = new_id()
        channel, address = next(iter(other.items()), ("", ""))
        channel = channel or ("webhook" if webhook else "email" if email else "console")
        secret = secret or (SECRET if webhook else "")
        cipher = Cipher([key for _, key in SigningKeys.parse(KEYS).keys])
        await self.admin.execute(
            """INSERT INTO contact_methods (id, org_id, user_id, display_name, channel, address, secret, key_id, disabled,
                 verify_time)
               VALUES ($1, $2, $3, '', $4, $5, $6, $7, $8, CASE WHEN $9 THEN app_now() END)""",
            id,
            org,
            user,
            channel,
            self.hooks.url(webhook) if webhook else email or address,
            cipher.close(org, id, secret.encode()) if secret else None,
            "k1" if webhook else "",
            disabled,
            verified,
        )
        return id

    async def states(self, where: str = "true", *args: object) -> list[str]:
        """The states of notifications, oldest first."""
        rows = await self.admin.fetch(f"SELECT state FROM notifications WHERE {where} ORDER BY create_time, id", *args)
        return [row["state"] for row in rows]

    async def row(self, query: str, *args: object) -> asyncpg.Record:
        """One row of the database."""
        row = await self.admin.fetchrow(query, *args)
        assert row is not None
        return row

    async def forward(self, by: timedelta) -> None:
        """It is `by` later."""
        await self.admin.execute(clock_is_ahead(by))

    def arrived(self, path: str) -> int:
        """How many messages came to an address or path."""
        return sum(message.address == path for message in self.inbox.messages)


class Notify:
    """One replica and its stubs."""

    def __init__(self, runtime: Runtime[NotifySettings], channel: grpc.aio.Channel) -> None:
        self.runtime = runtime
        self.channel = channel
        self.internal: Any = NotifyInternalServiceStub(channel)
        self.contacts: Any = ContactServiceStub(channel)
        self.notifications: Any = NotificationServiceStub(channel)
        self.messages: Any = MessageServiceStub(channel)
        self.recurring_messages: Any = RecurringMessageServiceStub(channel)
        self.digests: Any = DigestServiceStub(channel)
        self.slack_groups: Any = SlackGroupServiceStub(channel)
        self.queues: Any = QueueServiceStub(channel)
        self.subscriptions: Any = SubscriptionServiceStub(channel)
        self.templates: Any = TemplateServiceStub(channel)

    async def submit(self, *jobs: pb.NotificationJob) -> int:
        """Hand over jobs; how many were new."""
        request = internal_pb.SubmitNotificationsRequest(jobs=jobs)
        return int((await self.internal.SubmitNotifications(request, metadata=internal())).stored)

    async def cancel(
        self,
        org: str,
        incident: uuid.UUID,
        generation: int = 1,
        reason: str = "acknowledged by users/ana",
        *,
        spares_lasting: bool = False,
        user: str = "",
    ) -> internal_pb.CancelNotificationsResponse:
        """Stop one incident's pages, or those of one user."""
        return await self.cancel_all(
            cancellation(org, incident, generation, reason, spares_lasting=spares_lasting, user=user)
        )

    async def cancel_all(self, *cancellations: internal_pb.Cancellation) -> internal_pb.CancelNotificationsResponse:
        """Several at once, as the relay sends them."""
        request = internal_pb.CancelNotificationsRequest(cancellations=cancellations)
        response: internal_pb.CancelNotificationsResponse = await self.internal.CancelNotifications(
            request, metadata=internal()
        )
        return response

    async def set_rules(self, org: str, user: str, *rules: tuple[int, uuid.UUID, float]) -> None:
        """(urgency, method, delay in seconds). They do it themselves: what others change is told to them."""
        request = contact_pb.UpdateNotificationRulesRequest(
            notification_rules=contact_pb.NotificationRules(
                user=user,
                rules=[
                    contact_pb.NotificationRule(
                        urgency=urgency,  # type: ignore[arg-type]
                        contact_method=f"contactMethods/{method}",
                        delay=Duration(seconds=int(delay)),
                    )
                    for urgency, method, delay in rules
                ],
            )
        )
        await self.contacts.UpdateNotificationRules(request, metadata=bearer(org, subject=user))


def cancellation(
    org: str,
    incident: uuid.UUID,
    generation: int = 1,
    reason: str = "acknowledged by users/ana",
    *,
    spares_lasting: bool = False,
    user: str = "",
) -> internal_pb.Cancellation:
    """An order to stop one incident's pages, or those of one user."""
    return internal_pb.Cancellation(
        org_id=org,
        incident=f"incidents/{incident}",
        generation=-1 if user else generation,
        reason=reason,
        spares_lasting=spares_lasting,
        own=internal_pb.OwnPages(user=user, generation=generation) if user else None,
    )


def job(
    org: str,
    incident: uuid.UUID | None = None,
    *,
    user: str = "users/ana",
    type: int = pb.NOTIFICATION_TYPE_NEW_INCIDENT,
    severity: int = CRITICAL,
    generation: int = 1,
    level: int = 1,
    **fields: Any,
) -> pb.NotificationJob:
    """A page."""
    made = pb.NotificationJob(
        page=f"pages/{new_id()}",
        org_id=org,
        type=type,  # type: ignore[arg-type]
        user=user,
        incident=f"incidents/{incident or new_id()}",
        title="Disk full on db-1",
        source="db-1",
        severity=severity,  # type: ignore[arg-type]
        level=level,
        generation=generation,
        **fields,
    )
    made.planned_time.GetCurrentTime()
    return made


def bearer(org: str, scopes: Sequence[str] = ALL_SCOPES, subject: str = "users/ana") -> tuple[tuple[str, str], ...]:
    """Metadata of a caller with a token."""
    token = mint(SigningKeys.parse(KEYS), org_id=org, subject=subject, scopes=scopes, ttl=600)
    return (("authorization", f"Bearer {token}"),)


def internal() -> tuple[tuple[str, str], ...]:
    """Metadata of another of Tocsin's services."""
    return bearer("*", ("internal",), "services/escalation")


def operator() -> tuple[tuple[str, str], ...]:
    """Metadata of a caller who may see all tenants."""
    return bearer("*", ALL_SCOPES, "operators/root")


def new_org() -> str:
    """A tenant that no other test uses."""
    return f"org-{uuid.uuid4().hex[:12]}"

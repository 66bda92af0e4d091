"""What all parts of this service are built from. A part of `wiring`, and the first one that is made."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc
from redis.exceptions import RedisError
from tocsin_kit.auth import TokenSource
from tocsin_kit.budgets import Budgets
from tocsin_kit.budgets.serving import share
from tocsin_kit.db.pool import Database
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.tls import client_credentials
from tocsin_kit.tasks.journal import Journal
from tocsin_timers import TimerBroker, TimerMetrics
from tocsin_timers.connections import Connections

from tocsin_notify.app.delivery.backlog import Backlog
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.looks import Looks
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.links import Links
from tocsin_notify.channels.registry import TYPES, Registry, close_channels, open_channels
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain.attempt import RetryPolicy
from tocsin_notify.domain.page import Channel
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.settings import NotifySettings
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.delivery.gate import Gate
from tocsin_notify.store.delivery.gatekeeper import Gatekeeper
from tocsin_notify.store.delivery.senders import Presence
from tocsin_notify.store.queues import QUEUE
from tocsin_notify.wiring.relays import OutcomeRelays
from tocsin_notify.work import tasks
from tocsin_notify.work.dead_stream import DeadStream
from tocsin_notify.work.mirrored_hints import MirroredHints

_REDIS_SECONDS: Final = 1.0
REDIS_ERRORS: Final[tuple[type[Exception], ...]] = (RedisError, OSError)
"""What Redis raises when it is away."""


@dataclass(frozen=True, slots=True)
class Wakes:
    """Events that end the wait of a loop before its sweep."""

    due: asyncio.Event = field(default_factory=asyncio.Event)
    """A notification is due."""
    message: asyncio.Event = field(default_factory=asyncio.Event)
    """A message is due."""
    sequel: asyncio.Event = field(default_factory=asyncio.Event)
    """There are more sequels than one round made."""


@dataclass(frozen=True, slots=True)
class Base:
    """One object per process."""

    runtime: Runtime[NotifySettings]
    metrics: NotifyMetrics
    wakes: Wakes
    policy: RetryPolicy
    cipher: Cipher
    callbacks: CallbackUrls
    links: Links
    page_tokens: PageTokens

    channels: Registry
    missing: Mapping[Channel, str]
    """Why no page can be sent through these channels: the settings that are missing."""

    gate: Gate
    gatekeeper: Gatekeeper
    presence: Presence

    broker: TimerBroker
    redis: Connections
    journal: Journal
    hints: MirroredHints

    to_escalation: grpc.aio.Channel
    escalation: Escalation
    relays: OutcomeRelays
    backlog: Backlog
    failures: Failures
    looks: Looks

    @property
    def settings(self) -> NotifySettings:
        """Of this process."""
        return self.runtime.settings

    @property
    def db(self) -> Database:
        """Of this service."""
        return self.runtime.database

    @property
    def budgets(self) -> Budgets:
        """Keep these equal to those of the same name in the other replicas."""
        return self.runtime.rpc.budgets

    def share(self, budgets: Budgets, name: str) -> None:
        """Keep these in step with those of this name in the other replicas."""
        share(self.runtime, budgets, self.redis.commands, name, REDIS_ERRORS)

    @property
    def close(self) -> Sequence[Callable[[], Awaitable[object]]]:
        """Closes everything, in this order, once no work is under way."""
        return (
            self.hints.mirror.close,
            self._close_channels,
            self.gate.close,
            self.gatekeeper.close,
            self.presence.close,
            self.redis.close,
            self.broker.shutdown,
            self.to_escalation.close,
        )

    async def _close_channels(self) -> None:
        await close_channels(self.channels)


async def open_base(runtime: Runtime[NotifySettings]) -> Base:
    """Connect to PostgreSQL; other connections are made when they are first used."""
    settings, db = runtime.settings, runtime.database
    metrics, wakes = NotifyMetrics(runtime.metrics.registry), Wakes()
    policy = RetryPolicy(
        settings.attempts,
        settings.backoff_base_seconds,
        settings.backoff_cap_seconds,
        window=settings.retry_window_seconds,
    )
    cipher = Cipher(settings.encryption_keys)
    callbacks = CallbackUrls(settings.public_url, cipher.link_keys, settings.mail_domain)
    to_escalation = channel(
        settings.escalation_target,
        service_name="escalation",
        tokens=TokenSource(settings.signing_keys, runtime.name),
        tls=client_credentials(settings),
    )
    escalation, backlog = Escalation(to_escalation), Backlog(wakes.due.set)
    relays = OutcomeRelays(runtime, escalation, to_escalation, busy=lambda: backlog.waits)
    database_url, max_age = settings.database_url.get_secret_value(), settings.database_connection_max_age_seconds
    gate, gatekeeper, presence = await asyncio.gather(
        Gate.open(database_url, name=runtime.name, max_age=max_age),
        Gatekeeper.open(database_url, name=runtime.name, max_age=max_age),
        Presence.open(database_url, name=runtime.name),
    )
    redis_url = settings.redis_url.get_secret_value()
    broker = TimerBroker(redis_url, queue=QUEUE, metrics=TimerMetrics(runtime.metrics.registry, QUEUE))
    redis = Connections.from_url(redis_url, command_timeout=_REDIS_SECONDS, block=0, circuit=broker.circuit)
    hints = MirroredHints(
        db,
        broker,
        tasks.register(broker, runtime.stop),
        DeadStream(db, metrics, broker),
        metrics,
        wakes.due.set if runtime.works else None,
        wakes.message.set if runtime.works else None,
    )
    return Base(
        runtime=runtime,
        metrics=metrics,
        wakes=wakes,
        policy=policy,
        cipher=cipher,
        callbacks=callbacks,
        links=Links(settings.public_url, cipher.link_keys, lifetime=settings.link_lifetime_seconds),
        page_tokens=PageTokens(settings.signing_keys),
        channels=open_channels(settings, callbacks),
        missing={channel: why for channel, row in TYPES.items() if (why := row.missing(settings))},
        gate=gate,
        gatekeeper=gatekeeper,
        presence=presence,
        broker=broker,
        redis=redis,
        journal=Journal(QUEUE, redis.commands, REDIS_ERRORS),
        hints=hints,
        to_escalation=to_escalation,
        escalation=escalation,
        relays=relays,
        backlog=backlog,
        failures=Failures(policy, metrics, hints, relays.nudge),
        looks=Looks(db, runtime.loops),
    )

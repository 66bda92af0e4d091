"""What the parts of escalation share. A part of `wiring`."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from redis.exceptions import RedisError
from tocsin_kit.auth import TokenSource
from tocsin_kit.db.pool import Database
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.live_streams import LiveStreams
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.tls import client_credentials
from tocsin_kit.tasks.journal import Journal
from tocsin_timers import TimerBroker, TimerMetrics
from tocsin_timers.connections import Connections

from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.gone_users import GoneUsers
from tocsin_escalation.app.watching.watch_incidents import Feeds
from tocsin_escalation.clients.notify import Notify
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.wiring.relays import Relays
from tocsin_escalation.work.change_hints import BLOCK_SECONDS, ChangeHints
from tocsin_escalation.work.mirrored_timers import MirroredTimers
from tocsin_escalation.work.page_sender import PageSender
from tocsin_escalation.work.tasks import NOTIFY_QUEUE, QUEUE, consume_with, register
from tocsin_escalation.work.timer_consumer import TimerConsumer

_REDIS_SECONDS: Final = 1.0
REDIS_ERRORS: Final[tuple[type[Exception], ...]] = (RedisError, OSError)
"""What Redis raises when it is away."""


@dataclass(frozen=True, slots=True)
class Base:
    """One object per process."""

    runtime: Runtime[EscalationSettings]
    metrics: EscalationMetrics
    page_tokens: PageTokens

    broker: TimerBroker
    notify_broker: TimerBroker
    redis: Connections
    blocking_redis: Connections
    """For reads that wait."""
    journal: Journal
    timers: MirroredTimers

    to_notify: grpc.aio.Channel
    to_ingest: grpc.aio.Channel
    notify: Notify
    relays: Relays
    page_sender: PageSender

    streams: LiveStreams
    feeds: Feeds
    hints: ChangeHints
    effects: Effects

    @property
    def settings(self) -> EscalationSettings:
        """Of this process."""
        return self.runtime.settings

    @property
    def db(self) -> Database:
        """Of this service."""
        return self.runtime.database

    @property
    def close(self) -> Sequence[Callable[[], Awaitable[object]]]:
        """Closes everything, in this order, once no work is under way."""
        return (
            self.timers.mirror.close,
            self.to_notify.close,
            self.to_ingest.close,
            self.redis.close,
            self.blocking_redis.close,
            self.notify_broker.shutdown,
            self.broker.shutdown,
        )


def open_base(runtime: Runtime[EscalationSettings]) -> Base:
    """Connections are made when they are first used."""
    settings, db = runtime.settings, runtime.database
    metrics = EscalationMetrics(runtime.metrics.registry)
    tokens, tls = TokenSource(settings.signing_keys, runtime.name), client_credentials(settings)
    to_notify = channel(settings.notify_target, service_name="notify", tokens=tokens, tls=tls)
    notify = Notify(to_notify, settings.cancel_timeout_seconds)
    relays = Relays(runtime, notify, to_notify)

    redis_url = settings.redis_url.get_secret_value()
    broker = TimerBroker(redis_url, QUEUE, metrics=TimerMetrics(runtime.metrics.registry, QUEUE))
    notify_broker = TimerBroker(redis_url, NOTIFY_QUEUE, circuit=broker.circuit)
    redis, blocking_redis = (
        Connections.from_url(redis_url, command_timeout=_REDIS_SECONDS, block=block, circuit=broker.circuit)
        for block in (0, BLOCK_SECONDS)
    )
    journal = Journal(QUEUE, redis.commands, REDIS_ERRORS)
    timers = MirroredTimers(db, broker, register(broker), metrics)
    page_sender = PageSender(notify_broker, notify)

    streams = LiveStreams(runtime.rpc.credentials, runtime.stop)
    feeds = Feeds(db, streams)
    hints = ChangeHints(feeds, blocking_redis)
    effects = Effects(timers, page_sender, relays.cancel, metrics, hints, relays.event, relays.notice, journal)
    consume_with(broker, TimerConsumer(db, effects))
    relays.delivery.follow_users = GoneUsers(db, effects)
    return Base(
        runtime=runtime,
        metrics=metrics,
        page_tokens=PageTokens(settings.signing_keys),
        broker=broker,
        notify_broker=notify_broker,
        redis=redis,
        blocking_redis=blocking_redis,
        journal=journal,
        timers=timers,
        to_notify=to_notify,
        to_ingest=channel(settings.ingest_target, service_name="ingest", tokens=tokens, tls=tls),
        notify=notify,
        relays=relays,
        page_sender=page_sender,
        streams=streams,
        feeds=feeds,
        hints=hints,
        effects=effects,
    )

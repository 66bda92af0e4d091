"""What the parts of ingest share. A part of `wiring`."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from redis.exceptions import RedisError
from tocsin_kit.auth import TokenSource
from tocsin_kit.batches import Batches
from tocsin_kit.budgets import OUTBOX_ROWS, Budgets, Limit, per_second
from tocsin_kit.db.outbox import Relay
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay import Sets
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.tls import client_credentials
from tocsin_kit.secret_boxes import Boxes, secret_keys
from tocsin_timers.connections import Connections

from tocsin_ingest.app.alerts.admission import ALERTS
from tocsin_ingest.app.alerts.commit_batch import CommitBatch, Entry
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.alerts.rate_limit import RateLimit
from tocsin_ingest.app.alerts.refusals import Refusals
from tocsin_ingest.app.alerts.send_alert import AlertIntake
from tocsin_ingest.app.alerts.signatures import PURPOSE
from tocsin_ingest.app.incidents.incident_records import IncidentRecords
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.app.integrations.heartbeats import Heartbeats
from tocsin_ingest.clients.escalation import Escalation
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.settings import IngestSettings
from tocsin_ingest.store.alerts.events import KINDS
from tocsin_ingest.work.relay import EventDelivery
from tocsin_ingest.work.substitute import substitute

_REDIS_SECONDS: Final = 1.0
REDIS_ERRORS: Final[tuple[type[Exception], ...]] = (RedisError, OSError)
"""What Redis raises when it is away."""
_APPLY_SECONDS: Final = 5.0
"""Within the share of a relay's lease that a delivery may take."""


@dataclass(frozen=True, slots=True)
class Base:
    """One object per process."""

    runtime: Runtime[IngestSettings]
    metrics: IngestMetrics
    page_tokens: PageTokens
    boxes: Boxes
    redis: Connections

    to_escalation: grpc.aio.Channel
    escalation: Escalation
    relay: Relay

    directory: Directory
    commits: Batches[Entry, bytes]
    limit: RateLimit
    times: IntakeTimes
    intake: AlertIntake
    heartbeats: Heartbeats
    refusals: Refusals

    @property
    def settings(self) -> IngestSettings:
        """Of this process."""
        return self.runtime.settings

    @property
    def db(self) -> Database:
        """Of this service."""
        return self.runtime.database

    @property
    def budgets(self) -> Budgets:
        """Of tenants."""
        return self.runtime.rpc.budgets

    @property
    def close(self) -> Sequence[Callable[[], Awaitable[object]]]:
        """Closes everything, in this order, once no work is under way."""
        return self.commits.drain, lambda: self.to_escalation.close(None), self.redis.close


def open_base(runtime: Runtime[IngestSettings]) -> Base:
    """Connections are made when they are first used."""
    settings, db, budgets = runtime.settings, runtime.database, runtime.rpc.budgets
    metrics = IngestMetrics(runtime.metrics.registry)
    to_escalation = channel(
        settings.escalation_target,
        service_name="escalation",
        tokens=TokenSource(settings.signing_keys, runtime.name),
        tls=client_credentials(settings),
    )
    escalation = Escalation(to_escalation, check_seconds=settings.policy_check_seconds, apply_seconds=_APPLY_SECONDS)
    relay = Relay(
        db,
        EventDelivery(escalation, IncidentRecords(db), metrics).deliver,
        kinds=KINDS,
        sets=Sets(max_bytes=settings.grpc_max_message_bytes // 2),
        channel=to_escalation,
        substitute=substitute,
        metrics=runtime.metrics,
    )
    boxes = Boxes(secret_keys(settings.secret_key, settings.signing_keys), PURPOSE)
    directory = Directory(db, metrics, boxes)
    commits: Batches[Entry, bytes] = Batches(
        CommitBatch(db, metrics, relay.nudge, relay.takes, relay.hand_over),
        most=settings.batch_size,
        waiting=settings.queue_capacity,
        lane=lambda entry: entry.org_id,
        alike=lambda entry: entry.message.key.bytes,
        at_once=min(settings.batch_lanes, settings.database_pool_size - 1),
    )
    metrics.watch_queue(lambda: commits.waiting)
    budgets.add(per_second(ALERTS, settings.tenant_alerts_per_second))
    budgets.add(Limit(OUTBOX_ROWS, settings.tenant_max_outbox_rows))
    limit = RateLimit(settings.rate_per_second, settings.rate_burst, runtime.metrics)
    times = IntakeTimes(db, lambda: runtime.health.serving, time.monotonic)
    intake = AlertIntake(directory, budgets, limit, commits, times)
    return Base(
        runtime=runtime,
        metrics=metrics,
        page_tokens=PageTokens(settings.signing_keys),
        boxes=boxes,
        redis=Connections.from_url(settings.redis_url.get_secret_value(), command_timeout=_REDIS_SECONDS, block=0),
        to_escalation=to_escalation,
        escalation=escalation,
        relay=relay,
        directory=directory,
        commits=commits,
        limit=limit,
        times=times,
        intake=intake,
        heartbeats=Heartbeats(db, directory, metrics, relay.nudge),
        refusals=Refusals(db, intake, metrics, time.monotonic),
    )

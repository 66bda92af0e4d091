"""The one place that says what is connected to what."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from redis.exceptions import RedisError
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin_kit.auditing import serve_audit
from tocsin_kit.auth import TokenSource
from tocsin_kit.batches import Batches
from tocsin_kit.budgets import OUTBOX_ROWS, Limit, per_second
from tocsin_kit.budgets.serving import serve_limits, share
from tocsin_kit.db.outbox import Relay
from tocsin_kit.db.relay import Sets
from tocsin_kit.db.relay_serving import serve_relay
from tocsin_kit.keys.record import RemoteKeyRecord
from tocsin_kit.keys.serving import serve_keys
from tocsin_kit.lifecycle import Runtime, Service
from tocsin_kit.loops import Sweep
from tocsin_kit.mail.server import MailServer
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.outbox_service import OutboxService
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.tls import client_credentials, server_context
from tocsin_kit.secret_boxes import Boxes, secret_keys
from tocsin_timers.connections import Connections

from tocsin_ingest.app.alerts.admission import ALERTS
from tocsin_ingest.app.alerts.commit_batch import CommitBatch, Entry
from tocsin_ingest.app.alerts.expire_alerts import EVERY as EXPIRE_EVERY
from tocsin_ingest.app.alerts.expire_alerts import ExpireAlerts
from tocsin_ingest.app.alerts.intake_times import EVERY as INTAKE_EVERY
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.alerts.look_again import EVERY as LOOK_EVERY
from tocsin_ingest.app.alerts.look_again import LookAgain
from tocsin_ingest.app.alerts.rate_limit import SERVICE, RateLimit
from tocsin_ingest.app.alerts.refusals import EVERY as REFUSALS_EVERY
from tocsin_ingest.app.alerts.refusals import Refusals
from tocsin_ingest.app.alerts.send_alert import AlertIntake
from tocsin_ingest.app.alerts.signatures import PURPOSE
from tocsin_ingest.app.alerts.simulate_alert import Simulation
from tocsin_ingest.app.incidents.incident_records import IncidentRecords
from tocsin_ingest.app.incidents.reconcile import Reconciler
from tocsin_ingest.app.incidents.resolve_quiet import QuietIncidents
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.app.integrations.heartbeats import EVERY as HEARTBEATS_EVERY
from tocsin_ingest.app.integrations.heartbeats import Heartbeats
from tocsin_ingest.clients.escalation import Escalation
from tocsin_ingest.http import heartbeat
from tocsin_ingest.http.body import Bodies
from tocsin_ingest.http.fetcher import Fetcher
from tocsin_ingest.http.routes import routes
from tocsin_ingest.mail.receiver import MailReceiver
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.rpc.alert_service import AlertService, call_refused
from tocsin_ingest.rpc.integration_service import IntegrationService
from tocsin_ingest.rpc.internal_service import IngestInternalService
from tocsin_ingest.rpc.silence_service import SilenceService
from tocsin_ingest.settings import IngestSettings
from tocsin_ingest.store.alerts.events import KINDS
from tocsin_ingest.work.relay import EventDelivery
from tocsin_ingest.work.retention import EVERY, Retention
from tocsin_ingest.work.substitute import substitute

_REDIS_SECONDS: Final = 1.0
_APPLY_SECONDS: Final = 5.0  # within the share of the lease that a delivery may take


async def build(runtime: Runtime[IngestSettings]) -> Service:
    """Everything ingest is made of."""
    settings, database = runtime.settings, runtime.database
    metrics = IngestMetrics(runtime.metrics.registry)
    pages = PageTokens(settings.signing_keys)

    to_escalation = channel(
        settings.escalation_target,
        service_name="escalation",
        tokens=TokenSource(settings.signing_keys, runtime.name),
        tls=client_credentials(settings),
    )
    escalation = Escalation(to_escalation, check_seconds=settings.policy_check_seconds, apply_seconds=_APPLY_SECONDS)
    relay = Relay(
        database,
        EventDelivery(escalation, IncidentRecords(database), metrics).deliver,
        kinds=KINDS,
        sets=Sets(max_bytes=settings.grpc_max_message_bytes // 2),
        channel=to_escalation,
        substitute=substitute,
        metrics=runtime.metrics,
    )

    reconciler = Reconciler(database, escalation, metrics, relay.nudge, grace=settings.reconcile_grace_seconds)
    boxes = Boxes(secret_keys(settings.secret_key, settings.signing_keys), PURPOSE)
    directory = Directory(database, metrics, boxes)
    commits: Batches[Entry, bytes] = Batches(
        CommitBatch(database, metrics, relay.nudge, relay.takes, relay.hand_over),
        most=settings.batch_size,
        waiting=settings.queue_capacity,
        lane=lambda entry: entry.org_id,
        alike=lambda entry: entry.message.key.bytes,
        at_once=min(settings.batch_lanes, settings.database_pool_size - 1),
    )
    metrics.watch_queue(lambda: commits.waiting)
    limit = RateLimit(settings.rate_per_second, settings.rate_burst, runtime.metrics)
    budgets = runtime.rpc.budgets
    budgets.add(per_second(ALERTS, settings.tenant_alerts_per_second))
    budgets.add(Limit(OUTBOX_ROWS, settings.tenant_max_outbox_rows))
    redis = Connections.from_url(settings.redis_url.get_secret_value(), command_timeout=_REDIS_SECONDS, block=0)
    times = IntakeTimes(database, lambda: runtime.health.serving, time.monotonic)
    intake = AlertIntake(directory, budgets, limit, commits, times)
    heartbeats = Heartbeats(database, directory, metrics, relay.nudge)

    # First: most callers hold a key, and to the others' authenticators it would be a token to take apart.
    runtime.authenticators.insert(0, directory)
    serve_keys(runtime, RemoteKeyRecord(to_escalation, "escalation"))
    runtime.rpc.add(
        AlertService(
            *(intake, heartbeats, Simulation(database, directory, budgets), escalation, database, pages),
            window=settings.stream_window,
            stop=runtime.stop,
        )
    )
    runtime.rpc.add(
        IntegrationService(database, escalation, directory, heartbeats, pages, budgets, settings.mail_domain, boxes)
    )
    quiet = QuietIncidents(database, metrics, relay.nudge)
    look_again = Sweep(LOOK_EVERY, LookAgain(database, directory, commits, metrics).round)

    def silences_changed(org_id: str) -> None:
        directory.silences_changed(org_id)
        look_again.nudge()

    runtime.rpc.add(SilenceService(database, pages, budgets, silences_changed))
    runtime.rpc.add(IngestInternalService(database, relay.nudge, reconciler))
    serve_limits(runtime, pages, redis.commands, (RedisError, OSError))
    share(runtime, limit.budgets, redis.commands, SERVICE, (RedisError, OSError))
    serve_audit(runtime, pages)
    OutboxService(
        *(database, pages, dict.fromkeys(KINDS, IncidentEvent), relay.nudge),
        destination="escalation",
        max_age=settings.outbox_max_age_seconds,
    ).add_to(runtime.rpc)
    close: list[Callable[[], Awaitable[object]]] = []
    refusals = Refusals(database, intake, metrics, time.monotonic)
    if runtime.serves:
        directory.watch_expired(refusals.key_expired)
        runtime.rpc.credentials.watch_elsewhere(refusals.used_elsewhere)
        fetcher = Fetcher()
        close.append(fetcher.close)
        bodies = Bodies(limit=settings.http_max_request_bytes, budget=settings.http_max_body_bytes)
        runtime.http.add_routes(routes(intake, times, directory, runtime.rpc, refusals, bodies, fetcher))
        runtime.rpc.watch_refused(partial(call_refused, times))
        runtime.loops.add("intake-times", Sweep(INTAKE_EVERY, times.round), everywhere=True)
        if settings.mail_listen:
            receiver = MailReceiver(
                *(settings.mail_domain, database, intake, times, directory, runtime.rpc.credentials, budgets, refusals)
            )
            tls = server_context(settings)
            mails = MailServer(settings.mail_listener, receiver, tls, metrics.mail_refused, runtime.stop)
            runtime.loops.add("mail", mails.run, everywhere=True)
            close.append(mails.close)
        runtime.http.add_routes(heartbeat.routes(heartbeats, times, directory, runtime.rpc))
    serve_relay(runtime, relay)
    runtime.loops.add("reconcile", Sweep(settings.reconcile_seconds, reconciler.round))
    runtime.loops.add("look-again", look_again)
    runtime.loops.add("quiet", Sweep(settings.quiet_seconds, quiet.round))
    expire = ExpireAlerts(database, metrics, relay.nudge)
    runtime.loops.add("endings", Sweep(EXPIRE_EVERY, expire.round))
    runtime.loops.add("heartbeats", Sweep(HEARTBEATS_EVERY, heartbeats.round))
    runtime.loops.add("refusals", Sweep(REFUSALS_EVERY, refusals.round))
    runtime.loops.add("retention", Sweep(EVERY, Retention(database, settings.retention_days).sweep))
    return Service(close=(*close, commits.drain, lambda: to_escalation.close(None), redis.close))

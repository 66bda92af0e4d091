"""Connects the parts of this service; no other package builds them."""

from datetime import timedelta
from typing import Final

from redis.exceptions import RedisError
from tocsin.notify.v1.incident_event_pb2 import IncidentEvent
from tocsin.notify.v1.internal_service_pb2 import Cancellation, UserChange
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.auditing import serve_audit
from tocsin_kit.auth import TokenSource
from tocsin_kit.budgets.serving import serve_limits
from tocsin_kit.keys.serving import serve_keys
from tocsin_kit.lifecycle import Runtime, Service
from tocsin_kit.loops import RETENTION_FIRST, Sweep
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.outbox_service import OutboxService
from tocsin_kit.rpc.outlets import Outlets
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.queue_service import QueueService
from tocsin_kit.rpc.tls import client_credentials
from tocsin_kit.tasks.journal import Journal
from tocsin_timers import TimerBroker, TimerMetrics, Worker
from tocsin_timers.connections import Connections

from tocsin_escalation.app.access.key_record import OwnKeyRecord
from tocsin_escalation.app.figures.count_figures import CountFigures
from tocsin_escalation.app.figures.summaries import Summaries
from tocsin_escalation.app.incidents.command import Commands
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.incident_events import EVENT
from tocsin_escalation.app.incidents.jobs import CANCEL, PAGE, USER
from tocsin_escalation.app.incidents.reconcile_pages import PageReconciler
from tocsin_escalation.app.notices.notice_jobs import NOTICE
from tocsin_escalation.app.notices.plan_notices import PlanNotices
from tocsin_escalation.app.notices.reminders import Remind
from tocsin_escalation.app.notices.send_notices import SendNotices
from tocsin_escalation.app.notices.tell_changes import TellChanges
from tocsin_escalation.app.queue_tasks import ReminderTasks, TimerTasks
from tocsin_escalation.app.resting import Resting
from tocsin_escalation.app.schedules import gaps
from tocsin_escalation.app.watching.watch_incidents import Feeds
from tocsin_escalation.app.watching.watch_on_call import OnCalls
from tocsin_escalation.clients.ingest import Ingest
from tocsin_escalation.clients.notify import Notify
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.rpc.analytics_service import AnalyticsService
from tocsin_escalation.rpc.credential_internal_service import CredentialInternalService
from tocsin_escalation.rpc.credential_service import CredentialService
from tocsin_escalation.rpc.directory_service import DirectoryService
from tocsin_escalation.rpc.follow_service import FollowService
from tocsin_escalation.rpc.incident_service import IncidentService
from tocsin_escalation.rpc.internal_service import EscalationInternalService
from tocsin_escalation.rpc.policy_service import PolicyService
from tocsin_escalation.rpc.reminder_service import ReminderService
from tocsin_escalation.rpc.schedule_service import ScheduleService
from tocsin_escalation.rpc.shift_notice_service import ShiftNoticeService
from tocsin_escalation.rpc.watch_service import WatchService
from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.store.incidents.timers import figures
from tocsin_escalation.wiring.calendars import serve_calendars
from tocsin_escalation.wiring.queue import follow_options, queue_options
from tocsin_escalation.wiring.relays import Relays
from tocsin_escalation.work.change_hints import BLOCK_SECONDS, ChangeHints
from tocsin_escalation.work.mirrored_timers import MirroredTimers
from tocsin_escalation.work.page_sender import PageSender
from tocsin_escalation.work.sweeps import Sweeps
from tocsin_escalation.work.tasks import NOTIFY_QUEUE, QUEUE, consume_with, register
from tocsin_escalation.work.timer_consumer import TimerConsumer

_REDIS_SECONDS: Final = 1.0


async def build(runtime: Runtime[EscalationSettings]) -> Service:
    """Escalation, from its settings."""
    settings, db = runtime.settings, runtime.database
    metrics = EscalationMetrics(runtime.metrics.registry)
    redis_url = settings.redis_url.get_secret_value()
    queue = TimerBroker(redis_url, QUEUE, metrics=TimerMetrics(runtime.metrics.registry, QUEUE))
    notify_queue = TimerBroker(redis_url, NOTIFY_QUEUE, circuit=queue.circuit)
    tokens = TokenSource(settings.signing_keys, runtime.name)
    tls = client_credentials(settings)
    notify_channel = channel(settings.notify_target, service_name="notify", tokens=tokens, tls=tls)
    ingest_channel = channel(settings.ingest_target, service_name="ingest", tokens=tokens, tls=tls)
    notify = Notify(notify_channel, settings.cancel_timeout_seconds)
    relays = Relays(runtime, notify, notify_channel)

    redis = Connections.from_url(redis_url, command_timeout=_REDIS_SECONDS, block=0, circuit=queue.circuit)
    journal = Journal(QUEUE, redis.commands, (RedisError, OSError))
    runtime.loops.add("journal", journal.run, everywhere=True)
    timers = MirroredTimers(db, queue, register(queue), metrics)
    page_sender = PageSender(notify_queue, notify)
    outlets = Outlets(runtime.rpc.credentials, runtime.stop)
    feeds, on_calls = Feeds(db, outlets), OnCalls(db, outlets)
    blocking_redis = Connections.from_url(
        redis_url, command_timeout=_REDIS_SECONDS, block=BLOCK_SECONDS, circuit=queue.circuit
    )
    hints = ChangeHints(feeds, blocking_redis)
    effects = Effects(timers, page_sender, relays.cancel, metrics, hints, journal)
    consume_with(queue, TimerConsumer(db, effects))

    commands = Commands(db, effects, notify, Ingest(ingest_channel))
    pages = PageTokens(settings.signing_keys)
    add = runtime.rpc.add
    add(IncidentService(db, commands, notify, pages))
    add(PolicyService(db, notify, pages, runtime.rpc.budgets, settings.gap_warning_days))
    add(ReminderService(db, pages, runtime.rpc.budgets))
    add(ScheduleService(db, pages, runtime.rpc.budgets, timedelta(seconds=settings.calendar_stale_seconds)))
    close_calendars = serve_calendars(runtime, metrics, pages)
    add(ShiftNoticeService(db, pages))
    add(FollowService(db))
    add(WatchService(feeds, on_calls, pages))
    summaries = Summaries(db)
    add(AnalyticsService(summaries))
    add(DirectoryService(db, pages, runtime.rpc.budgets))
    page_reconciler = PageReconciler(db, notify, effects, relays.page.nudge, grace=settings.reconcile_grace_seconds)
    add(EscalationInternalService(db, effects, summaries, notify, page_reconciler))
    record = OwnKeyRecord(db)
    serve_keys(runtime, record)
    add(CredentialService(db, pages, runtime.rpc.budgets, settings.auth_max_token_seconds))
    add(CredentialInternalService(record))
    kinds = (TimerTasks(effects), ReminderTasks())
    live = queue_options(settings)
    QueueService(db, QUEUE, figures, timers.mirror, kinds, pages, journal, live, runtime.stop).add_to(runtime.rpc)

    serve_limits(runtime, pages, blocking_redis.commands, (RedisError, OSError))
    serve_audit(runtime, pages)
    kept = {
        PAGE: NotificationJob,
        CANCEL: Cancellation,
        EVENT: IncidentEvent,
        NOTICE: NotificationJob,
        USER: UserChange,
    }
    max_age = settings.outbox_max_age_seconds
    OutboxService(db, pages, kept, relays.nudge, destination="notify", max_age=max_age).add_to(runtime.rpc)

    sweeps = Sweeps(db, effects, settings)
    worker = Worker(
        queue,
        concurrency=settings.worker_concurrency,
        rate_limit=settings.worker_rate_per_second or None,
        grace=settings.shutdown_grace_seconds,
    )
    follow_options(live, effects.retries, worker, journal)
    loops = runtime.loops
    loops.add("queue-options", live.sweep(db), everywhere=True)
    loops.add("page-sender", page_sender.run, everywhere=True)
    relays.add_loops(runtime)
    loops.add("watches", outlets.run, everywhere=True)
    loops.add("changes", feeds.run, everywhere=True)
    loops.add("on-calls", on_calls.run, everywhere=True)
    loops.add("tell-changes", hints.tell, everywhere=True)
    if runtime.serves:
        loops.add("hear-changes", hints.hear, everywhere=True)
    loops.add("timers", worker.run)
    loops.add("overdue", Sweep(settings.sweep_seconds, sweeps.fire_overdue))
    loops.add("reminders", Sweep(settings.sweep_seconds, Remind(db, effects).everything))
    loops.add("notice-plans", Sweep(settings.notice_look_seconds, Resting(PlanNotices(db).look).soon))
    loops.add("shift-changes", Sweep(settings.notice_look_seconds, Resting(TellChanges(db, metrics).look).soon))
    loops.add("notices", Sweep(1.0, SendNotices(db, metrics, settings.notices_per_second, relays.notice.nudge).round))
    loops.add("redis-watch", Sweep(1.0, timers.mirror.watch))
    loops.add("rearm", Sweep(settings.rearm_ahead_seconds / 3, sweeps.rearm_soon))
    loops.add("audit", Sweep(30.0, sweeps.audit))
    loops.add("figures", Sweep(5.0, sweeps.measure))
    loops.add("reconcile-pages", Sweep(settings.reconcile_seconds, page_reconciler.round))
    loops.add("gaps", Sweep(300.0, gaps.Watch(db, metrics, settings.gap_warning_days).look))
    loops.add("counting", Sweep(settings.counting_seconds, CountFigures(db).everything))
    loops.add("retention", Sweep(600.0, sweeps.forget, first=RETENTION_FIRST))
    return Service(
        close=(
            commands.close,
            timers.mirror.close,
            notify_channel.close,
            ingest_channel.close,
            redis.close,
            blocking_redis.close,
            close_calendars,
            notify_queue.shutdown,
            queue.shutdown,
        )
    )

"""Connects the parts of this service; no other package builds them."""

from datetime import timedelta

from tocsin.notify.v1.incident_event_pb2 import IncidentEvent
from tocsin.notify.v1.internal_service_pb2 import Cancellation, UserChange
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.auditing import serve_audit
from tocsin_kit.budgets.serving import serve_limits
from tocsin_kit.keys.serving import serve_keys
from tocsin_kit.lifecycle import Runtime, Service
from tocsin_kit.loops import RETENTION_FIRST, Sweep
from tocsin_kit.rpc.outbox_service import OutboxService

from tocsin_escalation.app.access.key_record import OwnKeyRecord
from tocsin_escalation.app.figures.count_figures import CountFigures
from tocsin_escalation.app.figures.summaries import Summaries
from tocsin_escalation.app.incidents.command import Commands
from tocsin_escalation.app.incidents.incident_events import EVENT
from tocsin_escalation.app.incidents.jobs import CANCEL, PAGE, USER
from tocsin_escalation.app.incidents.reconcile_pages import PageReconciler
from tocsin_escalation.app.notices.notice_jobs import NOTICE
from tocsin_escalation.app.notices.plan_notices import PlanNotices
from tocsin_escalation.app.notices.reminders import Remind
from tocsin_escalation.app.notices.send_notices import SendNotices
from tocsin_escalation.app.notices.tell_changes import TellChanges
from tocsin_escalation.app.paced_work import PacedWork
from tocsin_escalation.app.schedules import gaps
from tocsin_escalation.app.watching.watch_on_call import OnCalls
from tocsin_escalation.clients.ingest import Ingest
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
from tocsin_escalation.wiring.base import REDIS_ERRORS, Base, open_base
from tocsin_escalation.wiring.calendars import serve_calendars
from tocsin_escalation.wiring.queue import serve_queue
from tocsin_escalation.work.sweeps import Sweeps

_OUTBOX = {PAGE: NotificationJob, CANCEL: Cancellation, EVENT: IncidentEvent, NOTICE: NotificationJob, USER: UserChange}


async def build(runtime: Runtime[EscalationSettings]) -> Service:
    """Escalation, from its settings."""
    base = open_base(runtime)
    commands = Commands(base.db, base.effects, base.notify, Ingest(base.to_ingest))
    _serve_incidents(base, commands)
    _serve_watches(base)
    _serve_people(base)
    close_calendars = serve_calendars(runtime, base.metrics, base.page_tokens)
    _serve_credentials(base)
    _serve_what_every_service_has(base)
    serve_queue(base)
    _add_sweeps(base)
    _add_notices(base)
    return Service(close=(commands.close, *base.close, close_calendars))


def _serve_incidents(base: Base, commands: Commands) -> None:
    """What responders do and ask, and what the other services tell."""
    add, loops, summaries = base.runtime.rpc.add, base.runtime.loops, Summaries(base.db)
    reconciler = PageReconciler(
        base.db, base.notify, base.effects, base.relays.page.nudge, grace=base.settings.reconcile_grace_seconds
    )
    add(IncidentService(base.db, commands, base.notify, base.page_tokens))
    add(AnalyticsService(summaries))
    add(EscalationInternalService(base.db, base.effects, summaries, base.notify, reconciler))
    loops.add("page-sender", base.page_sender.run, everywhere=True)
    loops.add("reconcile-pages", Sweep(base.settings.reconcile_seconds, reconciler.round))


def _serve_watches(base: Base) -> None:
    """Streams of what changes."""
    loops, on_calls = base.runtime.loops, OnCalls(base.db, base.streams)
    base.runtime.rpc.add(WatchService(base.feeds, on_calls, base.page_tokens))
    loops.add("watches", base.streams.run, everywhere=True)
    loops.add("changes", base.feeds.run, everywhere=True)
    loops.add("on-calls", on_calls.run, everywhere=True)
    loops.add("tell-changes", base.hints.tell, everywhere=True)
    if base.runtime.serves:
        loops.add("hear-changes", base.hints.hear, everywhere=True)


def _serve_people(base: Base) -> None:
    """Who is paged, and when."""
    add, db, pages, budgets = base.runtime.rpc.add, base.db, base.page_tokens, base.runtime.rpc.budgets
    add(DirectoryService(db, pages, budgets))
    add(PolicyService(db, base.notify, pages, budgets, base.settings.gap_warning_days))
    add(ScheduleService(db, pages, budgets, timedelta(seconds=base.settings.calendar_stale_seconds)))
    add(ReminderService(db, pages, budgets))
    add(ShiftNoticeService(db, pages))
    add(FollowService(db))


def _serve_credentials(base: Base) -> None:
    """API keys of all services, and what was revoked."""
    runtime, record = base.runtime, OwnKeyRecord(base.db)
    serve_keys(runtime, record)
    runtime.rpc.add(
        CredentialService(base.db, base.page_tokens, runtime.rpc.budgets, base.settings.auth_max_token_seconds)
    )
    runtime.rpc.add(CredentialInternalService(record))


def _serve_what_every_service_has(base: Base) -> None:
    runtime = base.runtime
    serve_limits(runtime, base.page_tokens, base.blocking_redis.commands, REDIS_ERRORS)
    serve_audit(runtime, base.page_tokens)
    OutboxService(
        *(base.db, base.page_tokens, _OUTBOX, base.relays.nudge),
        destination="notify",
        max_age=base.settings.outbox_max_age_seconds,
    ).add_to(runtime.rpc)
    base.relays.add_loops(runtime)


def _add_sweeps(base: Base) -> None:
    """What is due without a hint, what is counted, and what is deleted."""
    settings, loops, sweeps = base.settings, base.runtime.loops, Sweeps(base.db, base.effects, base.settings)
    loops.add("overdue", Sweep(settings.sweep_seconds, sweeps.fire_overdue))
    loops.add("redis-watch", Sweep(1.0, base.timers.mirror.watch))
    loops.add("rearm", Sweep(settings.rearm_ahead_seconds / 3, sweeps.rearm_soon))
    loops.add("audit", Sweep(30.0, sweeps.audit))
    loops.add("figures", Sweep(5.0, sweeps.measure))
    loops.add("gaps", Sweep(300.0, gaps.Watch(base.db, base.metrics, settings.gap_warning_days).look))
    loops.add("counting", Sweep(settings.counting_seconds, CountFigures(base.db).everything))
    loops.add("retention", Sweep(600.0, sweeps.forget, first=RETENTION_FIRST))


def _add_notices(base: Base) -> None:
    """Reminders, and what users are told of their shifts."""
    settings, db, metrics, loops = base.settings, base.db, base.metrics, base.runtime.loops
    loops.add("reminders", Sweep(settings.sweep_seconds, Remind(db, base.effects).everything))
    loops.add("notice-plans", Sweep(settings.notice_look_seconds, PacedWork(PlanNotices(db).look).run))
    loops.add("shift-changes", Sweep(settings.notice_look_seconds, PacedWork(TellChanges(db, metrics).look).run))
    send = SendNotices(db, metrics, settings.notices_per_second, base.relays.notice.nudge)
    loops.add("notices", Sweep(1.0, send.round))

"""Connects the parts of this service. No other package builds objects of the service."""

import asyncio
from typing import Final

from tocsin.escalation.v1.internal_service_pb2 import PageOutcome
from tocsin_kit.auditing import serve_audit
from tocsin_kit.budgets.serving import serve_limits
from tocsin_kit.keys.record import RemoteKeyRecord
from tocsin_kit.keys.serving import serve_keys
from tocsin_kit.lifecycle import Runtime, Service, Sweep
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import RETENTION_FIRST
from tocsin_kit.rpc.outbox_service import OutboxService
from tocsin_timers import Worker

from tocsin_notify.app.contacts.user_changes import UserChanges
from tocsin_notify.app.messages.wordings import Wordings
from tocsin_notify.rpc.internal_service import NotifyInternalService
from tocsin_notify.settings import NotifySettings
from tocsin_notify.store.delivery.outcomes import KINDS
from tocsin_notify.wiring.answers import Answering
from tocsin_notify.wiring.base import REDIS_ERRORS, Base, open_base
from tocsin_notify.wiring.board import serve_board
from tocsin_notify.wiring.delivery import Delivering
from tocsin_notify.wiring.digests import serve_digests
from tocsin_notify.wiring.events import Events
from tocsin_notify.wiring.mail import serve_mail_replies
from tocsin_notify.wiring.messages import serve_messages
from tocsin_notify.wiring.people import serve_people
from tocsin_notify.wiring.queue import serve_queue
from tocsin_notify.wiring.slack_groups import serve_slack_groups
from tocsin_notify.wiring.templates import serve_templates
from tocsin_notify.work.gauges import Gauges
from tocsin_notify.work.retention import Retention

_log = get_logger(__name__)

WORKER_GRACE: Final = 2.0
"""Seconds for tasks of the stream to end at a stop: each stores a row, and a task that does not end is given back."""


async def build(runtime: Runtime[NotifySettings]) -> Service:
    """Everything of this service, ready to start."""
    base = await open_base(runtime)
    people, wordings = serve_people(base), Wordings(base.db, base.metrics)
    delivery, events = Delivering(base, people.contacts, wordings), Events(base)
    users = UserChanges(base.db, base.failures, base.hints)
    runtime.rpc.add(NotifyInternalService(base.db, delivery.intake, delivery.cancel, events.publish, users))
    serve_messages(base)
    serve_digests(base)
    serve_templates(base, wordings)
    serve_slack_groups(base)
    serve_queue(base, delivery.slots)
    events.serve()
    answering = Answering(base, people, delivery.cancel, delivery.first)
    if base.settings.public_url and runtime.serves:
        answering.add_routes()
    elif base.settings.twilio_account.sid and not base.settings.public_url:
        _log.warning("no_receipts", remedy="set NOTIFY_PUBLIC_URL, so that providers can tell what became of messages")
    close_mails = serve_mail_replies(base, answering.presses) if runtime.serves else []
    close_board = serve_board(runtime)
    _serve_what_every_service_has(base)
    delivery.add_loops()
    _add_loops(base, delivery, events)

    base.broker.is_worker_process = True
    await (
        base.broker.startup()
    )  # started here, so that the end of the worker does not close what the other loops still use
    return Service((*delivery.drains, *base.close, events.close, answering.close, close_board, *close_mails))


def _serve_what_every_service_has(base: Base) -> None:
    runtime = base.runtime
    serve_keys(runtime, RemoteKeyRecord(base.to_escalation, "escalation"))
    serve_limits(runtime, base.page_tokens, base.redis.commands, REDIS_ERRORS)
    serve_audit(runtime, base.page_tokens)
    OutboxService(
        *(base.db, base.page_tokens, dict.fromkeys(KINDS, PageOutcome), base.relays.nudge_all),
        destination="escalation",
        max_age=base.settings.outbox_max_age_seconds,
    ).add_to(runtime.rpc)
    base.relays.add_loops(runtime)


def _add_loops(base: Base, delivery: Delivering, events: Events) -> None:
    settings, loops = base.settings, base.runtime.loops

    async def wind_down(stopping: asyncio.Event) -> None:
        """Start no more work, and let calls end."""
        await stopping.wait()
        delivery.stop_starting()
        events.sender.stopping = True
        await asyncio.gather(delivery.drain_calls(), events.drain())

    retention = Retention(
        base.db,
        days=settings.retention_days,
        fence_days=settings.fence_retention_days,
        event_days=settings.event_retention_days,
    )
    loops.add("calls", wind_down)
    loops.add("redis-watch", Sweep(1.0, base.hints.mirror.watch))
    loops.add("figures", Sweep(5.0, Gauges(base.db, base.metrics)))
    loops.add("retention", Sweep(300.0, retention, first=RETENTION_FIRST))
    loops.add("worker", Worker(base.broker, concurrency=settings.worker_concurrency, grace=WORKER_GRACE).run)

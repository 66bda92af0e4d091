"""What is connected to what. Nothing else in this service builds anything."""

import asyncio
from typing import Final

from redis.exceptions import RedisError
from tocsin.escalation.v1.internal_service_pb2 import PageOutcome
from tocsin_kit.auditing import serve_audit
from tocsin_kit.auth import TokenSource
from tocsin_kit.budgets import per_minute
from tocsin_kit.budgets.serving import serve_limits, share
from tocsin_kit.db.outbox import Relay
from tocsin_kit.keys.record import RemoteKeyRecord
from tocsin_kit.keys.serving import serve_keys
from tocsin_kit.lifecycle import Runtime, Service, Sweep
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import RETENTION_FIRST
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.health import HealthCheck
from tocsin_kit.rpc.outbox_service import OutboxService
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.tls import client_credentials
from tocsin_kit.tasks.journal import Journal
from tocsin_timers import TimerBroker, TimerMetrics, Worker
from tocsin_timers.connections import Connections

from tocsin_notify.app.answers.presses import Presses
from tocsin_notify.app.answers.whole_bundles import WholeBundles
from tocsin_notify.app.contacts.code_limits import SERVICE as CODES
from tocsin_notify.app.contacts.code_limits import CodeLimits
from tocsin_notify.app.contacts.contacts import Contacts
from tocsin_notify.app.contacts.owner_notices import OwnerNotices
from tocsin_notify.app.contacts.user_changes import UserChanges
from tocsin_notify.app.delivery.around import Around
from tocsin_notify.app.delivery.backlog import Backlog
from tocsin_notify.app.delivery.calls import Calls
from tocsin_notify.app.delivery.circuits import Circuits, Provider
from tocsin_notify.app.delivery.conclude import Conclude
from tocsin_notify.app.delivery.deliver import Deliver
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.journal_notes import begun
from tocsin_notify.app.delivery.looks import Looks
from tocsin_notify.app.delivery.missing_receipts import MissingReceipts
from tocsin_notify.app.delivery.outcomes import Outcomes
from tocsin_notify.app.delivery.provider_rates import SERVICE, ProviderRates
from tocsin_notify.app.delivery.receipts import Receipts
from tocsin_notify.app.delivery.redrive import Redrive
from tocsin_notify.app.delivery.sequels import Sequels
from tocsin_notify.app.delivery.slots import NOTIFICATIONS, Limits, Slots
from tocsin_notify.app.delivery.still_wanted import StillWanted
from tocsin_notify.app.delivery.vanished import Vanished
from tocsin_notify.app.messages.groups import DivideGroups
from tocsin_notify.app.messages.messages import Messages, limits
from tocsin_notify.app.messages.recurring import Recur, RecurringMessages
from tocsin_notify.app.messages.release import Release
from tocsin_notify.app.messages.wordings import Wordings
from tocsin_notify.app.pages.bundles import Bundles
from tocsin_notify.app.pages.cancel import Cancel
from tocsin_notify.app.pages.intake import Intake
from tocsin_notify.app.pages.submit import Submit
from tocsin_notify.channels.base import Vetting
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.links import Links
from tocsin_notify.channels.registry import TYPES, close_channels, open_channels
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.clients.responders import Responders
from tocsin_notify.domain.attempt import RetryPolicy
from tocsin_notify.domain.circuit import CircuitPolicy
from tocsin_notify.domain.provider_rates import read_rates
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.rpc.contact_service import ContactService
from tocsin_notify.rpc.internal_service import NotifyInternalService
from tocsin_notify.rpc.message_service import MessageService
from tocsin_notify.rpc.notification_service import NotificationService
from tocsin_notify.rpc.recurring_message_service import RecurringMessageService
from tocsin_notify.settings import NotifySettings
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.delivery.gate import Gate
from tocsin_notify.store.delivery.gatekeeper import Gatekeeper
from tocsin_notify.store.delivery.outcomes import KINDS
from tocsin_notify.store.delivery.senders import LOOK_SECONDS, Presence
from tocsin_notify.store.queues import QUEUE
from tocsin_notify.wiring.answers import Inside, serve_answers
from tocsin_notify.wiring.board import serve_board
from tocsin_notify.wiring.digests import add_digests
from tocsin_notify.wiring.events import Events
from tocsin_notify.wiring.mail import serve_mail_replies
from tocsin_notify.wiring.queue import serve_queue
from tocsin_notify.wiring.slack_groups import add_slack_groups
from tocsin_notify.wiring.templates import serve_templates
from tocsin_notify.work import tasks
from tocsin_notify.work.arrivals import Arrivals
from tocsin_notify.work.dead_stream import DeadStream
from tocsin_notify.work.gauges import Gauges
from tocsin_notify.work.mirrored_hints import MirroredHints
from tocsin_notify.work.relay import OutcomeDelivery
from tocsin_notify.work.retention import Retention

_log = get_logger(__name__)

_REDIS_SECONDS: Final = 1.0
WORKER_GRACE: Final = 2.0
"""Seconds for tasks of the stream to end at a stop: they store a row, and what does not end is given back."""


async def build(runtime: Runtime[NotifySettings]) -> Service:
    """Everything of this service, ready to start."""
    settings, db, stop = runtime.settings, runtime.database, runtime.stop
    metrics = NotifyMetrics(runtime.metrics.registry)
    policy = RetryPolicy(settings.attempts, settings.backoff_base, settings.backoff_cap, window=settings.retry_window)
    to_escalation = channel(
        settings.escalation_target,
        service_name="escalation",
        tokens=TokenSource(settings.signing_keys, runtime.name),
        tls=client_credentials(settings),
    )
    something_due, message_due, more_sequels = asyncio.Event(), asyncio.Event(), asyncio.Event()
    nudge = something_due.set
    backlog = Backlog(nudge)
    escalation = Escalation(to_escalation)
    relay = Relay(
        db,
        OutcomeDelivery(escalation).deliver,
        kinds=KINDS,
        max_bytes=settings.grpc_max_message_bytes // 2,
        channel=to_escalation,
        metrics=runtime.metrics,
        max_age=settings.outbox_max_age_seconds,
        busy=lambda: backlog.waits,  # in a storm, pages go before what is told of those that went
    )
    failures = Failures(policy, metrics, relay.nudge)
    twilio = settings.twilio_account
    cipher = Cipher(settings.encryption_keys)
    callbacks = CallbackUrls(settings.public_url, cipher.link_keys, settings.mail_domain)
    channels = open_channels(settings, callbacks)
    database_url, max_age = settings.database_url.get_secret_value(), settings.database_connection_max_age_seconds
    gate, gatekeeper, presence = await asyncio.gather(
        Gate.open(database_url, name=runtime.name, max_age=max_age),
        Gatekeeper.open(database_url, name=runtime.name, max_age=max_age),
        Presence.open(database_url, name=runtime.name),
    )
    broker = TimerBroker(
        settings.redis_url.get_secret_value(), queue=QUEUE, metrics=TimerMetrics(runtime.metrics.registry, QUEUE)
    )
    shared = Connections.from_url(
        settings.redis_url.get_secret_value(), command_timeout=_REDIS_SECONDS, block=0, circuit=broker.circuit
    )
    journal = Journal(QUEUE, shared.commands, (RedisError, OSError))
    runtime.loops.add("journal", journal.run, everywhere=True)
    budgets = runtime.rpc.budgets
    budgets.add(per_minute(NOTIFICATIONS, settings.tenant_notifications_per_minute))
    for limit in limits(settings.tenant_addressed_messages_per_minute, settings.tenant_scheduled_messages):
        budgets.add(limit)
    circuits = Circuits(
        CircuitPolicy(
            settings.circuit_failures,
            probe=settings.circuit_probe,
            probe_cap=max(60.0, settings.circuit_probe),
            longest=settings.attempt_timeout + 5,
        ),
        metrics,
        nudge,
    )
    missing = {channel: why for channel, row in TYPES.items() if (why := row.missing(settings))}
    rates = ProviderRates(
        {channel: rate for channel, rate in read_rates(settings.provider_rates).items() if channel not in missing},
        runtime.metrics,
    )
    if rates:
        share(runtime, rates.budgets, shared.commands, SERVICE, (RedisError, OSError))
    slots = Slots(
        Limits(
            settings.concurrency,
            settings.critical_reserve,
            settings.org_concurrency,
            settings.org_rate,
            settings.org_burst,
        ),
        {name: channel.concurrency for name, channel in channels.items()},
        budgets,
        lambda channel: circuits.is_open(Provider(channel)),
        rates,
    )
    hints = MirroredHints(
        db,
        broker,
        tasks.register(broker, stop),
        DeadStream(db, metrics, broker),
        metrics,
        nudge if runtime.works else None,
        message_due.set if runtime.works else None,
    )
    around = Around(db, circuits, hints, metrics, policy)
    notices = OwnerNotices(cipher, hints, budgets)
    contacts = Contacts(
        db,
        cipher,
        hints,
        failures,
        notices,
        allow_private_webhooks=settings.allow_private_webhooks,
        missing=missing,
        vetting={name: each for name, each in channels.items() if isinstance(each, Vetting)},
    )
    conclude = Conclude(db, hints, metrics, failures, policy, circuits, around, contacts.gone, notes=journal)
    outcomes = Outcomes(conclude, stop)
    links = Links(settings.public_url, cipher.link_keys, lifetime=settings.link_lifetime)
    wordings = Wordings(db, metrics)
    calls = Calls(
        channels,
        gate,
        slots,
        outcomes.finished,
        metrics,
        circuits,
        timeout=settings.attempt_timeout + 2,
        link=links.of,
        word=wordings.word,
        hung_after=settings.attempt_timeout * 0.9,
        backlog=backlog,
        begins=lambda start: journal.note(begun(start)),
    )
    submit = Submit(
        gate,
        calls,
        slots,
        cipher,
        hints,
        metrics,
        circuits,
        lease=settings.lease,
        presence=presence,
        nudge=relay.nudge,
        bundling=settings.bundling,
        notes=journal,
    )
    cancel = Cancel(db, gatekeeper, hints, metrics)
    deliver = Deliver(
        db,
        gate,
        calls,
        slots,
        cipher,
        hints,
        metrics,
        failures,
        policy,
        around,
        lease=settings.lease,
        presence=presence,
        backlog=backlog,
        still_wanted=StillWanted(db, escalation.stops, cancel),
    )
    release = Release(
        db, calls, slots, cipher, circuits, hints, metrics, deliver.first, settings.lease, presence, journal
    )
    events = Events(db, cipher, budgets, metrics, settings, escalation.open_feeds, message_due.set)
    intake = Intake(submit, deliver.first)
    arrivals = Arrivals(intake, deliver, message_due.set)
    tasks.take_with(broker, arrivals)
    submit.stopping = not runtime.works

    async def wind_down(stopping: asyncio.Event) -> None:
        """Start nothing more, let calls end, and write down how."""
        await stopping.wait()
        deliver.stopping = submit.stopping = release.stopping = events.sender.stopping = True
        await asyncio.gather(drain_calls(), drain_events())

    async def drain_calls() -> None:
        await calls.drain(settings.shutdown_grace_seconds * 0.8)

    async def drain_events() -> None:
        await events.sender.drain(settings.shutdown_grace_seconds * 0.5)

    page_tokens = PageTokens(settings.signing_keys)
    code_limits = CodeLimits(cipher.code_key, runtime.metrics)
    share(runtime, code_limits.budgets, shared.commands, CODES, (RedisError, OSError))
    countries = frozenset(filter(None, settings.message_countries.split(",")))
    # Without a credential of this service: each call shows that of the person who answers.
    to_responders = channel(settings.escalation_target, service_name="escalation", tls=client_credentials(settings))
    responders = Responders(to_responders, settings.signing_keys)
    receipts, whole = Receipts(db, failures, hints, metrics), WholeBundles(db, responders)
    presses = Presses(db, responders, receipts, whole)
    inside = Inside(
        *(failures, hints, metrics, contacts, notices, cipher, budgets, code_limits), receipts, whole, presses
    )
    if settings.public_url and runtime.serves:
        serve_answers(runtime, inside, responders, channels, callbacks, links)
    close_mails = serve_mail_replies(runtime, inside, channels, callbacks) if runtime.serves else []
    if twilio.sid and not settings.public_url:
        _log.warning("no_receipts", remedy="set NOTIFY_PUBLIC_URL, so that providers can tell what became of messages")
    close_board = serve_board(runtime)
    add = runtime.rpc.add
    add(NotifyInternalService(db, intake, cancel, events.publish, UserChanges(db, failures, hints)))
    add(ContactService(db, contacts, cipher, hints, page_tokens, budgets, notices, settings.bundling, code_limits))
    messages = Messages(hints, budgets, countries=countries, missing=missing, notes=journal)
    add(RecurringMessageService(db, RecurringMessages(messages, budgets), page_tokens, escalation))
    add(MessageService(db, messages, page_tokens, escalation))
    redrive = Redrive(hints, metrics, tasks.jobs_reader(broker))
    add(NotificationService(db, redrive, page_tokens))
    events.serve(runtime.rpc, page_tokens)
    looks = Looks(db, runtime.loops)
    add_digests(runtime, db, escalation, hints, metrics, page_tokens, looks, journal)
    add_slack_groups(runtime, db, escalation, channels, metrics, page_tokens, looks)
    serve_templates(runtime, wordings, page_tokens)
    serve_queue(runtime, hints, redrive, page_tokens, journal, policy, slots, nudge_relay=relay.nudge, resumed=nudge)
    serve_keys(runtime, RemoteKeyRecord(to_escalation, "escalation"))
    serve_limits(runtime, page_tokens, shared.commands, (RedisError, OSError))
    serve_audit(runtime, page_tokens)
    OutboxService(
        *(db, page_tokens, dict.fromkeys(KINDS, PageOutcome), relay.nudge),
        destination="escalation",
        max_age=settings.outbox_max_age_seconds,
    ).add_to(runtime.rpc)
    runtime.health.add(HealthCheck("outbox", relay.watch.check, critical=False))
    runtime.health.add(HealthCheck("providers", circuits.check, critical=False))

    sequels = Sequels(db, channels, cipher, timeout=settings.attempt_timeout, more=more_sequels.set)
    retention = Retention(
        db,
        days=settings.retention_days,
        fence_days=settings.fence_retention_days,
        event_days=settings.event_retention_days,
    )
    loops = runtime.loops
    loops.add("due", Sweep(1.0, deliver.everything, nudged=something_due))
    loops.add("messages", looks.sweep("messages", release.everything, nudged=message_due))
    loops.add("group-messages", looks.sweep("messages", DivideGroups(db, escalation, hints, metrics).everything))
    loops.add("bundles", looks.sweep("bundles", Bundles(db, hints, metrics, failures, settings.bundling, journal)))
    vanished = Vanished(db, presence.key, nudge, lambda: presence.judges, notes=journal)
    loops.add("vanished", Sweep(LOOK_SECONDS, vanished))
    loops.add("recurring-messages", looks.sweep("recurring_messages", Recur(db, hints, journal).everything))
    if settings.public_url and (twilio.sid or settings.vapid.private_key):
        loops.add("receipts", looks.sweep("receipts", MissingReceipts(db, failures, hints, settings.receipt_timeout)))
    loops.add("sequels", looks.sweep("sequels", sequels, nudged=more_sequels))
    events.add_loops(loops, looks)
    loops.add("calls", wind_down)
    loops.add("relay", relay.run, everywhere=True)
    loops.add("redis-watch", Sweep(1.0, hints.mirror.watch))
    loops.add("figures", Sweep(5.0, Gauges(db, metrics)))
    loops.add("retention", Sweep(300.0, retention, first=RETENTION_FIRST))
    loops.add("worker", Worker(broker, concurrency=settings.worker_concurrency, grace=WORKER_GRACE).run)

    broker.is_worker_process = True
    await broker.startup()  # by us, so that the worker's end does not close what the other loops still use

    async def close_all_channels() -> None:
        await close_channels(channels)

    async def drain_sequels() -> None:
        await sequels.drain(settings.shutdown_grace_seconds * 0.2)

    # Calls once more: a page that was being stored when the stop came has started its call since.
    taken_in = (arrivals.drain, drain_calls, outcomes.drain, drain_sequels)
    return Service(
        (
            *taken_in,
            hints.mirror.close,
            close_all_channels,
            events.close,
            gate.close,
            gatekeeper.close,
            presence.close,
            shared.close,
            broker.shutdown,
            to_escalation.close,
            to_responders.close,
            close_board,
            *close_mails,
        )
    )

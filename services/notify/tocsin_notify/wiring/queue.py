"""The queue as operators see it, connected. A part of `wiring`."""

from datetime import timedelta

from tocsin.queue.v1.queue_options_pb2 import QueueOptions
from tocsin_kit.budgets import Budgets
from tocsin_kit.rpc.queue_service import QueueService
from tocsin_kit.tasks.journal import KEPT, Journal
from tocsin_kit.tasks.options import LiveOptions
from tocsin_kit.tasks.queue import Queue

from tocsin_notify.app.delivery.redrive import Redrive
from tocsin_notify.app.delivery.slots import NOTIFICATIONS, Slots
from tocsin_notify.app.queue_tasks import DeadLetterTasks, MessageTasks, NotificationTasks
from tocsin_notify.domain.attempt import RetryPolicy
from tocsin_notify.rpc.notification_service import NotificationService
from tocsin_notify.store.queues import QUEUE, figures
from tocsin_notify.wiring.base import Base
from tocsin_notify.work import tasks


def serve_queue(base: Base, slots: Slots) -> None:
    """NotificationService and QueueService, and the loop that reads the queue's options again."""
    settings, db, budgets, journal = base.settings, base.db, base.budgets, base.journal
    defaults = QueueOptions(
        attempts=settings.attempts,
        keep_completed=KEPT,
        keep_failed=KEPT,
        rate_per_minute=settings.tenant_notifications_per_minute,
        concurrency=settings.concurrency,
        urgent_reserve=settings.critical_reserve,
    )
    defaults.backoff.FromTimedelta(timedelta(seconds=settings.backoff_base_seconds))
    defaults.most_backoff.FromTimedelta(timedelta(seconds=settings.backoff_cap_seconds))

    live = LiveOptions(QUEUE, defaults)
    follow_options(live, base.policy, slots, budgets, journal)
    loops = base.runtime.loops
    loops.add("journal", journal.run, everywhere=True)
    loops.add("queue-options", live.sweep(db), everywhere=True)
    redrive = Redrive(base.hints, base.metrics, tasks.jobs_reader(base.broker))
    base.runtime.rpc.add(NotificationService(db, redrive, base.page_tokens))
    kinds = (NotificationTasks(base.hints, base.relays.nudge), MessageTasks(base.hints), DeadLetterTasks(redrive))
    queue = Queue(QUEUE, base.hints.mirror, figures, kinds, journal, live, resumed=base.wakes.due.set)
    QueueService(db, queue, base.page_tokens, base.runtime.stop).add_to(base.runtime.rpc)


def follow_options(live: LiveOptions, policy: RetryPolicy, slots: Slots, budgets: Budgets, journal: Journal) -> None:
    """Change these whenever the options change."""

    def apply(options: QueueOptions) -> None:
        policy.attempts = options.attempts
        policy.base = options.backoff.ToTimedelta().total_seconds()
        policy.cap = options.most_backoff.ToTimedelta().total_seconds()
        slots.resize(options.concurrency, options.urgent_reserve)
        budgets.set_default(NOTIFICATIONS, options.rate_per_minute)
        journal.keep(options.keep_completed, options.keep_failed)

    live.follow(apply)

"""The queue as operators see it, connected. A part of `wiring`."""

from collections.abc import Callable
from datetime import timedelta

from tocsin.queue.v1.queue_options_pb2 import QueueOptions
from tocsin_kit.budgets import Budgets
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.queue_service import QueueService
from tocsin_kit.tasks.journal import KEPT, Journal
from tocsin_kit.tasks.options import LiveOptions

from tocsin_notify.app.delivery.redrive import Redrive
from tocsin_notify.app.delivery.slots import NOTIFICATIONS, Slots
from tocsin_notify.app.queue_tasks import DeadLetterTasks, MessageTasks, NotificationTasks
from tocsin_notify.domain.attempt import RetryPolicy
from tocsin_notify.settings import NotifySettings
from tocsin_notify.store.queues import QUEUE, figures
from tocsin_notify.work.mirrored_hints import MirroredHints


def serve_queue(
    runtime: Runtime[NotifySettings],
    hints: MirroredHints,
    redrive: Redrive,
    pages: PageTokens,
    journal: Journal,
    policy: RetryPolicy,
    slots: Slots,
    *,
    nudge_relay: Callable[[], None],
    resumed: Callable[[], None],
) -> None:
    """QueueService, and the loop that reads the queue's options again."""
    settings, budgets = runtime.settings, runtime.rpc.budgets
    defaults = QueueOptions(
        attempts=settings.attempts,
        keep_completed=KEPT,
        keep_failed=KEPT,
        rate_per_minute=settings.tenant_notifications_per_minute,
        concurrency=settings.concurrency,
        urgent_reserve=settings.critical_reserve,
    )
    defaults.backoff.FromTimedelta(timedelta(seconds=settings.backoff_base))
    defaults.most_backoff.FromTimedelta(timedelta(seconds=settings.backoff_cap))

    live = LiveOptions(QUEUE, defaults)
    follow_options(live, policy, slots, budgets, journal)
    runtime.loops.add("queue-options", live.sweep(runtime.database), everywhere=True)
    kinds = (NotificationTasks(hints, nudge_relay), MessageTasks(hints), DeadLetterTasks(redrive))
    QueueService(
        runtime.database, QUEUE, figures, hints.mirror, kinds, pages, journal, live, runtime.stop, resumed=resumed
    ).add_to(runtime.rpc)


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

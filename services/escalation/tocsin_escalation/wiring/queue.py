"""The queue of timers: who works on it, what operators see of it, and its options. A part of `wiring`."""

from datetime import timedelta

from tocsin.queue.v1.queue_options_pb2 import QueueOptions
from tocsin_kit.rpc.queue_service import QueueService
from tocsin_kit.tasks.journal import KEPT, Journal
from tocsin_kit.tasks.options import LiveOptions
from tocsin_kit.tasks.queue import Queue
from tocsin_timers import Worker

from tocsin_escalation.app.incidents.effects import TimerRetries
from tocsin_escalation.app.queue_tasks import ReminderTasks, TimerTasks
from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.store.incidents.timers import figures
from tocsin_escalation.wiring.base import Base
from tocsin_escalation.work.tasks import QUEUE


def serve_queue(base: Base) -> None:
    """The worker, QueueService, and the loop that reads the queue's options again."""
    settings, db, loops = base.settings, base.db, base.runtime.loops
    worker = Worker(
        base.broker,
        concurrency=settings.worker_concurrency,
        rate_limit=settings.worker_rate_per_second or None,
        grace=settings.shutdown_grace_seconds,
    )
    live = queue_options(settings)
    follow_options(live, base.effects.retries, worker, base.journal)
    kinds = (TimerTasks(base.effects), ReminderTasks())
    queue = Queue(QUEUE, base.timers.mirror, figures, kinds, base.journal, live)
    QueueService(db, queue, base.page_tokens, base.runtime.stop).add_to(base.runtime.rpc)
    loops.add("journal", base.journal.run, everywhere=True)
    loops.add("queue-options", live.sweep(db), everywhere=True)
    loops.add("timers", worker.run)


def queue_options(settings: EscalationSettings) -> LiveOptions:
    """With the defaults. Timers have no rate by tenant: a timer that waited for one would page late."""
    first = TimerRetries()
    defaults = QueueOptions(
        attempts=first.attempts,
        keep_completed=KEPT,
        keep_failed=KEPT,
        concurrency=settings.worker_concurrency,
    )
    defaults.backoff.FromTimedelta(timedelta(seconds=first.backoff))
    defaults.most_backoff.FromTimedelta(timedelta(seconds=first.most_backoff))
    return LiveOptions(QUEUE, defaults)


def follow_options(live: LiveOptions, retries: TimerRetries, worker: Worker, journal: Journal) -> None:
    """Change these whenever the options change."""

    def apply(options: QueueOptions) -> None:
        retries.attempts = options.attempts
        retries.backoff = options.backoff.ToTimedelta().total_seconds()
        retries.most_backoff = options.most_backoff.ToTimedelta().total_seconds()
        worker.resize(options.concurrency)
        journal.keep(options.keep_completed, options.keep_failed)

    live.follow(apply)

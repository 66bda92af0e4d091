"""The options of escalation's queue: their defaults from the settings, and the effect of a change by an operator."""

from datetime import timedelta

from tocsin.queue.v1.queue_options_pb2 import QueueOptions
from tocsin_kit.tasks.journal import KEPT, Journal
from tocsin_kit.tasks.options import LiveOptions
from tocsin_timers import Worker

from tocsin_escalation.app.incidents.effects import TimerRetries
from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.work.tasks import QUEUE


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

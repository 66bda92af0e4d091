"""What notify counts, beside what every service counts."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENESS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class NotifyMetrics:
    """Attempts, pages, digests and subscriptions, in the process's one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter("tocsin_notify_attempts", "Attempts ended", ("channel", "outcome"), registry=registry)
        self.send_seconds = Histogram(
            "tocsin_notify_send_seconds", "Time inside a channel", ("channel",), buckets=_SECONDS, registry=registry
        )
        self.lateness = Histogram(
            "tocsin_notify_page_lateness_seconds",
            "From the level's planned time to the provider's yes; rules' delays are part of it",
            buckets=_LATENESS,
            registry=registry,
        )
        self.receipts = Counter(
            "tocsin_notify_receipts",
            "What providers said later of messages they took",
            ("channel", "evidence"),
            registry=registry,
        )
        self.mail_replies = Counter(
            "tocsin_notify_mail_replies",
            "Replies to mails of pages: done, unclear, automatic, to an unknown address, or why nothing was done",
            ("result",),
            registry=registry,
        )
        self.mail_refused = Counter(
            "tocsin_notify_mail_refused",
            "SMTP connections and mails told to come again by a limit: connections, mails",
            ("limit",),
            registry=registry,
        )
        self.pages = Counter("tocsin_notify_pages", "Jobs handed over", ("outcome",), registry=registry)
        self.dead_letters = Counter("tocsin_notify_dead_letters", "Given up", ("reason",), registry=registry)
        self.template_faults = Counter(
            "tocsin_notify_template_faults",
            "Texts of messages whose template failed, so that the default text was sent",
            ("channel",),
            registry=registry,
        )
        self.bundles = Counter(
            "tocsin_notify_bundles", "Messages that stood for several pages of one person", registry=registry
        )
        self.digests = Counter(
            "tocsin_notify_digests",
            "Digests that were due: made, empty, or left out",
            ("outcome",),
            registry=registry,
        )
        self.slack_groups = Counter(
            "tocsin_notify_slack_groups",
            "What came of telling Slack who is on call: set, disabled, or failed",
            ("outcome",),
            registry=registry,
        )
        self.cancelled = Counter("tocsin_notify_cancelled", "Notifications stopped", registry=registry)
        self.crossed = Counter(
            "tocsin_notify_crossed", "Calls that were under way when their incident was stopped", registry=registry
        )
        self.queue = Gauge(
            "tocsin_notify_queue", "Notifications: pending, overdue, sending", ("state",), registry=registry
        )
        self.slow_retries = Gauge(
            "tocsin_notify_slow_retries",
            "Notifications that no provider takes at present; they are tried on",
            registry=registry,
        )
        self.oldest_overdue_seconds = Gauge(
            "tocsin_notify_oldest_overdue_seconds",
            "How long the oldest due notification that is no digest has waited",
            registry=registry,
        )
        self.dead_waiting = Gauge(
            "tocsin_notify_dead_letters_waiting", "Dead letters that are not redriven", registry=registry
        )
        self.circuits_open = Gauge(
            "tocsin_notify_circuits_open",
            "Providers that fail for many: pages go around them, in this process",
            ("channel",),
            registry=registry,
        )
        self.circuits_opened = Counter(
            "tocsin_notify_circuits_opened",
            "Times a provider was found to fail for many",
            ("channel",),
            registry=registry,
        )
        self.went_around = Counter(
            "tocsin_notify_went_around",
            "Notifications whose page took another method at once because their provider fails for many",
            ("channel",),
            registry=registry,
        )
        self.calls = Gauge("tocsin_notify_calls", "Provider calls under way in this process", registry=registry)
        self.events = Counter(
            "tocsin_notify_events",
            "Requests to subscriptions: taken, failed; and deliveries given up",
            ("outcome",),
            registry=registry,
        )
        self.event_seconds = Histogram(
            "tocsin_notify_event_seconds", "Time of a request to a subscription", buckets=_SECONDS, registry=registry
        )
        self.events_lost = Counter(
            "tocsin_notify_events_lost",
            "Events that a subscription is not told of: too many wait, or it was stopped",
            registry=registry,
        )
        self.subscriptions_stopped = Counter(
            "tocsin_notify_subscriptions_stopped", "Subscriptions stopped after a long failure", registry=registry
        )
        self.redis_available = Gauge("tocsin_notify_redis_available", "1 while Redis answers", registry=registry)
        self.hints_dropped = Counter(
            "tocsin_notify_hints_dropped",
            "Timers that could not be armed; the sweep finds their rows",
            registry=registry,
        )

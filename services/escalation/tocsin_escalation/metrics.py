"""What escalation measures of itself, beside the kit's metrics."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENESS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300)


class EscalationMetrics:
    """Transitions, pages and timer lateness."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.timer_lateness = Histogram(
            "tocsin_escalation_timer_lateness_seconds",
            "From a timer's due time to its decision, by the database's clock; way: redis or sweep",
            ["way"],
            buckets=LATENESS_BUCKETS,
            registry=registry,
        )
        self.events = Counter("tocsin_escalation_timeline", "Timeline entries by kind", ["kind"], registry=registry)
        self.pages = Counter("tocsin_escalation_pages", "Pages asked of notify by type", ["type"], registry=registry)
        self.exhausted = Counter(
            "tocsin_escalation_exhausted", "Incidents that nobody answered: a person must look", registry=registry
        )
        self.nobody_paged = Counter(
            "tocsin_escalation_nobody_paged",
            "Incidents none of whose pages reached a person: a person must look",
            registry=registry,
        )
        self.gaps_met = Counter(
            "tocsin_escalation_gaps_met",
            "Levels that found nobody because of a gap in a schedule; choice: skip, hold or fallback",
            ["choice"],
            registry=registry,
        )
        self.gaps_ahead = Gauge(
            "tocsin_escalation_gaps_ahead",
            "Schedules named by policies that have a gap within ESCALATION_GAP_WARNING_DAYS",
            registry=registry,
        )
        self.calendars_read = Counter(
            "tocsin_escalation_calendars_read",
            "Readings of calendars that schedules import; outcome: read or failed",
            ["outcome"],
            registry=registry,
        )
        self.calendars_stale = Gauge(
            "tocsin_escalation_calendars_stale",
            "Calendars that schedules import and that could not be read for ESCALATION_CALENDAR_STALE_SECONDS",
            registry=registry,
        )
        self.shift_notices = Counter(
            "tocsin_escalation_shift_notices",
            "Notices of shifts that were due; outcome: sent, skipped, moved (another user has the shift) or failed",
            ["outcome"],
            registry=registry,
        )
        self.timers_failed = Counter("tocsin_escalation_timers_failed", "Timer firings that raised", registry=registry)
        self.timers_keep_failing = Counter(
            "tocsin_escalation_timers_keep_failing",
            "Timers that failed as often as the option `attempts` of the queue says; they are tried on",
            registry=registry,
        )
        self.timers_not_armed = Counter(
            "tocsin_escalation_timers_not_armed",
            "Timers that could not be armed in Redis; the sweep fires their rows",
            registry=registry,
        )
        self.timers_missing = Gauge(
            "tocsin_escalation_timers_missing",
            "Running escalations without a live timer, repaired; must be 0",
            registry=registry,
        )
        self.queue = Gauge(
            "tocsin_escalation_queue", "Timers: delayed and overdue in PostgreSQL", ["state"], registry=registry
        )
        self.oldest_overdue_seconds = Gauge(
            "tocsin_escalation_oldest_overdue_seconds", "How long the oldest due timer has waited", registry=registry
        )
        self.redis_available = Gauge(
            "tocsin_escalation_redis_available", "1 while timers can be armed in Redis", registry=registry
        )

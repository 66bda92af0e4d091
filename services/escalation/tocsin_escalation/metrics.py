"""What escalation measures of itself, beside the kit's metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENESS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300)


class EscalationMetrics:
    """Transitions, pages and timer lateness."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.timer_lateness = Histogram(
            "escalation_timer_lateness_seconds",
            "From a timer's due time to its decision, by the database's clock",
            ["way"],
            buckets=LATENESS_BUCKETS,
            registry=registry,
        )
        self.events = Counter("escalation_timeline_total", "Timeline entries by kind", ["kind"], registry=registry)
        self.pages = Counter("escalation_pages_total", "Pages asked of notify by type", ["type"], registry=registry)
        self.exhausted = Counter(
            "escalation_exhausted_total", "Incidents that nobody answered: somebody must look", registry=registry
        )
        self.nobody_paged = Counter(
            "escalation_nobody_paged_total",
            "Incidents that could page nobody at all: somebody must look",
            registry=registry,
        )
        self.timers_failed = Counter("escalation_timers_failed_total", "Timer firings that raised", registry=registry)
        self.timers_missing = Gauge(
            "escalation_timers_missing",
            "Running escalations without a live timer, repaired; must be 0",
            registry=registry,
        )
        self.redis_available = Gauge(
            "escalation_redis_available", "1 while timers can be armed in Redis", registry=registry
        )

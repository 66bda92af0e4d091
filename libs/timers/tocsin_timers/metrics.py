"""What Prometheus may scrape."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)


class TimerMetrics:
    """The figures of this process; those of the whole queue come from `TimerBroker.figures()`.

    Give the brokers of one registry the same object, made with `queue` of each by `for_queue`. Without a registry the
    figures are counted and never shown.
    """

    def __init__(self, registry: CollectorRegistry | None, queue: str) -> None:
        registry = registry or CollectorRegistry()
        label = ["queue"]
        self._lateness = Histogram(
            "timers_lateness_seconds",
            "From due to the start of the task, by Redis' clock",
            label,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._seconds = Histogram("timers_execution_seconds", "From start to end of the task", label, registry=registry)
        self._executed = Counter("timers_executed", "Tasks that ended without an error", label, registry=registry)
        self._failed = Counter(
            "timers_failed", "Attempts that raised and will be tried again", label, registry=registry
        )
        self._dead = Counter("timers_dead", "Messages put among the dead letters", label, registry=registry)
        self._promoted = Counter(
            "timers_promoted", "Due timers this process moved into the streams", label, registry=registry
        )
        self._reclaimed = Counter(
            "timers_reclaimed", "Entries taken over from silent workers", label, registry=registry
        )
        self.bind(queue)

    def bind(self, queue: str) -> None:
        """Count for this queue from now on."""
        self.lateness = self._lateness.labels(queue)
        self.seconds = self._seconds.labels(queue)
        self.executed = self._executed.labels(queue)
        self.failed = self._failed.labels(queue)
        self.dead = self._dead.labels(queue)
        self.promoted = self._promoted.labels(queue)
        self.reclaimed = self._reclaimed.labels(queue)

    def for_queue(self, queue: str) -> "TimerMetrics":
        """The same collectors, counting for another queue."""
        other = object.__new__(TimerMetrics)
        other.__dict__.update(self.__dict__)
        other.bind(queue)
        return other

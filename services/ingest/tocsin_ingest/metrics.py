"""What ingest counts beside what every service counts."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class IngestMetrics:
    """Counters of ingest, in the process's one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.alerts = Counter(
            "tocsin_ingest_alerts", "Alerts committed, by what became of them", ("outcome",), registry=registry
        )
        self.batch_size = Histogram(
            "tocsin_ingest_batch_size",
            "Alerts committed together",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000),
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "tocsin_ingest_commit_seconds",
            "One batch, from taking a connection to the end of its commit",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
            registry=registry,
        )
        self.rules_left_out = Counter(
            "tocsin_ingest_rules_left_out",
            "Stored routing rules and silences left out when read, since their regular expressions are too expensive or refused",
            registry=registry,
        )
        self.routing_cut = Counter(
            "tocsin_ingest_routing_cut",
            "Alerts that took the default route since the regular expressions tried on them were too expensive",
            registry=registry,
        )
        self.silences_cut = Counter(
            "tocsin_ingest_silences_cut",
            "Alerts not silenced since the regular expressions of the silences were too expensive on them",
            registry=registry,
        )
        self.looked_again = Counter(
            "tocsin_ingest_held_alerts_looked_again",
            "Alerts that a silence held back or a rule paused, by what became of them when that was over or changed",
            ("outcome",),
            registry=registry,
        )
        self.holds_overdue = Gauge(
            "tocsin_ingest_held_alerts_overdue",
            "Alerts whose silence or pause ended more than 10 s ago and that were not decided again, up to 1,000; must be 0",
            registry=registry,
        )
        self.holds_failed = Counter(
            "tocsin_ingest_held_alerts_failed",
            "Failed looks at alerts whose silence or pause has ended; each is tried again after a minute",
            registry=registry,
        )
        self.opened_anew = Counter(
            "tocsin_ingest_incidents_opened_anew",
            "Incidents that escalation had lost or never got, opened there anew: find out why",
            registry=registry,
        )
        self.differing = Gauge(
            "tocsin_ingest_incidents_differing",
            "Open incidents about which ingest and escalation differ for longer than the grace; must be 0",
            ("difference",),
            registry=registry,
        )
        self.mended = Counter(
            "tocsin_ingest_incidents_mended", "Differences that were mended", ("difference",), registry=registry
        )
        self.quiet = Counter(
            "tocsin_ingest_incidents_quiet",
            "Incidents resolved because no trigger has come for as long as their integration says",
            registry=registry,
        )
        self.expired = Counter(
            "tocsin_ingest_alerts_expired",
            "Alerts resolved because their end came before they were sent again",
            registry=registry,
        )
        self.heartbeats_missing = Counter(
            "tocsin_ingest_heartbeats_missing",
            "Heartbeats that have not come in time; the log line heartbeat_missing names the integration",
            registry=registry,
        )
        self.tenant_failures = Counter(
            "tocsin_ingest_tenant_failures",
            "Background work that failed for one tenant and goes on with the others; the log names the tenant",
            ("work",),
            registry=registry,
        )
        self.refused = Counter(
            "tocsin_ingest_refused",
            "Alerts refused for good, by their format and the reason; the log names the integration",
            ("format", "reason"),
            registry=registry,
        )
        self.mail_refused = Counter(
            "tocsin_ingest_mail_refused",
            "SMTP connections and mails told to come again by a limit: connections, mails",
            ("limit",),
            registry=registry,
        )
        self._queue = Gauge("tocsin_ingest_queue", "Alerts waiting to be committed", registry=registry)

    def watch_queue(self, length: Callable[[], float]) -> None:
        """Read the queue's length whenever the metrics are read."""
        self._queue.set_function(length)

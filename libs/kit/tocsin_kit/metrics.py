"""Prometheus metrics of one process, in one registry, so that tests and processes never share a counter."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from tocsin_kit.logging import lines_lost

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_RPC_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What every service counts. A service adds its own to `registry`, or subclasses."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._not_called: list[str] = []
        """Methods that are to be shown, and of which there may be no figure yet."""
        self.rpc_seconds = Histogram(
            "tocsin_rpc_seconds",
            "Time from the first byte of a call to its status",
            ("method",),
            buckets=_RPC_BUCKETS,
            registry=self.registry,
        )
        self.rpc_total = Counter("tocsin_rpc", "Calls ended", ("method", "code"), registry=self.registry)
        self.rpc_open = Gauge(
            "tocsin_rpc_open", "Calls open now, by kind; of answers the bytes", ("kind",), registry=self.registry
        )
        self.rpc_refused = Counter(
            "tocsin_rpc_refused",
            "Calls refused, and connections ended, since too many were open: of all callers, or of one tenant, connection or host",
            ("kind", "scope"),
            registry=self.registry,
        )
        self.credentials_refused = Counter(
            "tocsin_credentials_refused",
            "Wrong credentials: told so (wrong), of an address with too many (throttled), not judged since too many wait (held)",
            ("how",),
            registry=self.registry,
        )
        self.tenant_refused = Counter(
            "tocsin_tenant_refused",
            "What was refused since a tenant had used up a limit",
            ("limit",),
            registry=self.registry,
        )
        self.tenant_most_used = Gauge(
            "tocsin_tenant_most_used_ratio",
            "The part of a limit that is used up by the tenant that has used most of it, 0 to 1",
            ("limit",),
            registry=self.registry,
        )
        self.http_total = Counter("tocsin_http", "HTTP requests", ("route", "status"), registry=self.registry)
        self.http_open = Gauge("tocsin_http_connections", "HTTP connections open now", registry=self.registry)
        self.http_refused = Counter(
            "tocsin_http_refused",
            "HTTP connections and requests ended by a limit: connections, body_bytes, header_seconds, body_seconds",
            ("limit",),
            registry=self.registry,
        )
        Gauge(
            "tocsin_log_lines_lost",
            "Log lines of this process that could not be written: the disk is full, or what reads them has gone or stands still",
            registry=self.registry,
        ).set_function(lines_lost)
        self.outbox_rows = Gauge(
            "tocsin_outbox_rows",
            "Outbox rows waiting, dead, blocked; counted up to 100,000",
            ("kind", "state"),
            registry=self.registry,
        )
        self.outbox_oldest_seconds = Gauge(
            "tocsin_outbox_oldest_seconds", "Age of the oldest waiting outbox row", ("kind",), registry=self.registry
        )
        self.outbox_total = Counter(
            "tocsin_outbox",
            "Rows by what became of a delivery: done, retry, refused, returned, substituted, dead",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self.outbox_late_tenants = Gauge(
            "tocsin_outbox_late_tenants",
            "Tenants whose oldest undelivered row is older than OUTBOX_MAX_AGE_SECONDS",
            ("kind",),
            registry=self.registry,
        )
        self.loop_lag_seconds = Histogram(
            "tocsin_loop_lag_seconds",
            "How late the event loop woke a sleeper",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0),
            registry=self.registry,
        )
        self.loop_blocked_seconds = Counter(
            "tocsin_loop_blocked_seconds",
            "Time in which the event loop stood still, by the RPC, route or loop it was in",
            ("running",),
            registry=self.registry,
        )
        self.loop_crashes = Counter(
            "tocsin_loop_crashes",
            "Background loops that raised and were started anew",
            ("loop",),
            registry=self.registry,
        )
        self._pool = Gauge("tocsin_database_connections", "Connections by state", ("state",), registry=self.registry)
        self.healthy = Gauge("tocsin_health", "1 when the check passes", ("check",), registry=self.registry)
        if registry is None:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)

    def watch_pool(self, opened: Callable[[], float], lent: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Read the pool's figures whenever the metrics are read."""
        self._pool.labels("open").set_function(opened)
        self._pool.labels("lent").set_function(lent)
        self._pool.labels("waiting").set_function(waiting)

    def expect_calls(self, method: str) -> None:
        """Show `package.Service/Method` at 0 until it is called.

        Its figures are made at its first call or when the metrics are first read: those of all methods take a fifth of a start.
        """
        self._not_called.append(method)

    def render(self) -> bytes:
        """The text a Prometheus server scrapes; its type is `CONTENT_TYPE`."""
        for method in self._not_called:
            self.rpc_seconds.labels(method)
            self.rpc_total.labels(method, "OK")
        self._not_called.clear()
        return generate_latest(self.registry)

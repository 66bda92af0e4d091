"""What the parent of several processes counts of them."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class ProcessMetrics:
    """Which processes run, and how often one has ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge("tocsin_process_up", "1 while the process runs", ("process",), registry=registry)
        self.ended = Counter(
            "tocsin_process_ended",
            "Processes of the service that ended by themselves and were started anew",
            ("process",),
            registry=registry,
        )

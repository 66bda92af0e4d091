"""docs/metrics.md from the metrics classes: `generate` writes the page, `check` says whether it is stale."""

import sys
from typing import Final

from generated import Undocumented, run
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_ingest.metrics import IngestMetrics
from tocsin_kit.metrics import Metrics
from tocsin_kit.processes.metrics import ProcessMetrics
from tocsin_notify.metrics import NotifyMetrics
from tocsin_timers.metrics import TimerMetrics

_HEAD: Final = """\
# Metrics

Every metric that a service has at `/metrics` (`…_ADMIN_LISTEN`), in the text format of Prometheus. This page is generated from
the metrics classes by `make metrics`; `make check` fails while it is stale. Which of them to alert on, and what to do then, is
in [the runbook](runbook.md#a-queue-is-late). Times are seconds. No label names a tenant, a user or an incident: their number is
bounded. A histogram has `_bucket`, `_sum` and `_count`. What Python's client tells of the process (`process_…`, `python_…`) is
there as well.
"""
_SEVERAL: Final = "With `<SERVICE>_PROCESSES` above 1. Every other metric has the label `process` then."
_TABLE: Final = "| metric | type | labels | meaning |\n|---|---|---|---|"


def page() -> str:
    """The whole page. Raises Undocumented."""
    parts = [_HEAD]
    for title, of, registry in _sections():
        parts += [f"## {title}\n", f"{of}\n", "\n".join([_TABLE, *registry.rows(), ""])]
    return "\n".join(parts)


class _Registry(CollectorRegistry):
    """Keeps what registers, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self._metrics: list[MetricWrapperBase] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        assert isinstance(collector, MetricWrapperBase)
        self._metrics.append(collector)

    def rows(self) -> list[str]:
        return sorted(_row(each) for each in self._metrics)


def _row(metric: MetricWrapperBase) -> str:
    [told] = metric.describe()
    if not told.documentation:
        raise Undocumented(f"{told.name} does not say what it means")
    name = f"{told.name}_total" if told.type == "counter" else told.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    return f"| `{name}` | {told.type} | {labels} | {told.documentation} |"


def _sections() -> list[tuple[str, str, _Registry]]:
    kit, processes, timers, ingest, escalation, notify = (_Registry() for _ in range(6))
    Metrics(kit)
    ProcessMetrics(processes)
    TimerMetrics(timers, "a queue")
    IngestMetrics(ingest)
    EscalationMetrics(escalation)
    NotifyMetrics(notify)
    return [
        ("Every service", "Ingest, escalation and notify have these alike.", kit),
        (
            "A service of several processes",
            "With `<SERVICE>_PROCESSES` above 1, where every other metric has the label `process`.",
            processes,
        ),
        ("Queues in Redis", "Of escalation and notify. `queue` names the queue.", timers),
        ("ingest", "Of ingest only.", ingest),
        ("escalation", "Of escalation only.", escalation),
        ("notify", "Of notify only.", notify),
    ]


if __name__ == "__main__":
    sys.exit(run("metrics", page, sys.argv[1:]))

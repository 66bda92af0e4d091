"""The board's plots: inline SVG, without a script, and as words for those who do not see them."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from html import escape

from google.protobuf.duration_pb2 import Duration
from tocsin.queue.v1 import task_pb2


def standing(caption: str, counts: Mapping[str, int]) -> str:
    """How many stand where, one bar each."""
    highest = max(counts.values(), default=0) or 1
    rows = []
    for number, (name, count) in enumerate(counts.items()):
        y, length = 2 + number * 22, 140 * count / highest
        shade = "broken" if name.startswith("dead") else "half"
        rows.append(
            f'<text class="word" x="0" y="{y + 13}">{escape(name)}</text>'
            f'<rect class="{shade}" x="150" y="{y}" width="{length:.1f}" height="16"/>'
            f'<text class="word" x="{156 + length:.1f}" y="{y + 13}">{count}</text>'
        )
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    return _figure(
        caption,
        f'<svg viewBox="0 0 360 {22 * len(counts)}" role="img" aria-label="{escape(said)}">{"".join(rows)}</svg>',
    )


def plots(minutes: Sequence[task_pb2.QueueMinute]) -> str:
    """Minute by minute: tasks done and attempts failed; how late tasks were, and how long attempts took."""
    counts = [(float(each.completed), float(each.failed)) for each in minutes]
    late = [_half_and_most(each.lateness) for each in minutes]
    took = [_half_and_most(each.duration) for each in minutes]
    times = [f"{each.start_time.ToDatetime(UTC):%H:%M}" for each in minutes]
    highest = f"{max([0.0, *(sum(pair) for pair in counts)]):.0f}"
    return (
        _bars(counts, times, highest, "Tasks done, and above them attempts that failed (UTC)", "done", "broken")
        + _bars(late, times, _top(late), "Lateness: half of the tasks, and above it 99 of 100 (UTC)", "half", "most")
        + _bars(took, times, _top(took), "How long attempts took: half, and above it 99 of 100 (UTC)", "half", "most")
    )


def in_seconds(duration: Duration) -> float:
    """As a number."""
    return duration.ToTimedelta().total_seconds()


def seconds(value: float) -> str:
    """For people: of what took or waits so long."""
    minutes = int(value // 60)
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _half_and_most(spread: task_pb2.Spread) -> tuple[float, float]:
    half = in_seconds(spread.p50)
    return half, in_seconds(spread.p99) - half


def _top(pairs: Sequence[tuple[float, float]]) -> str:
    return seconds(max([0.0, *(sum(pair) for pair in pairs)]))


def _bars(
    pairs: Sequence[tuple[float, float]], times: Sequence[str], top: str, label: str, lower: str, upper: str
) -> str:
    highest = max([sum(pair) for pair in pairs], default=0.0) or 1.0
    step = 300 / max(1, len(pairs))
    bars = []
    for number, (below, above) in enumerate(pairs):
        first, second, x = 80 * below / highest, 80 * above / highest, 52 + number * step
        for shade, y, height in ((lower, 90 - first, first), (upper, 90 - first - second, second)):
            bars.append(
                f'<rect class="{shade}" x="{x:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" height="{height:.1f}"/>'
            )
        if number % 5 == 4:
            bars.append(f'<text class="axis" x="{x - 12:.1f}" y="104">{times[number]}</text>')
    return _figure(
        label,
        f'<svg viewBox="0 0 360 110" role="img" aria-label="{label}, minute by minute"><path class="rule" d="M50 90H356"/>'
        f'<text class="axis" x="0" y="18">{escape(top)}</text><text class="axis" x="0" y="92">0</text>{"".join(bars)}</svg>',
    )


def _figure(caption: str, svg: str) -> str:
    return f'<figure><figcaption class="fine">{caption}</figcaption>{svg}</figure>'

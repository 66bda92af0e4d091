"""What explanations of alerts say in the same words."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from tocsin_ingest.app.incidents.resolve_quiet import words


def rules_in_words(rules: Iterable[tuple[int, str, Sequence[str]]]) -> str:
    """`rule 0 'databases' (policy) and rule 2 (severity, pause)`: of each its place, its name or none, and what was taken of it."""
    *others, last = [
        f"rule {place}{f' {name!r}' if name else ''} ({', '.join(taken) or 'nothing'})" for place, name, taken in rules
    ]
    return f"{', '.join(others)} and {last}" if others else last


def unless_over(group_window: timedelta | None) -> str:
    """What limits that alerts of a group share an incident; empty without a window."""
    return "" if group_window is None else f", unless the last one joined it {words(group_window)} ago or longer"


def time_in_words(time: datetime) -> str:
    """To the second, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

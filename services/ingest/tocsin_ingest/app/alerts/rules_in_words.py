"""Rules that route an alert together, in words."""

from collections.abc import Iterable, Sequence


def rules_in_words(rules: Iterable[tuple[int, str, Sequence[str]]]) -> str:
    """`rule 0 'databases' (policy) and rule 2 (severity, pause)`: of each its place, its name or none, and what was taken of it."""
    *others, last = [
        f"rule {place}{f' {name!r}' if name else ''} ({', '.join(taken) or 'nothing'})" for place, name, taken in rules
    ]
    return f"{', '.join(others)} and {last}" if others else last

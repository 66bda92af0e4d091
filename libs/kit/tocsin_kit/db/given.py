"""Rows that a statement is given as parameters: an array for each column, with one value where all rows have the same."""

from collections.abc import Sequence
from typing import Any, Final


class Given:
    """Rows as the parameters from `$first` on.

    asyncpg looks at each value of an array for values inside of it, which takes three times as long as to write it. Rows of one
    batch differ in a few columns only.
    """

    def __init__(self, first: int, **types: str) -> None:
        """`types`: PostgreSQL's for each column. The first column tells the rows apart."""
        arrays = [f"${number}::{each}[]" for number, each in enumerate(types.values(), first)]
        apart, *others = types
        columns = [apart, *map(_column, others, arrays[1:])]
        self.sql: Final = f"(SELECT {', '.join(columns)}\n  FROM unnest({', '.join(arrays)}) AS u({', '.join(types)}))"
        """The rows, for a FROM."""
        self._width = len(types)

    def parameters(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
        """The arrays."""
        if not rows:
            return ((),) * self._width
        apart, *others = zip(*rows, strict=True)
        return [apart, *map(_once, others)]


def _column(name: str, array: str) -> str:
    return f"CASE WHEN cardinality({array}) = 1 THEN ({array})[1] ELSE u.{name} END AS {name}"


def _once(column: tuple[Any, ...]) -> tuple[Any, ...]:
    first = column[0]
    return column[:1] if first == column[-1] and column.count(first) == len(column) else column

"""Rows as parameters of a statement: an array for each column, or one value where all rows have the same."""

from collections.abc import Sequence
from typing import Any, Final


class RowArrays:
    """Rows as the parameters from `$first` on.

    asyncpg examines each value of an array for nested values, which takes three times as long as writing it. Rows of one batch
    differ in a few columns only.
    """

    def __init__(self, first: int, columns: str) -> None:
        """`columns`: name and type of each, such as `id uuid, title text`. The values of the first column all stand there."""
        names, types = zip(*(each.split() for each in columns.split(",")), strict=True)
        arrays = [f"${number}::{each}[]" for number, each in enumerate(types, first)]
        selected = ", ".join([names[0], *map(_column, names[1:], arrays[1:])])
        self.sql: Final = f"(SELECT {selected} FROM unnest({', '.join(arrays)}) AS u({', '.join(names)}))"
        """The rows, for a FROM."""
        self._width = len(names)

    def parameters(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
        """The arrays."""
        if not rows:
            return ((),) * self._width
        first, *others = zip(*rows, strict=True)
        return [first, *map(_once, others)]


def _column(name: str, array: str) -> str:
    return f"CASE WHEN cardinality({array}) = 1 THEN ({array})[1] ELSE u.{name} END AS {name}"


def _once(column: tuple[Any, ...]) -> tuple[Any, ...]:
    first = column[0]
    return column[:1] if first == column[-1] and column.count(first) == len(column) else column

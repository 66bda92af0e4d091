"""Statements that SQLAlchemy Core builds from a service's `store/tables/`, run by asyncpg.

A statement is compiled when its module is imported. From then on it is a text and the order of its parameters: no call pays for
building it.

    _GET = Statement(select(*columns_of(users, User)).where(users.c.org_id == param("org_id"), users.c.id == param("id")))
    row = await tx.fetchrow(*_GET(org_id=tx.org_id, id=alert_id))

Writes of whole sets, claims and statements with WITH stay SQL text: there Core needs more words.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, FromClause, Select, bindparam, literal_column
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.compiler import SQLCompiler

Call = tuple[Any, ...]
"""A statement's text and its values in their order: what the methods of `Tx` take."""

_KEPT: Final = 256
"""Combinations of filters that one `Filtered` keeps: callers choose them, and must not fill the memory."""
_DIALECT: Final = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def param(name: str, type_: Any = None) -> BindParameter[Any]:
    """A parameter. Without `type_` it has the type of the value it is compared with; PostgreSQL's own cast follows from either."""
    return bindparam(name, type_=type_)


def constant(value: str | int) -> ColumnElement[Any]:
    """A value that is part of the text, so that the planner can use an index of nothing but it."""
    return literal_column(str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'")


def columns_of(table: FromClause, kind: type[Any], **others: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """The columns that make a `kind`, in its fields' order: rows for `Row(*row)`.

    `others`: expressions for fields that are no columns of the table. Raises KeyError for a field that is neither.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    return [others[name].label(name) if name in others else table.c[name] for name in names]


def params_of(table: FromClause, names: Iterable[str]) -> dict[str, BindParameter[Any]]:
    """A parameter for each of these columns, by its name: for `values`. Raises KeyError for a name that is no column."""
    return {name: param(table.c[name].name) for name in names}


class Statement:
    """Compiled once. Raises ValueError for a value that was built in: it would be a parameter that no call can give."""

    __slots__ = ("names", "sql")

    def __init__(self, built: ClauseElement) -> None:
        compiled = built.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)
        values = sorted(name for name, parameter in compiled.binds.items() if not parameter.required)
        if values:
            raise ValueError(f"{', '.join(values)}: write a constant with `constant` or `text`, else use `param`")
        self.sql: Final = str(compiled)
        self.names: Final = tuple(compiled.positiontup or ())

    def __call__(self, **values: object) -> Call:
        """With a value for each parameter. Raises TypeError for a value too many, KeyError for one that is missing."""
        if len(values) != len(self.names):
            raise TypeError(f"the parameters are {', '.join(self.names)}; given were {', '.join(values)}")
        return self.sql, *[values[name] for name in self.names]


class Filtered:
    """A SELECT with filters: a call uses those whose parameters have values.

    The others are not part of its text, so that each combination can use its own index. A combination is compiled when it is used
    for the first time, in less than a millisecond, and kept.
    """

    __slots__ = ("_filters", "_select", "_statements", "names")

    def __init__(self, select: Select[Any], *filters: ColumnElement[bool]) -> None:
        self._select = select
        self._filters: Final = [(_parameters(each), each) for each in filters]
        self._statements: Final[dict[tuple[int, ...], Statement]] = {}
        self.names: Final = frozenset().union(self._statement(()).names, *(names for names, _ in self._filters))
        """All parameters: those of the SELECT need a value, those of filters may have one."""

    def __call__(self, **values: object) -> Call:
        """With a value for each parameter; a filter is left out when one of its own is None. Raises TypeError for others."""
        if values.keys() != self.names:
            raise TypeError(f"the parameters are {', '.join(sorted(self.names))}; given were {', '.join(values)}")
        used = [
            place for place, (names, _) in enumerate(self._filters) if all(values[name] is not None for name in names)
        ]
        statement = self._statement(tuple(used))
        return statement(**{name: values[name] for name in statement.names})

    def _statement(self, used: tuple[int, ...]) -> Statement:
        statement = self._statements.get(used)
        if statement is None:
            if len(self._statements) >= _KEPT:
                self._statements.clear()
            built = self._select.where(*(self._filters[place][1] for place in used))
            statement = self._statements[used] = Statement(built)
        return statement


def _parameters(condition: ColumnElement[bool]) -> frozenset[str]:
    return frozenset(each.key for each in visitors.iterate(condition) if isinstance(each, BindParameter))

"""Sessions that look up each further PostgreSQL type once for the whole process.

asyncpg has codecs of the plain types. For any other type, such as `uuid[]`, every session asks the server before its first
statement with it: two round trips, and a recursive query over the catalog that takes the server twice as long (8 ms) as opening
the session did. Sessions are opened by the dozen when a service starts and when its load rises.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import asyncpg

_FIRST_OF_AN_INSTALLATION: Final = 10_000
"""Smaller type numbers are assigned by hand in PostgreSQL's sources: they are the same in every database and every version
(PostgreSQL's documentation: "System Catalog Initial Data", OID assignment)."""


class _NotAsked(NamedTuple):
    """Returned in place of the statement that looked it up."""

    name: str = "none"  # asyncpg: an unnamed statement would have replaced the one that is being prepared


_known: Final[dict[frozenset[int], Any]] = {}


class Session(asyncpg.Connection):
    """A session of `asyncpg.connect(…, connection_class=Session)`."""

    __slots__ = ()

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> tuple[Any, Any]:
        """The structure of the types with these numbers, and the statement that asked (only its name is used).

        Overrides a method of asyncpg: if asyncpg renames it, nothing breaks and every session asks.
        """
        wanted = frozenset(typeoids)
        if wanted in _known:
            return _known[wanted], _NotAsked()
        types, statement = await super()._introspect_types(wanted, timeout)  # type: ignore[misc]  # not in the stubs
        if max(wanted) < _FIRST_OF_AN_INSTALLATION:
            _known[wanted] = types
        return types, statement

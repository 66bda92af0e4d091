"""What a piece of work asks of PostgreSQL: each statement is a round trip, and each transaction that writes is a flush of the log.

A test states them for each step of a page's way, so that no feature adds one unseen.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
from tocsin_kit.db.type_lookups import Session

_ASKING: Final = ("execute", "executemany", "fetch", "fetchrow", "fetchval")
_WRITTEN: Final = re.compile(r"\bINSERT INTO (\w+)|\bUPDATE (\w+)(?: AS)?(?: \w+)? SET\b|\bDELETE FROM (\w+)")


class RoundTrips:
    """What sessions of the pool sent, by transaction; a statement outside of one is a transaction by itself."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        """Those that have ended, each with its statements in their order."""
        self._open: dict[int, list[str]] = {}

    def note(self, session: int, text: str) -> None:
        """One statement, or a script without parameters, is sent."""
        if text.startswith("BEGIN") and text.endswith(";COMMIT"):
            self.transactions.append([text])
        elif text.startswith("BEGIN"):
            self._open[session] = [text]
        elif session in self._open:
            self._open[session].append(text)
            if text in ("COMMIT", "ROLLBACK"):
                self.transactions.append(self._open.pop(session))
        else:
            self.transactions.append([text])

    def writing(self, tables: Collection[str]) -> list[list[str]]:
        """The transactions that write one of these tables: each statement as the tables that it writes, else as its first word."""
        named = [[_name(text) for text in transaction] for transaction in self.transactions]
        return [each for each in named if not set(tables).isdisjoint(word for name in each for word in name.split("+"))]


@contextmanager
def recorded(url: str = "") -> Iterator[RoundTrips]:
    """Everything that the sessions of the pools of this process send to the database of this URL, or to any, while the block runs.

    A pool of another test may still be at work: its database is another one.
    """
    trips = RoundTrips()
    database = urlsplit(url).path.removeprefix("/")
    for name in _ASKING:
        setattr(Session, name, _noting(trips, getattr(asyncpg.Connection, name), database))
    try:
        yield trips
    finally:
        for name in _ASKING:
            delattr(Session, name)


def _noting(trips: RoundTrips, ask: Callable[..., Any], database: str) -> Callable[..., Any]:
    def asks(session: Session, text: str, *args: Any, **options: Any) -> Any:
        if database in ("", session._params.database):  # type: ignore[attr-defined]  # not in the stubs
            trips.note(id(session), text)
        return ask(session, text, *args, **options)

    return asks


def _name(text: str) -> str:
    written = dict.fromkeys("".join(found) for found in _WRITTEN.findall(text))
    return "+".join(written) or text.split(maxsplit=1)[0].partition(";")[0]

"""One transaction, as services read and write through it."""

import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import asyncpg

from tocsin_kit.db.dialing import Connection
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

AfterCommit = Callable[[], Awaitable[None] | None]

_PARAMETER: Final = re.compile(r"\$(\d+)")
_OWN_WITH: Final = re.compile(r"\s*WITH\s+(?!RECURSIVE)")


class Tx:
    """One transaction; unusable once it ended, so that no code can touch the connection's next tenant."""

    __slots__ = ("_after_commit", "_connection", "_now", "answer", "org_id")

    def __init__(self, connection: Connection, org_id: str, answer: str = "") -> None:
        self._connection: Connection | None = connection
        self._after_commit: list[AfterCommit] = []
        self._now: datetime | None = None
        self.org_id: Final = org_id
        """The tenant whose rows are visible; `*` sees all."""
        self.answer: Final = answer
        """The command tag of its first statement, such as `SELECT 3`."""

    def fetch(self, sql: str, *args: object) -> Coroutine[Any, Any, list[asyncpg.Record]]:
        """All rows."""
        return self._live().fetch(sql, *args)

    def fetchrow(self, sql: str, *args: object) -> Coroutine[Any, Any, asyncpg.Record | None]:
        """The first row, or None."""
        return self._live().fetchrow(sql, *args)

    def fetchval(self, sql: str, *args: object) -> Coroutine[Any, Any, Any]:
        """The first column of the first row, or None."""
        return self._live().fetchval(sql, *args)

    def execute(self, sql: str, *args: object) -> Coroutine[Any, Any, str]:
        """Run a statement; the answer is PostgreSQL's command tag, such as `UPDATE 3`."""
        return self._live().execute(sql, *args)

    def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> Coroutine[Any, Any, None]:
        """Run one statement for many rows in one batch of messages."""
        return self._live().executemany(sql, rows)

    async def now(self) -> datetime:
        """The database's clock at the start of this transaction, `app_now()`: the only clock decisions may read."""
        if self._now is None:
            now: datetime = await self._live().fetchval("SELECT app_now()")
            self._now = now
        return self._now

    def know(self, now: datetime) -> None:
        """A statement of this transaction has returned `now`: it is not asked again."""
        self._now = now

    def after_commit(self, function: AfterCommit) -> None:
        """Run `function` once the COMMIT is done, outside the transaction. Dropped on rollback; its errors are logged.

        For hints only: a process may die before it runs, so an effect that must happen needs a row as well.
        """
        self._after_commit.append(function)

    def _live(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("this transaction has ended")
        return self._connection

    def end(self) -> None:
        """It can be used no more."""
        self._connection = None

    async def ended(self) -> None:
        """It is committed: run the functions that wait for that."""
        self.end()
        for callback in self._after_commit:
            try:
                outcome = callback()
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                _log.exception("after_commit_failed")


class OneRoundTrip(Tx):
    """Collects the calls of `execute`, and sends them as one statement: a single round trip of the same transaction.

    Each part is a plain INSERT, UPDATE or DELETE. All of them see the rows as they were before, and foreign keys are checked when
    the last has ended; so no part may read or write a row that another part writes. They are sent with the next `fetch`, whose
    statement runs first and may have a WITH of its own, or by `send`.
    """

    __slots__ = ("_parts", "_tx")

    def __init__(self, tx: Tx) -> None:
        super().__init__(tx._live(), tx.org_id)
        self._tx = tx
        self._parts: list[tuple[str, tuple[object, ...]]] = []

    async def execute(self, sql: str, *args: object) -> str:
        """Collect it. The answer is empty."""
        self._parts.append((sql, args))
        return ""

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """All rows of this one; the collected statements are sent with it."""
        parts, self._parts = [*self._parts, (sql, args)], []
        text = _one_statement(tuple((each, len(values)) for each, values in parts))
        return await self._tx.fetch(text, *(value for _, values in parts for value in values))

    async def send(self) -> None:
        """Run the collected statements."""
        if self._parts:
            sql, args = self._parts.pop()
            await self.fetch(sql, *args)

    async def now(self) -> datetime:
        """See Tx."""
        return await self._tx.now()

    def after_commit(self, function: AfterCommit) -> None:
        """See Tx."""
        self._tx.after_commit(function)

    def fetchrow(self, sql: str, *args: object) -> Coroutine[Any, Any, asyncpg.Record | None]:
        """Not available for collected statements. Raises TypeError."""
        raise TypeError("writes are gathered: use fetch")

    def fetchval(self, sql: str, *args: object) -> Coroutine[Any, Any, Any]:
        """Not available for collected statements. Raises TypeError."""
        raise TypeError("writes are gathered: use fetch")

    def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> Coroutine[Any, Any, None]:
        """Not available for collected statements. Raises TypeError."""
        raise TypeError("writes are gathered: use execute")


@lru_cache(256)
def _one_statement(parts: tuple[tuple[str, int], ...]) -> str:
    """Of statements with the numbers of their parameters: the last one, with the others in front of it in WITH."""
    texts, given = list[str](), 0
    for sql, count in parts:
        texts.append(_PARAMETER.sub(lambda found, before=given: f"${before + int(found[1])}", sql))  # type: ignore[misc]
        given += count
    *others, last = texts
    if not others:
        return last
    gathered = ", ".join(f"part_{number} AS ({text})" for number, text in enumerate(others))
    own = _OWN_WITH.match(last)
    return f"WITH {gathered} {last}" if own is None else f"WITH {gathered}, {last[own.end() :]}"

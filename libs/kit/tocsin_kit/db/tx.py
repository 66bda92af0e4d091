"""One transaction, as services read and write through it."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from tocsin_kit.db.dialing import Connection
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

AfterCommit = Callable[[], Awaitable[None] | None]


class Tx:
    """One transaction; unusable once it ended, so that no code can touch the connection's next tenant."""

    __slots__ = ("_after_commit", "_connection", "_now", "org_id")

    def __init__(self, connection: Connection, org_id: str) -> None:
        self._connection: Connection | None = connection
        self._after_commit: list[AfterCommit] = []
        self._now: datetime | None = None
        self.org_id: Final = org_id
        """The tenant whose rows are visible; `*` sees all."""

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

    def after_commit(self, function: AfterCommit) -> None:
        """Run `function` once the COMMIT is done, outside the transaction. Dropped on rollback; its errors are logged.

        For hints only: a process may die before it runs, so what must happen needs a row as well.
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
        """It is committed: run what was left for after that."""
        self.end()
        for callback in self._after_commit:
            try:
                outcome = callback()
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                _log.exception("after_commit_failed")

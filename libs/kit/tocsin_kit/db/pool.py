"""Transactions that know their tenant.

Every transaction begins with `SET LOCAL tocsin.org_id`, in the same round trip as BEGIN: row-level security then shows
and takes that tenant's rows only, whatever a query forgets. Prepared statements are cached per connection, so a pooler
in front of PostgreSQL must pool sessions, not transactions.
"""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Final, TypeVar

import asyncpg

from tocsin_kit.db.connections import Connection, Connections
from tocsin_kit.db.failures import REPEATABLE, is_connection_loss, translate, unavailable
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.metrics import Metrics

T = TypeVar("T")
AfterCommit = Callable[[], Awaitable[None] | None]

_log = get_logger(__name__)

SYSTEM: Final = "*"
"""The tenant of work that crosses tenants: relays, sweeps, claims."""
_ROLLBACK_TIMEOUT: Final = 2.0
_RETRY_BASE: Final = 0.01
_BEGIN_ATTEMPTS: Final = 3
_BEGIN_TIMEOUT: Final = 2.0
_WALK_INDEXES: Final = ";SET LOCAL enable_sort=off;SET LOCAL enable_bitmapscan=off;SET LOCAL enable_seqscan=off"


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

        For hints only: a process may die before it runs, so whatever must happen needs a row as well.
        """
        self._after_commit.append(function)

    def _live(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("this transaction has ended")
        return self._connection

    def _end(self) -> list[AfterCommit]:
        self._connection = None
        return self._after_commit


class Database:
    """One service's database: lends transactions, survives the server's absence."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._rollbacks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        name: str,
        size: int = 10,
        metrics: Metrics | None = None,
        statement_timeout: float = 5.0,
        lock_timeout: float = 2.0,
    ) -> "Database":
        """Start to connect in the background and return at once; `name` shows up in pg_stat_activity.

        Timeouts are in seconds. A statement that waits longer for a lock than `lock_timeout` fails as CONFLICT.
        """

        async def dial() -> Connection:
            return await asyncpg.connect(
                url,
                timeout=5.0,
                command_timeout=statement_timeout
                * 2,  # the server's own timeout speaks first unless the network is gone
                statement_cache_size=1024,
                server_settings={
                    "application_name": name,
                    "statement_timeout": f"{statement_timeout * 1000:.0f}",
                    "lock_timeout": f"{lock_timeout * 1000:.0f}",
                    # Nothing but SQL happens in a transaction: an idle one is a process that stands still with its locks.
                    "idle_in_transaction_session_timeout": "5000",
                    "standard_conforming_strings": "on",
                    "timezone": "UTC",
                    "jit": "off",
                },
            )

        connections = Connections(dial, name=name, size=size)
        if metrics is not None:
            metrics.watch_pool(lambda: connections.open, lambda: connections.lent, lambda: connections.waiting)
        connections.start()
        return cls(connections)

    async def close(self) -> None:
        """Wait for running transactions, at most 5 s, then close every connection."""
        await self._connections.close()
        if self._rollbacks:
            await asyncio.gather(*self._rollbacks, return_exceptions=True)

    async def ping(self) -> None:
        """One round trip. Raises DATABASE_UNAVAILABLE."""
        async with self.system() as tx:
            await tx.execute("SELECT 1")

    def transaction(self, org_id: str) -> AbstractAsyncContextManager[Tx]:
        """A READ COMMITTED transaction of one tenant; commits at the normal end, rolls back on any exception.

        Raises DATABASE_UNAVAILABLE when the server is away or was lost on the way, CONFLICT when the database resolved
        a conflict against it. Constraint violations come out as asyncpg raised them.
        """
        if not org_id or "\0" in org_id:
            raise ValueError("a transaction needs its tenant")
        return _Transaction(self, org_id)

    def system(self) -> AbstractAsyncContextManager[Tx]:
        """A transaction that sees all tenants: for relays, sweeps and claims, never for a caller's request."""
        return _Transaction(self, SYSTEM)

    def claim(self) -> AbstractAsyncContextManager[Tx]:
        """A system transaction for `SELECT … ORDER BY due_time LIMIT n FOR UPDATE SKIP LOCKED`.

        It reads indexes in their order, whatever the planner believes. Without statistics (a table empty a moment ago)
        the planner sorts everything that is due to take the first few: a claim then costs as much as the backlog is long.
        """
        return _Transaction(self, SYSTEM, _WALK_INDEXES)

    async def run(self, org_id: str | None, work: Callable[[Tx], Awaitable[T]], *, attempts: int = 3) -> T:
        """`work` in a transaction (None: of all tenants), again after a serialization failure or a deadlock.

        `work` may run up to `attempts` times, so it must have no effect but through its transaction.
        """
        attempt = 1
        while True:
            try:
                async with self.system() if org_id is None else self.transaction(org_id) as tx:
                    return await work(tx)
            except TocsinError as error:
                if attempt >= attempts or not isinstance(error.__cause__, REPEATABLE):
                    raise
            await asyncio.sleep(random.uniform(0, _RETRY_BASE * 2**attempt))
            attempt += 1

    async def _begin(self, org_id: str, prelude: str) -> Connection:
        begin = "BEGIN;SET LOCAL tocsin.org_id='" + org_id.replace("'", "''") + "'" + prelude
        for _ in range(_BEGIN_ATTEMPTS):
            connection = await self._connections.acquire()
            try:
                await connection.execute(begin, timeout=_BEGIN_TIMEOUT)
            except BaseException as error:
                await self._roll_back(connection, error)
                if isinstance(error, TimeoutError) or not is_connection_loss(error, connection):
                    raise translate(error, connection) or error from error
                continue  # it died while idle; nothing was done yet, so another connection may begin
            return connection
        raise unavailable("the database cannot be reached; nothing was done")

    async def _commit(self, connection: Connection) -> None:
        try:
            outcome = await connection.execute("COMMIT")
        except BaseException as error:
            await self._roll_back(connection, error)
            if is_connection_loss(error, connection):
                raise unavailable("the connection was lost during COMMIT; the outcome is unknown") from error
            failure = translate(error, connection)
            if failure is not None:
                raise failure from error
            raise
        self._connections.release(connection)
        if outcome != "COMMIT":
            # PostgreSQL turns COMMIT of a failed transaction into ROLLBACK without an error.
            raise RuntimeError("the transaction was rolled back: an error inside it was swallowed")

    async def _roll_back(self, connection: Connection, error: BaseException) -> None:
        """Roll back and give the connection back, in a task of its own: a cancelled caller must not cut it short."""
        if connection.is_closed():
            self._connections.release(connection)
            return
        task = asyncio.get_running_loop().create_task(self._recover(connection))
        self._rollbacks.add(task)
        task.add_done_callback(self._rollbacks.discard)
        if isinstance(error, Exception):
            await asyncio.shield(task)

    async def _recover(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(_ROLLBACK_TIMEOUT):
                await connection.execute("ROLLBACK")
        except Exception:
            # Whatever kept it from rolling back, nobody may get this connection again.
            connection.terminate()
        finally:
            self._connections.release(connection)


class _Transaction(AbstractAsyncContextManager[Tx]):
    __slots__ = ("_connection", "_database", "_org_id", "_prelude", "_tx")

    def __init__(self, database: Database, org_id: str, prelude: str = "") -> None:
        self._database = database
        self._org_id = org_id
        self._prelude = prelude

    async def __aenter__(self) -> Tx:
        self._connection = await self._database._begin(self._org_id, self._prelude)
        self._tx = Tx(self._connection, self._org_id)
        return self._tx

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        callbacks = self._tx._end()
        if error is not None:
            await self._database._roll_back(self._connection, error)
            failure = translate(error, self._connection)
            if failure is not None:
                raise failure from error
            return
        await self._database._commit(self._connection)
        for callback in callbacks:
            try:
                outcome = callback()
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                _log.exception("after_commit_failed")

"""Transactions that know their tenant.

Every transaction begins with `SET LOCAL tocsin.org_id`, in the same round trip as BEGIN: row-level security then shows
and takes that tenant's rows only, also when a query forgets to. Prepared statements are cached per connection, so a pooler
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
from asyncpg.exceptions import ReadOnlySQLTransactionError

from tocsin_kit.db.connections import Connections
from tocsin_kit.db.dialing import Connection, dial
from tocsin_kit.db.failures import is_repeatable, translate, unavailable
from tocsin_kit.db.sessions import Sessions
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.metrics import Metrics

T = TypeVar("T")
AfterCommit = Callable[[], Awaitable[None] | None]

_log = get_logger(__name__)

SYSTEM: Final = "*"
"""The tenant of work that crosses tenants: relays, sweeps, claims."""
_RETRY_BASE: Final = 0.01
_IS_READ_ONLY: Final = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"
_RIGHTS: Final = """
SELECT kind || ' on ' || tables.relname AS name, has_table_privilege(tables.oid, kind) AS held
FROM pg_class AS tables CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS kind
WHERE tables.relnamespace = to_regnamespace(current_schema()) AND tables.relkind IN ('r', 'p') AND NOT tables.relispartition
"""
_WALK_INDEXES: Final = (
    ";SET LOCAL enable_sort=off;SET LOCAL enable_bitmapscan=off;SET LOCAL enable_seqscan=off"
    # One plan for all: planning a claim anew takes longer than running it.
    ";SET LOCAL plan_cache_mode=force_generic_plan"
)


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

    def _end(self) -> list[AfterCommit]:
        self._connection = None
        return self._after_commit


class Database:
    """One service's database: lends transactions, survives the server's absence."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._sessions = Sessions(connections)
        self._rights: set[str] = set()
        """What the role was seen to be allowed to do, as `INSERT on outbox`."""

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
        max_age: float = 600.0,
    ) -> "Database":
        """Start to connect in the background and return at once; `name` shows up in pg_stat_activity.

        `url` may name several hosts (`tocsin_kit.db.dialing`). Timeouts, and the age at which a connection is replaced,
        are in seconds. A statement that waits longer for a lock than `lock_timeout` fails as CONFLICT.
        """

        def connect() -> Awaitable[Connection]:
            return dial(
                url,
                name=name,
                command_timeout=statement_timeout * 2,  # the server's own speaks first unless the network is gone
                statement_cache_size=1024,
                settings={
                    "statement_timeout": f"{statement_timeout * 1000:.0f}",
                    "lock_timeout": f"{lock_timeout * 1000:.0f}",
                    # Nothing but SQL happens in a transaction: an idle one is a process that stands still with its locks.
                    "idle_in_transaction_session_timeout": "5000",
                },
            )

        connections = Connections(connect, name=name, size=size, max_age=max_age)
        if metrics is not None:
            metrics.watch_pool(lambda: connections.open, lambda: connections.lent, lambda: connections.waiting)
        connections.start()
        return cls(connections)

    async def close(self) -> None:
        """Wait for running transactions, at most 5 s, then close every connection."""
        await self._sessions.close()

    async def ping(self) -> None:
        """A transaction in which the server says that a write would be possible. Raises DATABASE_UNAVAILABLE.

        Asked explicitly, because a pooler need not pass on what the server reports by itself. A right that the role had on
        a table at an earlier ping and has lost counts as well: what needs it fails, while all else goes on.
        """
        async with self.system() as tx:
            if await tx.fetchval(_IS_READ_ONLY):
                raise ReadOnlySQLTransactionError("the session cannot write")
            rights = await tx.fetch(_RIGHTS)
        self._rights.update(right["name"] for right in rights if right["held"])
        lost = sorted(right["name"] for right in rights if not right["held"] and right["name"] in self._rights)
        if lost:
            raise unavailable(f"the service's role has lost rights it had: {', '.join(lost)}")

    def transaction(self, org_id: str) -> AbstractAsyncContextManager[Tx]:
        """A READ COMMITTED transaction of one tenant; commits at the normal end, rolls back on any exception.

        Raises DATABASE_UNAVAILABLE when the server is away or was lost on the way, CONFLICT when the database resolved
        a conflict against it. Constraint violations come out as asyncpg raised them.
        """
        if not org_id or "\0" in org_id:
            raise ValueError("a transaction needs its tenant")
        return _Transaction(self._sessions, org_id)

    def system(self) -> AbstractAsyncContextManager[Tx]:
        """A transaction that sees all tenants: for relays, sweeps and claims, never for a caller's request."""
        return _Transaction(self._sessions, SYSTEM)

    def claim(self) -> AbstractAsyncContextManager[Tx]:
        """A system transaction for `SELECT … ORDER BY due_time LIMIT n FOR UPDATE SKIP LOCKED`.

        It reads indexes in their order, no matter what the planner estimates. Without statistics (a table empty a moment ago)
        the planner sorts everything that is due to take the first few: a claim then costs as much as the backlog is long.
        """
        return _Transaction(self._sessions, SYSTEM, _WALK_INDEXES)

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
                if attempt >= attempts or not is_repeatable(error.__cause__):
                    raise
            await asyncio.sleep(random.uniform(0, _RETRY_BASE * 2**attempt))
            attempt += 1


class _Transaction(AbstractAsyncContextManager[Tx]):
    __slots__ = ("_connection", "_org_id", "_prelude", "_sessions", "_tx")

    def __init__(self, sessions: Sessions, org_id: str, prelude: str = "") -> None:
        self._sessions = sessions
        self._org_id = org_id
        self._prelude = prelude

    async def __aenter__(self) -> Tx:
        tenant = self._org_id.replace("'", "''")
        self._connection = await self._sessions.begin(f"BEGIN;SET LOCAL tocsin.org_id='{tenant}'{self._prelude}")
        self._tx = Tx(self._connection, self._org_id)
        return self._tx

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        callbacks = self._tx._end()
        if error is not None:
            failure = translate(error, self._connection)
            await self._sessions.roll_back(self._connection, error)
            if failure is not None:
                raise failure from error
            return
        await self._sessions.commit(self._connection)
        for callback in callbacks:
            try:
                outcome = callback()
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                _log.exception("after_commit_failed")

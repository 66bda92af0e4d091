"""Transactions that know their tenant.

Every transaction begins with `SET LOCAL tocsin.org_id`, in the same round trip as BEGIN. Row-level security then limits it to
that tenant's rows, even if a query forgets to. With a separate login for calls, no statement can change that
(`tocsin_kit.db.tenant_login`). Prepared statements are cached per connection, so a pooler in front of PostgreSQL must pool
sessions, not transactions.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Final, TypeVar

from asyncpg.exceptions import ReadOnlySQLTransactionError

from tocsin_kit import wall_clock
from tocsin_kit.db.autocommit import Autocommit
from tocsin_kit.db.connections import SYSTEM, Connections
from tocsin_kit.db.dialing import Connection, dial
from tocsin_kit.db.failures import is_repeatable, translate, unavailable
from tocsin_kit.db.own_sessions import require_own_sessions
from tocsin_kit.db.session_transaction import SessionTransaction
from tocsin_kit.db.sessions import Sessions
from tocsin_kit.db.tenant_login import TenantLogin
from tocsin_kit.db.tx import OneRoundTrip, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics

__all__ = ["ONE_PLAN", "SYSTEM", "Database", "OneRoundTrip", "Tx"]

T = TypeVar("T")

_NOBODY: Final = "-"
"""A tenant without rows, used to check the login of calls."""
_RETRY_BASE: Final = 0.01
ONE_PLAN: Final = "SET LOCAL plan_cache_mode=force_generic_plan"
"""For `first` of a transaction for which a person waits: PostgreSQL keeps the first plan of each statement. It would plan anew for
the first five times in each session, which takes longer than running the statement; and answers are rare, so most of them are among
these. For statements that find rows by their keys, where no value leads to another plan.
"""
_READ_ONLY: Final = f"SET TRANSACTION READ ONLY;{ONE_PLAN}"
_SCRIPT_PATIENCE: Final = "SET LOCAL lock_timeout='1s'"
"""Less than a BEGIN may take: a session that does not answer it in time counts as lost."""
_STANDING: Final = """
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only,
  extract(epoch FROM clock_timestamp())::float8 AS time
"""
_RIGHTS: Final = """
SELECT kind || ' on ' || tables.relname AS name, has_table_privilege(tables.oid, kind) AS held
FROM pg_class AS tables CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS kind
WHERE tables.relnamespace = to_regnamespace(current_schema()) AND tables.relkind IN ('r', 'p') AND NOT tables.relispartition
"""
_WALK_INDEXES: Final = (
    # An incremental sort uses an index of the tenant alone, and reads all of that tenant's rows for the first one.
    *("enable_sort=off", "enable_incremental_sort=off", "enable_bitmapscan=off"),
    # The price, because PostgreSQL 18 ignores `enable_seqscan` where only one part of a partitioned table remains.
    *("enable_seqscan=off", "seq_page_cost=1e6"),
    # One plan for all: planning a claim each time takes longer than running it.
    "plan_cache_mode=force_generic_plan",
)
_WALKING: Final = "".join(f";SET LOCAL {setting}" for setting in _WALK_INDEXES)
_OF_ALL_TENANTS: Final = ";".join(f"SET {setting}" for setting in (f"tocsin.org_id='{SYSTEM}'", *_WALK_INDEXES))
"""Settings of a session for single statements of all tenants. A pooler may drop the settings that a session is opened with."""
_MOST_AUTOCOMMIT: Final = 4
"""Sessions for them. Each is lent for one short statement."""


class Database:
    """The database of a service: lends transactions, and survives an outage of the server."""

    def __init__(
        self, connections: Connections, tenant_login: TenantLogin | None = None, autocommit: Connections | None = None
    ) -> None:
        self._connections = connections
        self._sessions = Sessions(connections)
        self._autocommit = None if autocommit is None else Sessions(autocommit)
        self._tenant_login = tenant_login
        self._rights: set[str] = set()
        """The rights that the role was seen to have, as `INSERT on outbox`."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        name: str,
        tenant_url: str = "",
        size: int = 10,
        metrics: Metrics | None = None,
        statement_timeout: float = 5.0,
        lock_timeout: float = 2.0,
        idle_timeout: float = 5.0,
        max_age: float = 600.0,
    ) -> "Database":
        """Start to connect in the background and return at once; `name` shows up in pg_stat_activity.

        `url` may name several hosts (`tocsin_kit.db.dialing`). Timeouts, and the age at which a connection is replaced, are in
        seconds. A statement that waits longer for a lock than `lock_timeout` fails as CONFLICT. The server ends a session that
        does nothing for `idle_timeout` inside a transaction. `tenant_url`: the login for transactions of one tenant, which has
        `size` connections of its own; without it they use `url`.
        """

        def connect(to: str) -> Awaitable[Connection]:
            return dial(
                to,
                name=name,
                # The server's own limit is reported first, unless the network is down.
                command_timeout=statement_timeout * 2,
                statement_cache_size=1024,
                settings={
                    "statement_timeout": f"{statement_timeout * 1000:.0f}",
                    "lock_timeout": f"{lock_timeout * 1000:.0f}",
                    # A transaction contains only SQL: an idle one belongs to a process that is stopped while it holds locks.
                    "idle_in_transaction_session_timeout": f"{idle_timeout * 1000:.0f}",
                },
            )

        async def connect_autocommit() -> Connection:
            connection = await connect(url)
            try:
                await connection.execute(_OF_ALL_TENANTS)
            except BaseException:
                connection.terminate()
                raise
            return connection

        connections = Connections(partial(connect, url), name=name, size=size, max_age=max_age)
        # Not started here: most processes never use it, and the first statement opens it.
        autocommit = Connections(
            connect_autocommit, name=f"{name}-autocommit", size=min(size, _MOST_AUTOCOMMIT), max_age=max_age
        )
        pools, login = [connections], None
        if tenant_url:
            login = TenantLogin(partial(connect, tenant_url), name=f"{name}-tenants", size=size, max_age=max_age)
            pools.append(login.sessions.connections)
        if metrics is not None:
            metrics.watch_pool(
                lambda: sum(pool.open for pool in (*pools, autocommit)),
                lambda: sum(pool.lent for pool in (*pools, autocommit)),
                lambda: sum(pool.waiting for pool in (*pools, autocommit)),
            )
        for pool in pools:
            pool.start()
        return cls(connections, login, autocommit)

    async def connected(self, seconds: float) -> bool:
        """Wait for the first session of each login, at most this long. False: one login has none yet, and attempts to connect
        continue."""
        logins = [self._connections]
        if self._tenant_login is not None:
            logins.append(self._tenant_login.sessions.connections)
        return all(await asyncio.gather(*(login.connected(seconds) for login in logins)))

    async def close(self) -> None:
        """Wait for running transactions, at most 5 s, then close every connection."""
        if self._tenant_login is not None:
            await self._tenant_login.sessions.close()
        if self._autocommit is not None:
            await self._autocommit.close()
        await self._sessions.close()

    async def ping(self, *, rights: bool = True) -> None:
        """A transaction in which the server says that a write would be possible. Raises DATABASE_UNAVAILABLE.

        Asked explicitly, because a pooler need not pass on what the server reports by itself. With `rights`: a right on a table
        that the role had at an earlier ping and has lost counts as a failure as well, since the work that needs it fails while
        all other work goes on; and so does a fault of the login of calls.
        """
        async with self.system() as tx:
            asked = time.monotonic()
            [(read_only, epoch)] = await tx.fetch(_STANDING)
            wall_clock.told(epoch, asked)
            if read_only:
                raise ReadOnlySQLTransactionError("the session cannot write")
            if not rights:
                return
            held = await tx.fetch(_RIGHTS)
        self._rights.update(right["name"] for right in held if right["held"])
        lost = sorted(right["name"] for right in held if not right["held"] and right["name"] in self._rights)
        if lost:
            raise unavailable(f"the service's role has lost rights it had: {', '.join(lost)}")
        if self._tenant_login is not None:
            async with self.transaction(_NOBODY) as tx:
                await self._tenant_login.check(tx)

    @property
    def sessions_made(self) -> int:
        """Sessions made so far. More than before: the server may be another one."""
        made = self._sessions.connections.made
        return made if self._tenant_login is None else made + self._tenant_login.sessions.connections.made

    async def require_rights(self) -> None:
        """Raises DATABASE_UNAVAILABLE while the login of calls, if there is one, lacks a right that `migrate` grants."""
        if self._tenant_login is not None:
            async with self.transaction(_NOBODY) as tx:
                await self._tenant_login.require_rights(tx)

    async def require_own_sessions(self) -> None:
        """Raises DATABASE_UNAVAILABLE while a pooler in front of the database pools transactions."""
        first = await self._connections.acquire()
        try:
            second = await self._connections.acquire()
        except BaseException:
            self._connections.release(first)
            raise
        try:
            await require_own_sessions(first, second)
        except BaseException as error:
            failure = translate(error, first)
            for each in (first, second):
                self._sessions.discard(each)
            raise failure or error from error
        self._connections.release(first)
        self._connections.release(second)

    def transaction(self, org_id: str, *, first: str = "") -> AbstractAsyncContextManager[Tx]:
        """A READ COMMITTED transaction of one tenant; commits at the normal end, rolls back on any exception.

        `first`: statements without parameters at its start, in the round trip of BEGIN; they must wait for no lock; `Tx.answer`
        is the answer of the last one. Raises DATABASE_UNAVAILABLE when the server is away or was lost on the way, CONFLICT when
        the database resolved a conflict against it. Constraint violations come out as asyncpg raised them.
        """
        _check(org_id)
        if self._tenant_login is not None and org_id != SYSTEM:
            return _TenantTransaction(self, self._tenant_login, org_id, first)
        return _Transaction(self._sessions, org_id, _with_first(_begin(org_id), first))

    def reading(self, org_id: str) -> AbstractAsyncContextManager[Tx]:
        """A transaction of one tenant that only reads, by keys (`ONE_PLAN`): PostgreSQL refuses its writes. The block ends without
        a wait for its end.

        Raises as `transaction`.
        """
        _check(org_id)
        if self._tenant_login is not None:
            return _TenantReading(self, self._tenant_login, org_id, _READ_ONLY)
        return _Reading(self._sessions, org_id, _with_first(_begin(org_id), _READ_ONLY))

    async def script(self, org_id: str, statements: str) -> None:
        """A transaction of one tenant, from BEGIN to COMMIT in one round trip: statements without parameters
        (`tocsin_kit.db.inlined`).

        They may be run twice, so repeating them must do no harm. Raises as `transaction`, and CONFLICT after waiting a second for a
        lock.
        """
        _check(org_id)
        login = None if org_id == SYSTEM else self._tenant_login
        if login is not None and not login.knows_key:
            async with self.system() as tx:
                await login.learn(tx)

        def whole(connection: Connection) -> str:
            begin = _begin(org_id) if login is None else login.begin(connection, org_id)
            return f"{begin};{_SCRIPT_PATIENCE};{statements};COMMIT"

        sessions = self._sessions if login is None else login.sessions
        connection, _ = await sessions.begin(whole, org_id=org_id)
        sessions.connections.release(connection)

    def system(self, *, first: str = "") -> AbstractAsyncContextManager[Tx]:
        """A transaction that sees all tenants: for relays, sweeps and claims, never for a caller's request. `first`: as for
        `transaction`."""
        return _Transaction(self._sessions, SYSTEM, _with_first(_BEGIN_ALL, first))

    def claim(self) -> AbstractAsyncContextManager[Tx]:
        """A system transaction for `SELECT … ORDER BY due_time LIMIT n FOR UPDATE SKIP LOCKED`.

        It reads indexes in their order, independent of the planner's estimates. Without statistics (a table that was empty a
        moment ago) the planner sorts all due rows to take the first few: the cost of a claim then grows with the backlog.
        """
        return _Transaction(self._sessions, SYSTEM, _BEGIN_ALL + _WALKING)

    def autocommit(self) -> AbstractAsyncContextManager[Tx]:
        """For one statement that is a system transaction by itself, in one round trip; see `Autocommit`.

        Raises as `transaction`. If the server is lost its outcome is unknown, so repeating it must do no harm.
        """
        return self.claim() if self._autocommit is None else Autocommit(self._autocommit, SYSTEM)

    def keeping(self, clean_up: str, *, first: str = "") -> SessionTransaction:
        """A system transaction that holds its session until its block ends; see `SessionTransaction`.

        `first`: a statement without parameters that is its first one, in the round trip of BEGIN.
        """
        return SessionTransaction(self._sessions, SYSTEM, _with_first(_BEGIN_ALL, first), clean_up)

    async def run(
        self, org_id: str | None, work: Callable[[Tx], Awaitable[T]], *, attempts: int = 3, first: str = ""
    ) -> T:
        """`work` in a transaction (None: of all tenants), repeated after a serialization failure or a deadlock.

        `work` may run up to `attempts` times, so it must have no effect outside of its transaction. `first`: as for
        `transaction`, for transactions of one tenant.
        """
        attempt = 1
        while True:
            try:
                async with self.system() if org_id is None else self.transaction(org_id, first=first) as tx:
                    return await work(tx)
            except TocsinError as error:
                if attempt >= attempts or not is_repeatable(error.__cause__):
                    raise
            await asyncio.sleep(random.uniform(0, _RETRY_BASE * 2**attempt))
            attempt += 1


def _check(org_id: str) -> None:
    if not org_id or "\0" in org_id:
        raise ValueError("a transaction needs its tenant")


def _begin(org_id: str) -> str:
    tenant = org_id.replace("'", "''")
    return f"BEGIN;SET LOCAL tocsin.org_id='{tenant}'"


def _with_first(begin: str, first: str) -> str:
    return f"{begin};{first}" if first else begin


_BEGIN_ALL: Final = _begin(SYSTEM)


class _Transaction(AbstractAsyncContextManager[Tx]):
    __slots__ = ("_begin", "_connection", "_org_id", "_sessions", "_tx")

    def __init__(self, sessions: Sessions, org_id: str, begin: str | Callable[[Connection], str]) -> None:
        self._sessions = sessions
        self._org_id = org_id
        self._begin = begin

    async def __aenter__(self) -> Tx:
        self._connection, answer = await self._sessions.begin(self._begin, org_id=self._org_id)
        self._tx = Tx(self._connection, self._org_id, answer)
        return self._tx

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tx.end()
        if error is not None:
            failure = translate(error, self._connection)
            await self._sessions.roll_back(self._connection, error)
            if failure is not None:
                raise failure from error
            return
        await self._sessions.commit(self._connection)
        await self._tx.ended()


class _Reading(_Transaction):
    __slots__ = ()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            await super().__aexit__(kind, error, traceback)
            return
        self._tx.end()
        self._sessions.end_later(self._connection)


class _TenantTransaction(_Transaction):
    """A transaction of the login of calls."""

    __slots__ = ("_database", "_login")

    def __init__(self, database: Database, login: TenantLogin, org_id: str, first: str) -> None:
        def begin(connection: Connection) -> str:
            return _with_first(login.begin(connection, org_id), first)

        super().__init__(login.sessions, org_id, begin)
        self._database = database
        self._login = login

    async def __aenter__(self) -> Tx:
        if not self._login.knows_key:
            async with self._database.system() as tx:
                await self._login.learn(tx)
        return await super().__aenter__()


class _TenantReading(_TenantTransaction, _Reading):
    __slots__ = ()

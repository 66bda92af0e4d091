"""Sessions for transactions: begun where a write is possible, given back clean, closed when in doubt."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from tocsin_kit.db.connections import SYSTEM, Connections
from tocsin_kit.db.dialing import Connection, is_read_only
from tocsin_kit.db.failures import is_connection_loss, spoils_session, translate, unavailable
from tocsin_kit.db.sqlstates import Meaning, decide
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

_ROLLBACK_TIMEOUT: Final = 2.0
_BEGIN_TIMEOUT: Final = 2.0
_BEGIN_ATTEMPTS: Final = 3
_READ_ONLY: Final = "25006"
_LOG_EVERY: Final = 5.0


class RolledBack(RuntimeError):
    """The COMMIT of a transaction in which an error was swallowed: a defect."""


class Sessions:
    """`begin` and `commit` a transaction on a connection of `connections`, or `roll_back`; each gives it back."""

    def __init__(self, connections: Connections) -> None:
        self.connections: Final = connections
        self._rollbacks: set[asyncio.Task[None]] = set()
        self._logged: dict[str, float] = {}

    async def close(self) -> None:
        """Wait for running transactions, at most 5 s, then close every connection."""
        await self.connections.close()
        if self._rollbacks:
            await asyncio.gather(*self._rollbacks, return_exceptions=True)

    async def begin(
        self, statement: str | Callable[[Connection], str], *, org_id: str = SYSTEM, clean_up: str = ""
    ) -> tuple[Connection, str]:
        """A connection on which `statement` (BEGIN and more) was run, and which can write; and the command tag of its last part,
        such as `SELECT 3`.

        Tenants, by `org_id`, alternate where they have to wait. A function returns the statement for the connection that it is
        given. `clean_up`: run after the ROLLBACK when it fails, for what a session holds beyond that.

        Raises DATABASE_UNAVAILABLE, or OVERLOADED when none became free.
        """
        refusal: TocsinError | None = None
        for _ in range(_BEGIN_ATTEMPTS):
            connection = await self.connections.acquire(org_id)
            try:
                text = statement if isinstance(statement, str) else statement(connection)
                answer = await connection.execute(text, timeout=_BEGIN_TIMEOUT)
            except BaseException as error:
                failure = translate(error, connection)
                elsewhere = spoils_session(error, connection)
                if isinstance(error, TimeoutError):
                    self.connections.distrust()
                    elsewhere = False  # the caller waited long enough
                await self.roll_back(connection, error, clean_up=clean_up)
                if failure is None or not elsewhere:
                    raise failure or error from error
                refusal = failure
                continue  # nothing was changed yet, so another connection may begin
            if is_read_only(connection):
                self.connections.distrust()
                self.discard(connection)
                refusal = unavailable("the database is read-only; nothing was done")
                continue
            return connection, answer
        raise refusal or unavailable("the database cannot be reached; nothing was done")

    async def commit(self, connection: Connection) -> None:
        """COMMIT and give the connection back. Raises as `send_commit`."""
        try:
            await self.send_commit(connection)
        except RolledBack:
            self.connections.release(connection)
            raise
        except BaseException as error:
            raw = error.__cause__ if isinstance(error, TocsinError) else error
            await self.roll_back(connection, raw or error)
            raise
        self.connections.release(connection)

    async def send_commit(self, connection: Connection) -> None:
        """COMMIT. Raises DATABASE_UNAVAILABLE also when the outcome is unknown; RolledBack."""
        try:
            outcome = await connection.execute("COMMIT")
        except BaseException as error:
            if is_connection_loss(error, connection):
                raise unavailable("the connection was lost during COMMIT; the outcome is unknown") from error
            failure = translate(error, connection)
            if failure is not None:
                raise failure from error
            raise
        if outcome != "COMMIT":
            # PostgreSQL turns COMMIT of a failed transaction into ROLLBACK without an error.
            raise RolledBack("the transaction was rolled back: an error inside it was swallowed")

    async def roll_back(self, connection: Connection, error: BaseException, *, clean_up: str = "") -> None:
        """Roll back and give the connection back, in a task of its own: a cancelled caller must not cut it short."""
        if connection.is_closed():
            self.connections.release(connection)
            return
        if isinstance(error, Exception) and spoils_session(error, connection):
            self._log(error)
            if getattr(error, "sqlstate", None) == _READ_ONLY:
                self.connections.distrust()
            self.discard(connection)
            return
        task = self.end_later(connection, clean_up=clean_up)
        if isinstance(error, Exception):
            await asyncio.shield(task)

    def end_later(self, connection: Connection, *, clean_up: str = "") -> "asyncio.Task[None]":
        """Roll back and give the connection back, while the caller goes on."""
        task = asyncio.get_running_loop().create_task(self._recover(connection, clean_up))
        self._rollbacks.add(task)
        task.add_done_callback(self._rollbacks.discard)
        return task

    def discard(self, connection: Connection) -> None:
        """Close the connection at once; the server rolls back what was not committed."""
        connection.terminate()
        self.connections.release(connection)

    async def _recover(self, connection: Connection, clean_up: str) -> None:
        try:
            async with asyncio.timeout(_ROLLBACK_TIMEOUT):
                await connection.execute(f"ROLLBACK;{clean_up}" if clean_up else "ROLLBACK")
        except Exception:
            # It could not roll back, so this connection must not be lent again.
            connection.terminate()
        finally:
            self.connections.release(connection)

    def _log(self, error: Exception) -> None:
        """The server's own text, which callers do not get; not for every call of an outage."""
        code = getattr(error, "sqlstate", None) or type(error).__name__
        decision = decide(error)
        if decision is not None and decision.meaning is not Meaning.AWAY:
            return
        now = time.monotonic()
        if now - self._logged.get(code, -_LOG_EVERY) >= _LOG_EVERY:
            self._logged[code] = now
            _log.warning("database_session_discarded", sqlstate=code, error=str(error))

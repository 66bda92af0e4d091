"""A transaction that holds its session: for locks of a session, which outlive the COMMIT."""

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Self

import asyncpg

from tocsin_kit.db.failures import spoils_session, translate
from tocsin_kit.db.sessions import Sessions
from tocsin_kit.db.tx import Tx
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

_CLEAN_UP_TIMEOUT: Final = 2.0


class SessionTransaction(AbstractAsyncContextManager["SessionTransaction"]):
    """Inside the block: read and write through `tx`, then `await commit()`; the session stays until the block ends.

    `answer`: the command tag of its first statement, such as `SELECT 3`. Leaving without `commit` rolls back. In both cases
    `clean_up` is run then, and a session in which it fails is closed: the server releases what a session holds when it ends.
    """

    __slots__ = ("_begin", "_clean_up", "_committed", "_connection", "_org_id", "_sessions", "answer", "tx")

    def __init__(self, sessions: Sessions, org_id: str, begin: str, clean_up: str) -> None:
        self._sessions = sessions
        self._org_id = org_id
        self._begin = begin
        self._clean_up = clean_up
        self._committed = False

    async def __aenter__(self) -> Self:
        # What the session holds beyond a ROLLBACK is released even if this fails half way.
        self._connection, self.answer = await self._sessions.begin(
            self._begin, org_id=self._org_id, clean_up=self._clean_up
        )
        self.tx = Tx(self._connection, self._org_id)
        return self

    def session_ended(self) -> bool:
        """Whether its session is gone; may be asked when the block has ended."""
        return self._connection.is_closed()

    async def commit(self) -> None:
        """Raises DATABASE_UNAVAILABLE also when the outcome is unknown, and CONFLICT. `tx` has ended when it returns."""
        await self._sessions.send_commit(self._connection)
        self._committed = True
        await self.tx.ended()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and spoils_session(error, self._connection):
            self._sessions.discard(self._connection)
        else:
            await self._give_back()
        failure = translate(error, self._connection) if error is not None else None
        if failure is not None:
            raise failure from error

    async def _give_back(self) -> None:
        statements = [] if self._committed else ["ROLLBACK"]
        if self._clean_up:
            statements.append(self._clean_up)
        if statements and not self._connection.is_closed():
            try:
                await self._connection.execute(";".join(statements), timeout=_CLEAN_UP_TIMEOUT)
            except BaseException as failure:
                self._sessions.discard(self._connection)
                if not isinstance(failure, (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                    raise
                _log.warning("session_dropped", error=repr(failure))
                return
        self._sessions.connections.release(self._connection)

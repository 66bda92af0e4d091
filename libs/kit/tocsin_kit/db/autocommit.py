"""A statement that is a transaction by itself: one round trip, where BEGIN, the statement and COMMIT are three."""

from contextlib import AbstractAsyncContextManager
from types import TracebackType

from tocsin_kit.db.dialing import Connection
from tocsin_kit.db.failures import translate
from tocsin_kit.db.sessions import Sessions
from tocsin_kit.db.tx import Tx


class Autocommit(AbstractAsyncContextManager[Tx]):
    """Inside the block: one statement, which is committed when it has answered. A second one raises RuntimeError.

    Settings of a transaction, such as its tenant, were set when the session was opened.
    """

    __slots__ = ("_connection", "_org_id", "_sessions", "_tx")

    def __init__(self, sessions: Sessions, org_id: str) -> None:
        self._sessions = sessions
        self._org_id = org_id

    async def __aenter__(self) -> Tx:
        self._connection = await self._sessions.connections.acquire()
        self._tx = _OneStatement(self._connection, self._org_id)
        return self._tx

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tx.end()
        if error is None:
            self._sessions.connections.release(self._connection)
            return
        failure = translate(error, self._connection)
        await self._sessions.roll_back(self._connection, error)
        if failure is not None:
            raise failure from error


class _OneStatement(Tx):
    __slots__ = ()

    def _live(self) -> Connection:
        connection = super()._live()
        self.end()
        return connection

"""A pooler that pools transactions is found before a call is served."""

from typing import Any, cast

import asyncpg
import pytest
from tocsin_kit.db.dialing import Connection
from tocsin_kit.db.own_sessions import require_own_sessions
from tocsin_kit.errors import TocsinError


class Pooler:
    """As PgBouncer with pool_mode=transaction: a session belongs to a client from BEGIN to the end of its transaction, and the one
    that was used last is lent first."""

    def __init__(self, *sessions: asyncpg.Connection) -> None:
        self.idle = list(sessions)


class Client:
    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler
        self._mine: asyncpg.Connection | None = None

    async def execute(self, statement: str) -> str:
        session = self._mine or self._pooler.idle.pop()
        answer = str(await session.execute(statement))
        self._mine = session if session.is_in_transaction() else None
        if self._mine is None:
            self._pooler.idle.append(session)
        return answer


async def test_what_a_pooler_of_transactions_lends_is_no_session(url: str) -> None:
    sessions = [await asyncpg.connect(url) for _ in range(3)]
    pooler = Pooler(*sessions)
    with pytest.raises(TocsinError, match="pools transactions"):
        await require_own_sessions(cast("Connection", Client(pooler)), cast("Connection", Client(pooler)))
    assert len(pooler.idle) == 3, "no transaction was left open"
    await require_own_sessions(*sessions[:2])
    for each in sessions:
        await each.close()


async def test_sessions_of_the_server_are_given_back_as_they_were(open_database: Any) -> None:
    db = await open_database(size=2)
    for _ in range(3):
        await db.require_own_sessions()
    async with db.system() as tx:
        assert await tx.fetchval("SELECT current_setting('tocsin.session', true)") in (None, "")
    assert (db._connections.lent, db._connections.made) == (0, 2)

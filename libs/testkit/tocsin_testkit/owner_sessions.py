"""A session of its owner in each database, which sees every tenant and is kept for the next question."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg

T = TypeVar("T")

_LOST: Final = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, asyncpg.InterfaceError, OSError)


class OwnerSessions:
    """To open a session costs ten times what a question costs, and every test asks several."""

    def __init__(self) -> None:
        self._kept: dict[str, asyncpg.Connection] = {}

    async def execute(self, url: str, sql: str) -> None:
        """Run statements that may be run twice."""
        await self._try(url, lambda session: session.execute(sql))

    async def fetchval(self, url: str, sql: str) -> Any:
        """The first column of the first row."""
        return await self._try(url, lambda session: session.fetchval(sql))

    async def close(self) -> None:
        """End all of them."""
        for session in self._kept.values():
            await session.close(timeout=5)
        self._kept.clear()

    async def _try(self, url: str, ask: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        kept = self._kept.pop(url, None)
        if kept is not None:
            try:
                return await self._ask(url, kept, ask)
            except _LOST:
                pass  # the server was started anew since the last question
        session = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
        return await self._ask(url, session, ask)

    async def _ask(self, url: str, session: asyncpg.Connection, ask: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """A session is kept when it has answered, and closed otherwise."""
        try:
            answer = await ask(session)
        except BaseException:
            session.terminate()
            raise
        if url in self._kept:
            await session.close()
        else:
            self._kept[url] = session
        return answer

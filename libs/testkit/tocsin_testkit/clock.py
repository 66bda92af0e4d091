"""Moving time: the one clock everything reads is a function in each database, and a test may replace it."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import asyncpg


def clock_reads(time: str) -> str:
    """The statement after which a database's clock gives the SQL expression `time`, such as `now() + interval '1 hour'`."""
    return f"CREATE OR REPLACE FUNCTION app_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$SELECT {time}$$"


def clock_is_ahead(by: timedelta) -> str:
    """The statement after which a database's clock is so far ahead of the machine's."""
    return clock_reads(f"now() + make_interval(secs => {by.total_seconds()})")


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


class MovableClock:
    """All databases' `app_now()` at once. Time only goes forward."""

    def __init__(self, urls: Iterable[str], execute: Callable[[str, str], Awaitable[None]] = _execute) -> None:
        """`execute`: runs SQL in the database with that URL."""
        self._urls = list(urls)
        self._execute = execute
        self.offset = timedelta()

    async def forward(self, by: timedelta) -> None:
        """It is `by` later, everywhere, from now on."""
        self.offset += by
        for url in self._urls:
            await self._execute(url, clock_is_ahead(self.offset))

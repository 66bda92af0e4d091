"""Moving time: the one clock everything reads is a function in each database, and a test may replace it."""

from collections.abc import Iterable
from datetime import timedelta

import asyncpg


class MovableClock:
    """All databases' `app_now()` at once. Time only goes forward, as it does for everybody."""

    def __init__(self, urls: Iterable[str]) -> None:
        self._urls = list(urls)
        self.offset = timedelta()

    async def forward(self, by: timedelta) -> None:
        """It is `by` later, everywhere, from now on."""
        self.offset += by
        seconds = self.offset.total_seconds()
        for url in self._urls:
            connection = await asyncpg.connect(url)
            try:
                await connection.execute(
                    f"""CREATE OR REPLACE FUNCTION app_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
                        AS 'SELECT now() + make_interval(secs => {seconds})'"""
                )
            finally:
                await connection.close()

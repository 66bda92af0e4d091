"""The health check of a service's database: it asks often whether the server takes writes, and seldom for the rights of the logins.

It writes nothing itself, so a full disk does not fail it.
"""

import time
from typing import Final

from tocsin_kit.db.pool import Database

RIGHTS_EVERY: Final = 5.0
"""Seconds between two checks of the rights of the logins: they cost ten times as much as the rest, and rarely change."""


class Probe:
    """`check` is the health check. It also checks the rights when there are new sessions, and while something is wrong."""

    def __init__(self, database: Database, *, rights_every: float = RIGHTS_EVERY) -> None:
        self._database = database
        self._rights_every = rights_every
        self._sessions = 0
        self._due = float("-inf")

    async def check(self) -> None:
        """Raises DATABASE_UNAVAILABLE."""
        rights = time.monotonic() >= self._due or self._database.sessions_made != self._sessions
        self._due, due = float("-inf"), self._due
        await self._database.ping(rights=rights)
        self._due = time.monotonic() + self._rights_every if rights else due
        self._sessions = self._database.sessions_made

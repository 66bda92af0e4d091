"""One query each second, for all loops that wait for due rows."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Final

from tocsin_kit.db.pool import Database
from tocsin_kit.loops import Loops, Sweep

from tocsin_notify.store.delivery import looks
from tocsin_notify.store.delivery.looks import Due

_LOOK_SECONDS: Final = 1.0
_UNASKED_SECONDS: Final = 30.0
"""Each loop runs this often, even if no query found anything for it."""


class Looks:
    """Nudges each loop that has due rows of its kind."""

    def __init__(self, db: Database, loops: Loops) -> None:
        """Adds the loop that looks."""
        self._db = db
        self._nudged: dict[str, list[asyncio.Event]] = {field.name: [] for field in fields(Due)}
        loops.add("looks", Sweep(_LOOK_SECONDS, self))

    def sweep(self, kind: str, work: Callable[[], Awaitable[object]], *, nudged: asyncio.Event | None = None) -> Sweep:
        """Run `work` whenever a query finds that `kind`, a field of `Due`, may be due, and at once after a nudge.

        It does not run at the start by itself: the first query is then, and asks for all loops together.
        """
        event = nudged or asyncio.Event()
        self._nudged[kind].append(event)
        return Sweep(_UNASKED_SECONDS, work, nudged=event, first=_UNASKED_SECONDS)

    async def __call__(self) -> None:
        """One query. Raises DATABASE_UNAVAILABLE."""
        async with self._db.autocommit() as tx:
            due = await looks.look(tx)
        for kind, events in self._nudged.items():
            if getattr(due, kind):
                for event in events:
                    event.set()

"""Tells the other replicas that tenants have changes, through Redis. PostgreSQL has the changes: a lost hint costs a second."""

import asyncio
import os
from collections.abc import Collection
from typing import Any, Final

from redis.exceptions import RedisError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_for_any, wait_or_stop, while_away
from tocsin_timers.connections import Connections

from tocsin_escalation.app.watching.watch_incidents import Feeds

_log = get_logger(__name__)

BLOCK_SECONDS: Final = 1.0
_KEY: Final = "tocsin:escalation:changes"
_KEPT: Final = 1000
_AT_ONCE: Final = 100
_ERRORS: Final = (RedisError, OSError)


class ChangeHints:
    """Receives committed changes: streams of this process get them at once, those of other processes through Redis."""

    def __init__(self, feeds: Feeds, redis: Connections) -> None:
        self._feeds = feeds
        self._redis = redis
        self._replica = os.urandom(8).hex()
        self._pending: set[str] = set()
        self._wake = asyncio.Event()

    def changed(self, org_ids: Collection[str]) -> None:
        """These tenants have committed changes."""
        if org_ids:
            self._feeds.changed(org_ids)
            self._pending.update(org_ids)
            self._wake.set()

    async def tell(self, stop: asyncio.Event) -> None:
        """The loop that publishes. Changes that are committed while Redis is being called go into one further message."""
        while not stop.is_set():
            await wait_for_any(self._wake, stop)
            self._wake.clear()
            pending, self._pending = self._pending, set()
            if not pending:
                continue
            told = {"replica": self._replica, "tenants": "\n".join(pending)}
            try:
                await self._redis.commands.xadd(_KEY, told, maxlen=_KEPT, approximate=True)  # type: ignore[arg-type]
            except _ERRORS as error:
                _log.debug("change_hint_lost", error=repr(error)[:200])

    async def hear(self, stop: asyncio.Event) -> None:
        """The loop that listens."""
        failures, last = 0, "$"
        while not stop.is_set():
            try:
                reply: Any = await self._redis.blocking.xread(
                    {_KEY: last}, count=_AT_ONCE, block=int(BLOCK_SECONDS * 1000)
                )
            except _ERRORS:
                failures, last = failures + 1, "$"
                await wait_or_stop(stop, while_away(failures))
                continue
            failures = 0
            for _, messages in reply or ():
                for id, fields in messages:
                    last = id
                    if fields[b"replica"].decode() != self._replica:
                        self._feeds.changed(fields[b"tenants"].decode().split("\n"))

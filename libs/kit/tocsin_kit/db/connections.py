"""A small pool of asyncpg connections that detects outages.

asyncpg's own pool proxies every call, starts tasks per acquire and release, and sends a reset query per release. A transaction
here leaves nothing behind (SET LOCAL only), so none of that is needed. While the server is away one task tries to connect, with
backoff and jitter. Callers wait for it a moment (`_PATIENCE`), which covers a restart, and then get the error.

A pool grows by one connection at a time. Opening one takes longer than most transactions, so a burst, such as all loops of a
starting service, is mostly served by connections that are given back meanwhile. Each further connection would cost the server a
process.

Tenants are served in rotation. That alone would not help while slow statements of a few tenants hold all connections: so the
more of them a tenant holds, the more it has to leave free.
"""

import asyncio
import contextlib
import contextvars
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.counts import Counts
from tocsin_kit.db.dialing import Connection
from tocsin_kit.db.failures import unavailable
from tocsin_kit.errors import TocsinError
from tocsin_kit.fair_queue import FairQueue
from tocsin_kit.logging import get_logger

SYSTEM: Final = "*"
"""The tenant of work that crosses tenants: relays, sweeps, claims."""
Waiter = asyncio.Future[Connection | None]

_log = get_logger(__name__)

_PATIENCE: Final = 0.5
"""Seconds a caller waits for a server that is away: below a client's usual deadline of 2 s."""
_QUEUE_TIMEOUT: Final = 5.0
"""Seconds a caller waits for a connection of a busy pool."""
_WAITERS_PER_CONNECTION: Final = 200
"""Further callers would not be served in time; they are refused at once. One tenant may have half of them."""
_HELD_PER_FREE: Final = 2
"""A tenant that holds connections gets a further one only while it holds fewer than so many for each free one. Of ten, a tenant
alone can hold seven, a second one then two, and one is left for a third."""
_BACKOFF_CAP: Final = 0.3
"""The longest pause between two attempts to connect; below `_PATIENCE`, so that calls are served that arrive once the server is
back."""
_CLOSE_TIMEOUT: Final = 5.0
_AGE_SPREAD: Final = 0.2
"""Part of the maximum age by which a connection may end earlier, so that not all of them are replaced at once."""


class Connections:
    """At most `size` connections made by `dial`, lent one at a time, each for at most `max_age` seconds."""

    def __init__(
        self, dial: Callable[[], Awaitable[Connection]], *, name: str, size: int, max_age: float = 600.0
    ) -> None:
        self._dial = dial
        self._name = name
        self._size = size
        self._max_age = max_age
        self._idle: list[Connection] = []
        self._lent: dict[Connection, str] = {}
        """The tenant that each connection is lent to."""
        self._held: Counts[str] = Counts()
        self._expiry: dict[Connection, float] = {}
        self._farewells: set[asyncio.Task[None]] = set()
        self._waiters: FairQueue[str, Waiter] = FairQueue()
        self._redialing: asyncio.Task[None] | None = None
        """While the server is away."""
        self._growing: asyncio.Task[None] | None = None
        self._closing = False
        self._drained = asyncio.Event()
        self.made = 0
        """Connections made so far."""

    @property
    def open(self) -> int:
        """Connections that exist or are being made."""
        return len(self._idle) + len(self._lent) + (self._growing is not None)

    @property
    def lent(self) -> int:
        """Connections in use."""
        return len(self._lent)

    @property
    def waiting(self) -> int:
        """Callers without a connection."""
        return len(self._waiters)

    def start(self) -> None:
        """Begin to dial in the background; returns at once, whether or not the server is there."""
        self._redialing = asyncio.get_running_loop().create_task(self._redial(), name=f"{self._name}-dial")

    async def connected(self, seconds: float) -> bool:
        """Wait for the first connection, at most this long. False: the server is away, and attempts to connect continue."""
        if self._redialing is not None:
            await asyncio.wait([self._redialing], timeout=seconds)
        return self._redialing is None

    async def acquire(self, org_id: str = SYSTEM) -> Connection:
        """A live connection, for this tenant or for work of all tenants.

        Raises DATABASE_UNAVAILABLE (server away) or OVERLOADED (no connection that it may use became free in time).
        """
        while not self._closing:
            connection = self._pop_idle() if self._may_have(org_id) else None
            if connection is not None:
                self._lend(connection, org_id)
                return connection
            self._grow()
            connection = await self._wait(org_id)
            if connection is not None:
                return connection
        raise unavailable("the database connections are closed")

    def release(self, connection: Connection) -> None:
        """Give back a connection outside of a transaction, or a closed one."""
        self._held.less(self._lent.pop(connection))
        if self._closing:
            connection.terminate()
            if not self._lent:
                self._drained.set()
            return
        if not self._is_over(connection):
            self._idle.append(connection)
        self._lend_idle()
        if self._waiters:
            self._grow()

    def distrust(self) -> None:
        """Close every connection as soon as it is free: the others would meet the same fault.

        For a server that hangs or became read-only. Callers then wait for a connection that can write, and get an error soon when
        there is none; they do not try one old connection after the other.
        """
        for connection in self._expiry:
            self._expiry[connection] = 0.0
        for connection in self._idle:
            connection.terminate()
            self._expiry.pop(connection, None)
        self._idle.clear()
        if self._redialing is None and not self._closing:
            self.start()

    async def close(self) -> None:
        """Wait for lent connections, at most 5 s, then close everything."""
        self._closing = True
        dialing = [task for task in (self._redialing, self._growing) if task is not None]
        for task in dialing:
            task.cancel()
        await asyncio.gather(*dialing, return_exceptions=True)
        self._wake_all()
        if self._lent:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._drained.wait()
        for connection in self._lent:
            connection.terminate()
        closing = [connection.close(timeout=_CLOSE_TIMEOUT) for connection in self._idle if not connection.is_closed()]
        await asyncio.gather(*closing, *self._farewells, return_exceptions=True)
        self._idle.clear()

    def _may_have(self, org_id: str) -> bool:
        """Whether a connection may be lent to this tenant now, if one is free. Work of all tenants belongs to no tenant, and has
        a pool of its own where calls have a login of their own."""
        held = self._held[org_id]
        return not held or org_id == SYSTEM or held < _HELD_PER_FREE * (self._size - len(self._lent))

    def _lend(self, connection: Connection, org_id: str) -> None:
        self._lent[connection] = org_id
        self._held[org_id] += 1

    def _lend_idle(self) -> None:
        """To waiting callers, as far as they may have it."""
        while self._idle and (first := self._waiters.take(self._may_have)) is not None:
            org_id, waiter = first
            if waiter.done():
                continue
            connection = self._pop_idle()
            if connection is not None:
                self._lend(connection, org_id)
            waiter.set_result(connection)

    def _pop_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not self._is_over(connection):
                return connection
        return None

    def _admit(self, connection: Connection) -> None:
        self.made += 1
        self._expiry[connection] = time.monotonic() + self._max_age * random.uniform(1 - _AGE_SPREAD, 1)

    def _is_over(self, connection: Connection) -> bool:
        """Whether it must not be used any more; then it is dropped, and closed in the background."""
        if not connection.is_closed():
            if time.monotonic() < self._expiry.get(connection, 0.0):
                return False
            farewell = asyncio.get_running_loop().create_task(_close(connection))
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)
        self._expiry.pop(connection, None)
        return True

    def _grow(self) -> None:
        """Begin to make one more connection, if the pool may have one."""
        if self._growing is None and self._redialing is None and self.open < self._size and not self._closing:
            # A context of its own: it does not belong to the call that arrived first, and neither do its log lines.
            self._growing = asyncio.get_running_loop().create_task(
                self._dial_while_wanted(), name=f"{self._name}-grow", context=contextvars.Context()
            )

    async def _dial_while_wanted(self) -> None:
        try:
            while self._waiters and self._redialing is None and len(self._idle) + len(self._lent) < self._size:
                connection = await self._dial()
                self._admit(connection)
                self._idle.append(connection)
                self._lend_idle()
        except Exception as error:
            _log.warning("database_unreachable", database=self._name, error=_describe(error))
            if self._redialing is None and not self._closing:
                self.start()
            self._wake_all()  # they wait less long for a server that is away
        finally:
            self._growing = None

    async def _wait(self, org_id: str) -> Connection | None:
        away = self._redialing is not None
        most = self._size * _WAITERS_PER_CONNECTION
        if len(self._waiters) >= most or self._waiters.of(org_id) >= most // 2:
            raise TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "too many calls wait for the database")
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(org_id, waiter)
        try:
            async with asyncio.timeout(_PATIENCE if away else _QUEUE_TIMEOUT):
                return await waiter
        except TimeoutError:
            self._disown(org_id, waiter)
            if away or self._growing is not None:  # there is room, and the server does not answer
                raise unavailable("the database cannot be reached; nothing was done") from None
            raise TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "no database connection became free") from None
        except asyncio.CancelledError:
            self._disown(org_id, waiter)
            raise

    def _disown(self, org_id: str, waiter: Waiter) -> None:
        """The caller left; a connection that it got at the same moment goes to the next one."""
        if waiter.done() and not waiter.cancelled():
            connection = waiter.result()
            if connection is not None:
                self.release(connection)
        else:
            self._waiters.remove(org_id, waiter)

    def _wake_all(self) -> None:
        """Let all waiting callers try again."""
        while (first := self._waiters.take()) is not None:
            _, waiter = first
            if not waiter.done():
                waiter.set_result(None)

    async def _redial(self) -> None:
        delay, last_said = 0.02, ""
        while True:
            try:
                connection = await self._dial()
                break
            except Exception as error:
                # Any error: if this task ended, no connection would ever be made again. To callers, a server that refuses the
                # login looks like one that is away, so the reason is logged here, once.
                why = _describe(error)
                log = _log.debug if why == last_said else _log.warning
                log("database_unreachable", database=self._name, error=why)
                last_said = why
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(_BACKOFF_CAP, delay * 2)
        _log.info("database_connected", database=self._name)
        self._redialing = None
        self._admit(connection)
        self._idle.append(connection)
        self._wake_all()


async def _close(connection: Connection) -> None:
    try:
        await connection.close(timeout=_CLOSE_TIMEOUT)
    except Exception:
        connection.terminate()


def _describe(error: BaseException) -> str:
    """Type and text; a driver's connect error names host and database but never the password."""
    return f"{type(error).__name__}: {error}"

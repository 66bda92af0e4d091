"""Which processes that send are alive. The attempts of a dead process are taken over at once, not at the end of their
leases.

Each process holds an advisory lock of its own, on a session of its own, for as long as it lives, and writes the lock's
key into the attempts it makes. The kernel closes the session of a process that dies, so the lock is free within
milliseconds. A process that is stopped keeps its session, and with it the lock. Its calls may be under way, and a
repeat would ring twice, so its attempts wait for their lease. The same holds for a host that lost its power or its
network, until PostgreSQL gives up its sessions (`tocsin_kit.db.dialing`).

A session can end while its process lives: PostgreSQL restarts, an operator ends it. The process takes the lock again
within a fraction of a second, on a new session; others count it as dead only after `LOOKS` looks that found it free,
`LOOK_SECONDS` apart. While a process does not hold its lock on the server to which it writes, it writes no key into new
attempts.

**A free lock proves something only if it was held.** When PostgreSQL restarts or another server takes over, every
process loses its lock at once, and some processes reconnect later than others. So a process counts another one as dead
only if that one has held its lock since `Presence.since`: it was seen to hold it, or it made its attempt after that.
The attempts of all others wait for their lease.

**A lease that ran out while no process could write proves nothing either**: its owner may hold an outcome that it could
not write. A process that finds that PostgreSQL was away extends such leases by `RECOVERY_SECONDS`
(`app.delivery.take_over`). The same holds for a lease that ended because PostgreSQL's clock was set forward: its call
may be under way.

A call that has not begun cannot begin after another process took it over. Attempts younger than `YOUNG_SECONDS` are
never taken over, and older ones ask the gate first (`app.delivery.permits`), which finds that their lease is over.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.dialing import Connection, dial, is_read_only
from tocsin_kit.db.pool import Tx
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_or_stop

from tocsin_notify.store.delivery.gate import PROOF_SECONDS, STARTUP_SECONDS

_log = get_logger(__name__)

LOOK_SECONDS: Final = 0.5
LOOKS: Final = 4
RECOVERY_SECONDS: Final = 5.0
"""Time for owners to write the outcomes that they could not write while PostgreSQL was away: many times what they need
to reconnect."""
YOUNG_SECONDS: Final = PROOF_SECONDS + 0.5
_PING_SECONDS: Final = 1.0
_LONGEST_PAUSE: Final = 0.3
"""Seconds between two attempts to connect: well below the time after which others count this process as dead."""

NAMES: Final = "(SELECT {own}::bigint WHERE NOT pg_try_advisory_xact_lock_shared({own}))"
"""The key that an attempt stores: `own` while its lock is held on this server, which may be another server than a
moment ago."""

_TAKE: Final = "SELECT pg_advisory_lock($1)"
# The time at which sessions may have ended at once: a lock that is free since then proves nothing. A server that lost
# one process restarts the others without restarting itself; it resets its statistics then.
_UPTIME: Final = """
SELECT extract(epoch FROM clock_timestamp() - greatest(pg_postmaster_start_time(),
  (SELECT stats_reset FROM pg_stat_bgwriter)))::float8
"""
# A free lock is taken in shared mode until the transaction ends, so that no process is counted as dead while it
# reconnects, and two processes that look at the same time see the same. On a server where this process does not hold
# its own lock, no process is counted as dead.
_LOOK: Final = """
WITH named AS MATERIALIZED (
  SELECT DISTINCT a.sender FROM notifications n
  JOIN attempts a ON a.org_id = n.org_id AND a.notification_id = n.id AND a.number = n.attempts
  WHERE n.state = 'sending' AND n.lease_until > app_now() AND a.sender <> $1
)
SELECT sender, pg_try_advisory_xact_lock_shared(sender) AS free
FROM (SELECT $1::bigint AS sender UNION ALL SELECT sender FROM named) AS asked
"""
_OTHERS: Final = """
SELECT EXISTS (
  SELECT FROM notifications n
  JOIN attempts a ON a.org_id = n.org_id AND a.notification_id = n.id AND a.number = n.attempts
  WHERE n.state = 'sending' AND n.lease_until > app_now() AND a.sender <> $1
)
"""
_END_LEASES: Final = """
WITH theirs AS (
  SELECT n.id FROM notifications n
  JOIN attempts a ON a.org_id = n.org_id AND a.notification_id = n.id AND a.number = n.attempts
  WHERE n.state = 'sending' AND n.lease_until > app_now() AND a.sender = ANY($1::bigint[])
    AND a.start_time <= app_now() - make_interval(secs => $2)
    AND (a.sender = ANY($3::bigint[]) OR a.start_time >= app_now() - make_interval(secs => $4))
  ORDER BY n.id FOR UPDATE OF n SKIP LOCKED
)
UPDATE notifications n SET lease_until = app_now() FROM theirs t WHERE n.id = t.id RETURNING n.id, n.lease_until
"""


_PROLONG: Final = """
WITH over AS (
  SELECT id FROM notifications WHERE state = 'sending' AND lease_until <= app_now() AND ($2::uuid[] IS NULL OR id = ANY($2))
  ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE notifications n SET lease_until = app_now() + make_interval(secs => $1) FROM over o WHERE n.id = o.id
"""


@dataclass(frozen=True, slots=True)
class Look:
    """The locks of the processes that have attempts under way."""

    counts: bool
    """Whether the process that looks holds its own lock on this server."""
    held: set[int]
    free: set[int]


async def others(tx: Tx, own: int) -> bool:
    """Whether an attempt of another sender than `own` is under way."""
    return bool(await tx.fetchval(_OTHERS, own))


async def look(tx: Tx, own: int) -> Look:
    """The locks of the senders of attempts under way, except `own`."""
    free = {row["sender"]: row["free"] for row in await tx.fetch(_LOOK, own)}
    counts = not free.pop(own)
    return Look(
        counts, {key for key, is_free in free.items() if not is_free}, {key for key, is_free in free.items() if is_free}
    )


async def end_leases(tx: Tx, senders: Collection[int], seen: Collection[int], since: float) -> dict[UUID, datetime]:
    """End the leases of the attempts of these senders, so that any replica may take them over; returns their notifications,
    with the end of the lease.

    Of senders that are not in `seen`, only attempts of the last `since` seconds. Run it in the transaction in which
    `look` found the locks free.
    """
    rows = await tx.fetch(_END_LEASES, list(senders), YOUNG_SECONDS, list(seen), since)
    return {row["id"]: row["lease_until"] for row in rows}


async def prolong(tx: Tx, seconds: float, only: Collection[UUID] | None = None) -> int:
    """Extend leases that are over, of these notifications or of all; returns how many."""
    return int((await tx.execute(_PROLONG, seconds, None if only is None else list(only))).rpartition(" ")[2])


class Presence:
    """The lock of this process."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self.key: Final = random.SystemRandom().getrandbits(63)
        """The key that names this process. A collision with a key of an incident (`store.delivery.gate`), which is a
        hash, does no harm."""
        self._connect = connect
        self._held = asyncio.Event()
        self._since: float | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, *, name: str) -> "Presence":
        """Return when the lock is held, or after three seconds: then it is taken in the background."""

        def connect() -> Awaitable[Connection]:
            return dial(
                url,
                name=f"{name}-presence",
                command_timeout=10.0,
                settings={"statement_timeout": "8000", "lock_timeout": "6000"},
            )

        presence = cls(connect)
        presence._task = asyncio.get_running_loop().create_task(presence._keep(), name=f"{name}-presence")
        await wait_or_stop(presence._held, STARTUP_SECONDS)
        return presence

    @property
    def sender(self) -> int | None:
        """The key for attempts; None while the lock is not held: then only their lease protects them."""
        return self.key if self._held.is_set() else None

    @property
    def since(self) -> float | None:
        """The time since which sessions have not ended all at once, by `time.monotonic`; None while this process has no
        session.

        It may be earlier than this process.
        """
        return self._since if self._held.is_set() else None

    async def close(self) -> None:
        """Give the lock back. Other processes soon take over the attempts under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                connection = await self._connect()
                try:
                    await self._hold(connection)
                finally:
                    self._held.clear()
                    connection.terminate()
            except Exception as error:
                # Any error: if this task ended, the process would count as dead for ever.
                _log.debug("presence_failed", error=repr(error))
            await wait_or_stop(asyncio.Event(), random.uniform(0, _LONGEST_PAUSE))

    async def _hold(self, connection: Connection) -> None:
        """Returns or raises when the session is over."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.execute(_TAKE, self.key)
        uptime = await connection.fetchval(_UPTIME) if self._since is None else 0.0
        self._since = time.monotonic() - max(0.0, uptime)  # below 0: the server's clock was set back
        self._held.set()
        while not await wait_or_stop(lost, _PING_SECONDS):
            await connection.execute("SELECT 1")
            if is_read_only(connection):
                break  # a primary that was replaced: the valid locks are on another server
        _log.warning("presence_lost", meaning="until it is back, attempts of this process wait for their lease")


@dataclass(frozen=True, slots=True)
class Leases:
    """How long attempts that begin in this process belong to it."""

    seconds: float
    """After this time without an outcome, another replica may take the row."""
    presence: Presence

    @property
    def sender(self) -> int | None:
        """See `Presence.sender`."""
        return self.presence.sender

"""Which processes that send are alive. A dead one's attempts are taken over at once, instead of when their leases end.

Each process holds an advisory lock of its own, on a session of its own, for as long as it lives, and writes the lock's
key into the attempts it makes. The kernel closes the session of a process that dies, so the lock is free within
milliseconds. A process that stands still keeps its session, and with it the lock: its calls may be under way, and
calling again would ring twice, so they wait for their lease. So do those of a host that lost its power or its network,
until PostgreSQL gives up its sessions (`tocsin_kit.db.dialing`).

A session can end while its process lives: PostgreSQL restarts, an operator ends it. The process takes the lock again
within a fraction of a second, on a new session; others count it as dead only after `LOOKS` looks that found it free,
`LOOK_SECONDS` apart. As long as a process does not hold its lock on the server to which it writes, it names itself in no new
attempt.

**A free lock proves something only if it was held.** When PostgreSQL restarts or another server takes over, every process loses
its lock at once, and one may be slower to come back than the others. So a process that looks counts another one as dead only if
it has held its lock since `Presence.since`: it was seen to, or made its attempt after that. All others keep their lease.

**A lease that ran out while nobody could write proves nothing either**: its owner may hold an answer that it could not write
down. Whoever finds that PostgreSQL was away gives such leases `RECOVERY_SECONDS` more (`app.delivery.take_over`). Nor does one
that is over because PostgreSQL's clock was set ahead: its owner may be calling.

A call that has not begun yet cannot begin after another process took it over: attempts younger than `YOUNG_SECONDS` are left
alone, and older ones ask the gate first (`app.delivery.permits`), where they find that their lease is over.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
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
"""For owners to write down what they could not while PostgreSQL was away: many times what they need to find it again."""
YOUNG_SECONDS: Final = PROOF_SECONDS + 0.5
_PING_SECONDS: Final = 1.0
_LONGEST_PAUSE: Final = 0.3
"""Seconds between two dials: well below the time after which others count this process as dead."""

NAMES: Final = "(SELECT {own}::bigint WHERE NOT pg_try_advisory_xact_lock_shared({own}))"
"""What an attempt names: the sender `own` while its lock is held on this server, which may be another one than a moment ago."""

_TAKE: Final = "SELECT pg_advisory_lock($1)"
# When sessions may have ended at once, so that a lock which is free since then proves nothing. A server that lost a process starts
# the others anew without starting itself; it drops its statistics then.
_UPTIME: Final = """
SELECT extract(epoch FROM clock_timestamp() - greatest(pg_postmaster_start_time(),
  (SELECT stats_reset FROM pg_stat_bgwriter)))::float8
"""
# A free lock is held in shared mode until the transaction ends, so that no process is judged while it comes back, and
# two that look at the same time see the same. On a server where this process does not hold its own lock, nobody is judged.
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
UPDATE notifications n SET lease_until = app_now() FROM theirs t WHERE n.id = t.id RETURNING n.id
"""


_PROLONG: Final = """
WITH over AS (
  SELECT id FROM notifications WHERE state = 'sending' AND lease_until <= app_now() ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE notifications n SET lease_until = app_now() + make_interval(secs => $1) FROM over o WHERE n.id = o.id
"""


@dataclass(frozen=True, slots=True)
class Look:
    """The locks of those who have attempts under way."""

    counts: bool
    """Whether who looks holds its own lock on this server."""
    held: set[int]
    free: set[int]


async def others(tx: Tx, own: int) -> bool:
    """Whether any attempt under way is of another sender than `own`."""
    return bool(await tx.fetchval(_OTHERS, own))


async def look(tx: Tx, own: int) -> Look:
    """The locks of senders of attempts under way, but `own`."""
    free = {row["sender"]: row["free"] for row in await tx.fetch(_LOOK, own)}
    counts = not free.pop(own)
    return Look(
        counts, {key for key, is_free in free.items() if not is_free}, {key for key, is_free in free.items() if is_free}
    )


async def end_leases(tx: Tx, senders: Collection[int], seen: Collection[int], since: float) -> list[UUID]:
    """End the leases of what these had under way, so that any replica may take it.

    Of senders that are not in `seen`, only attempts of the last `since` seconds. Run it in the transaction in which `look` found
    their locks free.
    """
    rows = await tx.fetch(_END_LEASES, list(senders), YOUNG_SECONDS, list(seen), since)
    return [row["id"] for row in rows]


async def prolong(tx: Tx, seconds: float) -> int:
    """Give leases that are over so much more; how many."""
    return int((await tx.execute(_PROLONG, seconds)).rpartition(" ")[2])


class Presence:
    """The lock of this process."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self.key: Final = random.SystemRandom().getrandbits(63)
        """Names this process. Such a key among those of incidents (`store.delivery.gate`), which are hashes, is no danger."""
        self._connect = connect
        self._held = asyncio.Event()
        self._since: float | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, *, name: str) -> "Presence":
        """Return when the lock is held, and after three seconds anyway: then it is taken in the background."""

        def connect() -> Awaitable[Connection]:
            return dial(
                url,
                name=f"{name}-presence",
                command_timeout=10.0,
                settings={"statement_timeout": "8000", "lock_timeout": "6000", "idle_session_timeout": "0"},
            )

        presence = cls(connect)
        presence._task = asyncio.get_running_loop().create_task(presence._keep(), name=f"{name}-presence")
        await wait_or_stop(presence._held, STARTUP_SECONDS)
        return presence

    @property
    def sender(self) -> int | None:
        """What attempts name; None while the lock is not held: only their lease protects them then."""
        return self.key if self._held.is_set() else None

    @property
    def since(self) -> float | None:
        """Since when the session of no process has ended with all others, by `time.monotonic`; None while this one has none.

        It may be earlier than this process.
        """
        return self._since if self._held.is_set() else None

    async def close(self) -> None:
        """Give the lock back. Attempts under way are taken over by others soon."""
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
                # Any error: were this task to end, the process would count as dead for ever.
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
                break  # a primary that was replaced: the locks that count are on another server
        _log.warning("presence_lost", meaning="until it is back, attempts of this process wait for their lease")


@dataclass(frozen=True, slots=True)
class Leases:
    """How long attempts that begin in this process are its own."""

    seconds: float
    """After which a row whose sender said nothing may be taken by another replica."""
    presence: Presence

    @property
    def sender(self) -> int | None:
        """See `Presence.sender`."""
        return self.presence.sender

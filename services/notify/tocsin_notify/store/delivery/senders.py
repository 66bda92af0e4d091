"""Which processes that send are alive. A dead one's attempts are taken over at once, instead of when their leases end.

Each process holds an advisory lock of its own, on a session of its own, for as long as it lives, and writes the lock's
key into the attempts it makes. The kernel closes the session of a process that dies, so the lock is free within
milliseconds. A process that stands still keeps its session, and with it the lock: its calls may be under way, and
calling again would ring twice, so they wait for their lease. So do those of a host that lost its power or its network,
until PostgreSQL gives up its sessions (`tocsin_kit.db.dialing`).

A session can end while its process lives: PostgreSQL restarts, an operator ends it. The process takes the lock again
within a fraction of a second, on a new session; others count it as dead only after `LOOKS` looks that found it free,
`LOOK_SECONDS` apart. When PostgreSQL restarts, every process loses its lock at once: one that has just taken its own
again judges no other for `RECOVERY_SECONDS`. As long as a process does not hold its lock it names itself in no new attempt.

A call that has not begun yet cannot begin after another process took it over: attempts younger than `YOUNG_SECONDS` are left
alone, and older ones ask the gate first (`app.delivery.permits`), where they find that their lease is over.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
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
YOUNG_SECONDS: Final = PROOF_SECONDS + 0.5
_PING_SECONDS: Final = 1.0
_LONGEST_PAUSE: Final = 0.3
"""Seconds between two dials: well below the time after which others count this process as dead."""

_TAKE: Final = "SELECT pg_advisory_lock($1)"
# A free lock is held in shared mode until the transaction ends, so that no process is judged while it comes back, and
# two that look at the same time see the same.
_UNHELD: Final = """
WITH named AS MATERIALIZED (
  SELECT DISTINCT a.sender FROM notifications n
  JOIN attempts a ON a.org_id = n.org_id AND a.notification_id = n.id AND a.number = n.attempts
  WHERE n.state = 'sending' AND n.lease_until > app_now() AND a.sender <> $1
)
SELECT sender FROM named WHERE pg_try_advisory_xact_lock_shared(sender)
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
  ORDER BY n.id FOR UPDATE OF n SKIP LOCKED
)
UPDATE notifications n SET lease_until = app_now() FROM theirs t WHERE n.id = t.id RETURNING n.id
"""


async def others(tx: Tx, own: int) -> bool:
    """Whether any attempt under way is of another sender than `own`."""
    return bool(await tx.fetchval(_OTHERS, own))


async def unheld(tx: Tx, own: int) -> set[int]:
    """Senders of attempts under way, but `own`, whose lock is free."""
    return {row["sender"] for row in await tx.fetch(_UNHELD, own)}


async def end_leases(tx: Tx, senders: Collection[int]) -> list[UUID]:
    """End the leases of what these had under way, so that any replica may take it.

    Run it in the transaction in which `unheld` named them.
    """
    return [row["id"] for row in await tx.fetch(_END_LEASES, list(senders), YOUNG_SECONDS)]


class Presence:
    """The lock of this process."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self.key: Final = random.SystemRandom().getrandbits(63)
        """Names this process. Such a key among those of incidents (`store.delivery.gate`), which are hashes, is no danger."""
        self._connect = connect
        self._held = asyncio.Event()
        self._lost = False
        self._judges_from = 0.0
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
    def judges(self) -> bool:
        """Whether this process may say that others are dead: not while PostgreSQL may have ended the sessions of all."""
        return self._held.is_set() and time.monotonic() >= self._judges_from

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
        if self._lost:
            self._judges_from = time.monotonic() + RECOVERY_SECONDS
        self._lost = True
        self._held.set()
        while not await wait_or_stop(lost, _PING_SECONDS):
            await connection.execute("SELECT 1")
            if is_read_only(connection):
                break  # a primary that was replaced: the locks that count are on another server
        _log.warning("presence_lost", meaning="until it is back, attempts of this process wait for their lease")

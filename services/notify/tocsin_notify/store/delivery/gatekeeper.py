"""Ends the sessions of stopped processes when an acknowledge waits for them.

A process that is stopped in a transaction keeps its locks. PostgreSQL's own limits do not cover that. Between two
statements outside of a transaction none of them applies, and a statement stays active, beyond every statement and idle
time-out, while its client does not read the result. So the process that waits ends the session it waits for, after
`_PATIENCE`.

A session may start calls for `PROOF_SECONDS` after it was last known to be alive (`store.delivery.gate`). While a
session is being ended, and for that time after it is gone, the script below holds `ENDING`; every cancel takes that lock
in shared mode before it is confirmed. The script runs on the server to its end, even if the process that sent it dies.

A session that has not ended after `_END_SECONDS` is then left alone: a broken backend must not keep everybody's cancels
from being confirmed. Those of the incidents whose locks it holds are not, until it is gone. Its process can start no call
by then: its last statement was sent longer than `PROOF_SECONDS` ago.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

from tocsin_kit.db.connections import Connections
from tocsin_kit.db.dialing import Connection, dial
from tocsin_kit.db.failures import translate
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.sessions import Sessions
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_or_stop

from tocsin_notify.store.delivery.gate import PROOF_SECONDS, STARTUP_SECONDS
from tocsin_notify.store.pages.pages import CANCELS

_log = get_logger(__name__)

_PATIENCE: Final = 1.0
_STEP: Final = 0.25
_END_SECONDS: Final = 5.0
_MOST_LEFT: Final = 100
"""Sessions that did not end and are remembered."""
_CONFIRM_SECONDS: Final = 10.0
"""Longer than the server's own limit, which is reported first unless the network is down."""
_CLOSE_SECONDS: Final = 5.0
ENDING: Final = 7_302_149_864_001_773
"""An advisory lock apart from those of incidents, which are hashes."""
_NAME: Final = "{0}.pid || '@' || extract(epoch FROM {0}.backend_start)"
_CONFIRM: Final = "SELECT pg_advisory_xact_lock_shared($1)"
# CASE, because PostgreSQL may evaluate the sides of AND in either order.
_UNHINDERED: Final = f"""
SELECT FROM unnest($1::bigint[]) AS key WHERE pg_try_advisory_xact_lock(key)
HAVING CASE WHEN count(*) = cardinality($1::bigint[]) THEN
  CASE WHEN pg_try_advisory_lock_shared({ENDING}) THEN pg_advisory_unlock_shared({ENDING}) ELSE false END
ELSE false END
"""


_TOLD: Final = "SELECT current_setting('tocsin.told', true) AS told, current_setting('tocsin.left', true) AS left"


async def is_unhindered(tx: Tx, keys: Iterable[int]) -> bool:
    """`wait_for_started_calls` and then `confirm` in one statement, which waits for nothing. Run it after the fences' commit.

    True if no call of these incidents was about to start, and at a later moment no session was being ended. Send it as a
    transaction by itself. If it is False, that transaction had some of the locks, and a lock that it kept while it waits for
    one before it in their order could be part of a deadlock.
    """
    return bool(await tx.fetch(_UNHINDERED, sorted(set(keys))))


class Gatekeeper:
    """It has sessions of its own: those of the pool may all be blocked."""

    def __init__(self, connections: Connections) -> None:
        self._sessions = Sessions(connections)
        self._cancels: dict[object, float] = {}
        self._left: list[str] = []
        """Sessions that did not end, the newest last."""
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, *, name: str, max_age: float = 600.0) -> "Gatekeeper":
        """Return once there is a session, or after three seconds, as the gate does."""

        def connect() -> Awaitable[Connection]:
            return dial(
                url,
                name=f"{name}-gatekeeper",
                # The script must run to its end, whatever the server's default limit is, and even if its client is gone.
                settings={"statement_timeout": "0", "lock_timeout": "4000", "client_connection_check_interval": "0"},
            )

        connections = Connections(connect, name=f"{name}-gatekeeper", size=3, max_age=max_age)
        connections.start()
        await connections.connected(STARTUP_SECONDS)
        return cls(connections)

    async def close(self) -> None:
        """Wait a moment for a running script, then close. The server runs it to its end in any case."""
        if self._watch is not None:
            await asyncio.wait([self._watch], timeout=_CLOSE_SECONDS)
        await self._sessions.close()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """During a cancel: a session that blocks it for more than a second without progress is ended.

        One watch serves all cancels of this process. On a machine without free processor time each cancel takes long,
        and a script for each of them would make all of them wait.
        """
        cancel = object()
        self._cancels[cancel] = monotonic()
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._keep_watch())
        try:
            yield
        finally:
            del self._cancels[cancel]  # the watch is not cancelled: that would cut the script short

    async def confirm(self) -> None:
        """Return when no session was ended so recently that its process could still begin a call.

        Raises DATABASE_UNAVAILABLE or CONFLICT: the cancel is not confirmed then.
        """
        async with self._session() as session:
            await session.execute(_CONFIRM, ENDING, timeout=_CONFIRM_SECONDS)

    async def _keep_watch(self) -> None:
        """Until there is no cancel any more."""
        while self._cancels:
            wait = min(self._cancels.values()) + _PATIENCE - monotonic()
            if wait > 0:
                await wait_or_stop(asyncio.Event(), min(wait, _STEP))
                continue
            await self._end_what_stands_still()
            await wait_or_stop(asyncio.Event(), _STEP)
        self._watch = None

    async def _end_what_stands_still(self) -> None:
        try:
            async with self._session() as session:
                await session.execute(_end_all(self._left))
                [names] = await session.fetch(_TOLD)
                told, left = ((each or "").split() for each in names)
        except TocsinError as error:
            _log.warning("gatekeeper_failed", error=error.message)
        except Exception:
            _log.exception("gatekeeper_failed")  # the next look may succeed, and cancels wait for it
        else:
            self._left = [*self._left, *left][-_MOST_LEFT:]
            if left:
                _log.error(
                    "standing_sessions_left", backends=left, meaning="they do not end, and hold up an acknowledge"
                )
            if ended := len(told) - len(left):
                _log.error("standing_sessions_ended", sessions=ended, meaning="a process held up an acknowledge")

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        """For single statements outside of a transaction block: only the server decides when they end."""
        session = await self._sessions.connections.acquire()
        try:
            yield session
        except BaseException as error:
            await self._sessions.roll_back(session, error)
            failure = translate(error, session)
            if failure is not None:
                raise failure from error
            raise
        else:
            self._sessions.connections.release(session)


def _end_all(left: list[str]) -> str:
    """A script that ends the sessions of this role for which a cancel waits and that did nothing new meanwhile, but not those
    that it `left` before, because they did not end.

    Other cancels in the same queue are not ended: the session that they wait for is. A session that was told to end may
    still answer its client before it does: so all of them are told at once, and `ENDING` is held until none of them is
    there. A number of a process may come again, its start may not. Each statement has a snapshot of its own.
    """
    return f"""
SELECT pg_advisory_xact_lock({ENDING});
DO $$
DECLARE
  told text[];
  deadline timestamptz;
BEGIN
  SELECT array_agg(name) INTO told FROM (
    SELECT DISTINCT {_NAME.format("b")} AS name FROM pg_stat_activity w
    CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS p(pid)
    JOIN pg_stat_activity b ON b.pid = p.pid
    WHERE w.datname = current_database() AND w.usename = current_user AND b.usename = current_user
      AND w.wait_event_type = 'Lock' AND starts_with(w.query, '{CANCELS}')
      AND w.query_start <= clock_timestamp() - make_interval(secs => {_PATIENCE * 0.9})
      AND b.state_change <= clock_timestamp() - make_interval(secs => {_PATIENCE * 0.9})
      AND NOT (b.wait_event_type IS NOT DISTINCT FROM 'Lock' AND starts_with(b.query, '{CANCELS}'))
  ) AS stuck WHERE NOT name = ANY (string_to_array('{" ".join(left)}', ' '));
  PERFORM set_config('tocsin.told', array_to_string(told, ' '), false), set_config('tocsin.left', '', false);
  IF told IS NULL THEN RETURN; END IF;
  deadline := clock_timestamp() + make_interval(secs => {_END_SECONDS});
  LOOP
    PERFORM pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE {_NAME.format("a")} = ANY (told);
    EXIT WHEN NOT FOUND OR clock_timestamp() > deadline;
    PERFORM pg_sleep(0.02), pg_stat_clear_snapshot();
  END LOOP;
  PERFORM pg_sleep({PROOF_SECONDS}), pg_stat_clear_snapshot();
  PERFORM set_config('tocsin.left', string_agg({_NAME.format("a")}, ' '), false)
  FROM pg_stat_activity a WHERE {_NAME.format("a")} = ANY (told);
END $$;
"""

"""The gate that provider calls pass through, so that a cancel can close it.

The promise (I5): once a cancel has returned, no provider call starts for the pages it stopped, on any replica. A fence
in a table alone cannot give this promise. Between the commit that says "I am about to send" and the call itself is a
gap, and a cancel within this gap would return too early.

So a process that is about to call providers holds a *shared* advisory lock on each incident, from before the statement
that reads the fences until the calls have started. A cancel commits its fence first, and then takes the *exclusive*
lock once. Call the sender's lock S, the moment its claim reads the fences R, the start of its calls C and their unlock
U (S < R < C < U); the cancel's commit F and its exclusive lock X (F < X). The two locks exclude each other, so:

* S before X: X waits for U, so C < U < X: the calls had started before the cancel returned; they count as crossed.
* X before S: F < X < S < R: the claim reads the fence, and the notification is cancelled instead of sent.

A start is the moment in which the first bytes that make a provider act are written: the request of a webhook, MAIL of
an e-mail. A connection that is slow to open would hold the lock for long. So after a moment the claim releases it, and
the call may no longer start by that claim (`app.delivery.permits`). The call then goes through a later passage together
with other late calls, as a claim does (`app.delivery.late_calls`): S, R, C and U are those of that passage. Code that
repeats a call inside one attempt, because a reused connection was closed, does the same.

**If the session ends before U**, the lock is free while the sender may still rely on it. Two things bound that.

* The sender starts a call only within `PROOF_SECONDS` of A, the moment before it sent the last statement that the
  session answered; at A the lock was held. The clock goes on while the process is stopped, and is read just before the
  bytes are written. A process that was stopped finds its proof too old and asks through a new passage, which reads the
  fence.
* A process that ends a session because it holds up a cancel (`store.delivery.gatekeeper`) keeps every cancel from being
  confirmed until K + `PROOF_SECONDS`, where K is the moment when the server says that the session is gone. A session
  that was alive at A was gone at K > A, so C < A + PROOF < K + PROOF: the call started before the confirmation of any
  cancel that this end made possible.

A process that dies takes its calls with it. A PostgreSQL that dies ends all sessions at once. It is back later than
`PROOF_SECONDS` after it answered the last statement; a standby that takes over is later still. A session that an
operator ends by hand, or that PostgreSQL ends after 3 s idle in its transaction, has the first limit only: its process
would have to be slow by less than `PROOF_SECONDS`, and the cancel would have to fit into that time. One case has no
limit: a process that is stopped between reading the clock and the machine instructions that write. Only deduplication
by the provider, with our key, helps there.

So a cancel waits for a sender in the gap, which takes milliseconds. The session of a sender that is stopped is ended
after a second, and the cancel is confirmed a second later.

Senders only *try* the lock, and skip an incident whose cancel is waiting: they never wait here, so they cannot
deadlock. Cancels take their locks in ascending order. A pooler in front of PostgreSQL must pool sessions.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.session_transaction import SessionTransaction

from tocsin_notify.store.pages.pages import CANCELS

_TRY_SHARED: Final = "SELECT key FROM unnest($1::bigint[]) AS key WHERE pg_try_advisory_lock_shared(key)"
_EXCLUSIVE: Final = f"{CANCELS} SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS key"
_SHUT: Final = "SELECT key FROM unnest($1::bigint[]) AS key WHERE pg_try_advisory_xact_lock(key)"
_UNLOCK: Final = "SELECT pg_advisory_unlock_all()"
_PATIENCE: Final = "SET LOCAL lock_timeout = {milliseconds}"
_IDLE_SECONDS: Final = 3.0

PROOF_SECONDS: Final = 1.0
"""A call may begin on its session's locks for this long after the session was known to be alive. A process that ends a
session for blocking a cancel waits this long before any cancel is confirmed."""
STARTUP_SECONDS: Final = 3.0
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def gate_clock() -> float:
    """Seconds. This clock goes on while the process is stopped and, on Linux, while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def incident_key(org_id: str, incident: UUID) -> int:
    """The advisory lock of an incident: 64 bits. Two incidents that share one only wait for each other needlessly."""
    digest = hashlib.blake2b(f"{org_id}\0{incident}".encode(), digest_size=8, person=b"tocsin-gate")
    return int.from_bytes(digest.digest(), "big", signed=True)


async def wait_for_started_calls(tx: Tx, keys: Iterable[int]) -> None:
    """Wait until every call that passed the gate of these incidents has started. Run it after the fences' commit.

    Raises CONFLICT when that takes longer than the connection's lock timeout, although the gatekeeper watches.
    """
    await tx.execute(_EXCLUSIVE, sorted(set(keys)))


async def shut(tx: Tx, keys: Iterable[int]) -> list[int]:
    """Those of these incidents whose gate no claim is passing. Until the transaction ends, no claim passes it.

    A claim that passed before is committed, and later statements of this transaction see it. Claims that come after
    read the fences that are committed by now. Never waits: a claim skips an incident whose gate is shut, and finds its
    pages a moment later.
    """
    return [row["key"] for row in await tx.fetch(_SHUT, sorted(set(keys)))]


class Gate:
    """Lends sessions to transactions that are followed by provider calls."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, url: str, *, name: str, size: int = 8, max_age: float = 600.0) -> "Gate":
        """Return once there is a session, or after three seconds: then it connects in the background.

        A process must not be sent pages before it can store them. `size`: how many claims may run at once; `max_age`:
        seconds after which a session is replaced.
        """
        database = await Database.open(url, name=f"{name}-gate", size=size, idle_timeout=_IDLE_SECONDS, max_age=max_age)
        await database.connected(STARTUP_SECONDS)
        return cls(database)

    async def close(self) -> None:
        """Wait a moment for sessions in use, then close."""
        await self._database.close()

    @asynccontextmanager
    async def passage(self, keys: Iterable[int], *, patience: float = 0.0) -> AsyncIterator["Passage"]:
        """A transaction of all tenants; see `Passage`. Raises what `Database.transaction` raises.

        `patience`: seconds that a statement waits for a row which another session holds; 0: the usual limit.
        """
        wanted, asked = sorted(set(keys)), gate_clock()
        # Sent with BEGIN in one round trip, which allows no parameters. It still runs before all other statements, so
        # their snapshots are younger.
        first = _TRY_SHARED.replace("$1", f"'{{{','.join(map(str, wanted))}}}'") if wanted else ""
        if patience:
            first = f"{_PATIENCE.format(milliseconds=round(patience * 1000))};{first}"
        async with self._database.keeping(_UNLOCK if wanted else "", first=first) as transaction:
            held: Iterable[int] = wanted
            if wanted and transaction.answer != f"SELECT {len(wanted)}":
                # The answer is needed: a session gets a lock again that it already holds, even if another session waits
                # for it.
                held = [row["key"] for row in await transaction.tx.fetch(_TRY_SHARED, wanted)]
            yield Passage(transaction, frozenset(held), asked)


class Passage:
    """A transaction that holds the shared locks of `held` until its block ends.

    Inside: read and write through `tx`, `await commit()`, start the calls. Leaving without `commit` rolls back.
    """

    def __init__(self, transaction: SessionTransaction, held: frozenset[int], since: float) -> None:
        self._transaction = transaction
        self.tx: Final = transaction.tx
        self.held: Final = held
        self.since = since
        """When this session was last known to hold its locks, by `gate_clock`."""

    def session_ended(self) -> bool:
        """Whether its session is closed; may be asked after the block has ended."""
        return self._transaction.session_ended()

    async def commit(self) -> None:
        """Raises DATABASE_UNAVAILABLE when the outcome is unknown; no call may start then."""
        asked = gate_clock()
        await self._transaction.commit()
        self.since = asked

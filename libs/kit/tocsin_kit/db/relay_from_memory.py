"""Rows that are delivered from the memory of the process that has just committed them.

A claim would read them again and mark them as taken, in a transaction that all later work waits for. Such rows are written as due
a moment later (`SURE_WAY_SECONDS`). A row that is not accepted until then, because its process died or the receiver did not
answer, is claimed like any other row. Errors are not judged here: rows that were not accepted are made due at once, and the relay
handles the cause.

The relay may claim a row that is being delivered from here. The receiver may get a row twice and acts once.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from tocsin_kit.batches import Batches
from tocsin_kit.db.outbox_confirmed import GIVEN, NAMED, Named, arguments, delete
from tocsin_kit.db.outbox_rows import Done, OutboxRow
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay_delivery import Deliver, Sets
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.noisy_tenants import NoisyTenants

_log = get_logger(__name__)

SURE_WAY_SECONDS: Final = 1.0
"""After this time the relay delivers them too. No attempt from memory takes longer."""
_MOST_WAITING: Final = 600
"""Rows in memory. More would wait here until the relay delivers them as well."""
_PAUSE_SECONDS: Final = 5.0
"""Pause after a delivery that failed or took too long: an overloaded receiver would do the work of each row twice."""
_OF_QUIET_TENANT: Final = 2
"""Deliveries at a time of a tenant that is not noisy: one that takes long, and one for what comes meanwhile."""
_ROW_BYTES: Final = 64
"""Beside the payload, as in a claim."""

_HURRY: Final = f"""
UPDATE outbox SET due_time = app_now() FROM {GIVEN} WHERE {NAMED} AND attempts = 0 AND due_time > app_now()
"""


class Accepted(Protocol):
    """Receives rows that were accepted, and the monotonic time at which their call began."""

    def __call__(self, rows: Sequence[OutboxRow], *, began: float) -> None:
        """Does not wait."""
        ...


class MemoryDeliveries:
    """The deliveries from memory of one relay. Tenants alternate, and a few rows of several tenants travel together.

    A noisy tenant has deliveries of its own, one at a time. Of any other tenant two may be under way: in another tenant's storm the
    receiver needs three tenths of a second for a single row at times, and all rows that the tenant writes meanwhile would wait
    for it. They wait only if both take long, or if the relay has no room for another delivery (`Sets.parallel`). No row
    here waits for an earlier one of its ordering key, so that the deliveries of a tenant need no order.
    """

    def __init__(
        self,
        database: Database,
        deliver: Deliver,
        noisy: NoisyTenants,
        *,
        sets: Sets,
        few: int,
        nudge: Callable[[], None],
        accepted: Accepted,
    ) -> None:
        """`few`: rows of a tenant that are sent with those of others. `nudge`: a row is due for the relay."""
        self._database = database
        self._deliver = deliver
        self._noisy = noisy
        self._few = few
        self._max_bytes = sets.max_bytes
        self._nudge = nudge
        self._accepted = accepted
        self._pauses_until = float("-inf")
        self._batches: Batches[OutboxRow, None] = Batches(
            self._deliver_all,
            most=sets.rows,
            waiting=2 * _MOST_WAITING,
            lane=lambda row: row.org_id,
            at_once=sets.parallel,
            together=few,
            alone=noisy.__contains__,
            beside=lambda org_id: 1 if org_id in noisy else _OF_QUIET_TENANT,
        )

    def takes(self, org_id: str, count: int) -> bool:
        """Whether so many rows of a tenant would be delivered within a moment. The relay collects the few rows of a noisy
        tenant."""
        if time.monotonic() < self._pauses_until:
            return False
        return self._batches.waiting + count <= _MOST_WAITING and (count > self._few or org_id not in self._noisy)

    def hand_over(self, rows: Sequence[OutboxRow]) -> None:
        """Rows of one tenant; they are committed."""
        self._noisy.note(rows[0].org_id, len(rows))
        self._batches.enqueue_each(rows)

    async def drain(self) -> None:
        """Return when no row waits or is being delivered."""
        await self._batches.drain()

    async def _deliver_all(self, rows: list[OutboxRow]) -> list[None]:
        for part in self._parts(rows):
            await self._deliver_part(part)
        return [None] * len(rows)

    def _parts(self, rows: Sequence[OutboxRow]) -> Iterator[list[OutboxRow]]:
        part, total = list[OutboxRow](), 0
        for row in rows:
            size = len(row.payload) + _ROW_BYTES
            if part and total + size > self._max_bytes:
                yield part
                part, total = [], 0
            part.append(row)
            total += size
        yield part

    async def _deliver_part(self, rows: Sequence[OutboxRow]) -> None:
        done: set[int] = set()
        began = time.monotonic()
        try:
            async with asyncio.timeout(SURE_WAY_SECONDS):
                answers = await self._deliver(rows)
            done = {row.id for row, answer in zip(rows, answers, strict=True) if isinstance(answer, Done)}
        except Exception as error:
            # The relay meets the same error at once, judges it and reports it.
            self._pauses_until = time.monotonic() + _PAUSE_SECONDS
            _log.info("left_to_relay", kind=rows[0].kind, rows=len(rows), error=repr(error))
        accepted = [row for row in rows if row.id in done]
        left = [row for row in rows if row.id not in done]
        try:
            if accepted:
                self._accepted(accepted, began=began)
                if await delete(self._database, _named(accepted)):
                    self._nudge()
            if left:
                async with self._database.autocommit() as tx:
                    await tx.fetch(_HURRY, *arguments(_named(left)))
                self._nudge()
        except TocsinError as error:
            # They are due within a moment, and accepted ones are sent once more.
            _log.info("left_to_relay", kind=rows[0].kind, rows=len(rows), error=error.message)


def _named(rows: Sequence[OutboxRow]) -> list[Named]:
    return [(row.id, row.org_id) for row in rows]

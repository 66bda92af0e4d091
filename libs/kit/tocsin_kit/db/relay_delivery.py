"""The delivery of one claimed batch: whole, or in halves until the refused rows are alone."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tocsin_kit.db.outbox_rows import Done, OutboxRow, RowAnswer
from tocsin_kit.db.relay_receiver import Receiver
from tocsin_kit.db.relay_verdicts import Failure, Verdict, judge
from tocsin_kit.errors import TocsinError

Deliver = Callable[[Sequence[OutboxRow]], Awaitable[Sequence[RowAnswer]]]

_STOPS: Final = (Verdict.AWAY, Verdict.SLOW)


@dataclass(frozen=True, slots=True)
class Refused:
    """The row was sent alone and was not accepted."""

    failure: Failure
    time: float
    """On the monotonic clock: when the answer came."""
    works_at: float
    """`Receiver.works_at` when the call began: rows accepted later may be from before the receiver's fault."""


@dataclass(frozen=True, slots=True)
class Returned:
    """Nothing was learnt about the row: it is due again, unchanged."""

    error: str


Result = RowAnswer | Refused | Returned


@dataclass(frozen=True, slots=True)
class Sets:
    """How rows are claimed and delivered together."""

    rows: int = 200
    """Of one delivery, at most."""
    max_bytes: int = 512 << 10
    """Of one delivery; a larger row is sent alone. The default is half of what a receiver accepts (GRPC_MAX_MESSAGE_BYTES)."""
    parallel: int = 4
    """Deliveries at once that hold rows of one and the same tenant. As many more places are free for other tenants."""
    lease: float = 10.0
    """Seconds for which a set is claimed. A delivery is cancelled after 0.8 of them."""


class Delivery:
    """Delivers rows and keeps a result for each.

    `calls` limits how often the receiver is called. Without `alone`, a refused delivery is only divided by tenant: the rows of a
    refused tenant are returned, and the tenant is in `quarantined`. With `alone`, the rows of one tenant are halved as well. The
    first answer that shows a receiver that is away or slow ends the delivery (`stopped`).
    """

    def __init__(
        self,
        deliver: Deliver,
        rows: Sequence[OutboxRow],
        receiver: Receiver,
        *,
        seconds: float,
        calls: int,
        alone: bool = False,
    ) -> None:
        self.rows: Final = rows
        self.results: dict[int, Result] = {}
        self.quarantined: set[str] = set()
        self.stopped: Failure | None = None
        self.answered = False
        """The receiver gave an answer that is not "away"."""
        self.defect: Exception | None = None
        """What `deliver` raised that is not an error of the contract, for the log."""
        self._deliver = deliver
        self._receiver = receiver
        self._seconds = seconds
        self._calls = calls
        self._alone = alone

    async def run(self) -> None:
        """Returns when every row has a result."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(self.rows)
        except TimeoutError as error:
            self.stopped = judge(error)
        self._return_the_rest()

    async def send_each(self) -> None:
        """`run`, with every row alone from the start: for rows that were refused before."""
        try:
            async with asyncio.timeout(self._seconds):
                for row in self.rows:
                    await self._send([row])
        except TimeoutError as error:
            self.stopped = judge(error)
        self._return_the_rest()

    @property
    def undecided(self) -> list[OutboxRow]:
        """Rows about which nothing was learnt."""
        return [row for row in self.rows if isinstance(self.results[row.id], Returned)]

    async def _send(self, rows: Sequence[OutboxRow]) -> None:
        if self.stopped is not None:
            return
        if self._calls == 0:
            self._return(rows, "not reached yet")
            return
        self._calls -= 1
        works_at = self._receiver.works_at
        failure = await self._try(rows)
        if failure is None:
            return
        if failure.verdict in _STOPS:
            self.stopped = failure
            return
        self.answered = True
        if len(rows) == 1:
            self.results[rows[0].id] = Refused(failure, time.monotonic(), works_at)
            return
        tenants = {row.org_id for row in rows}
        if len(tenants) == 1 and not self._alone:
            self.quarantined |= tenants
            self._return(rows, failure.error)
            return
        for part in _halves(rows):
            await self._send(part)

    async def _try(self, rows: Sequence[OutboxRow]) -> Failure | None:
        began = time.monotonic()
        try:
            answers = await self._deliver(rows)
            if len(answers) != len(rows):
                raise RuntimeError(f"{len(rows)} rows were given, {len(answers)} answers came back")
        except TimeoutError as error:
            return judge(error)
        except Exception as error:
            failure = judge(error)
            if not isinstance(error, TocsinError):
                self.defect = error
            return failure
        self.answered = True
        if any(isinstance(answer, Done) for answer in answers):
            self._receiver.accepted(began=began)
        self.results.update((row.id, answer) for row, answer in zip(rows, answers, strict=True))
        return None

    def _return_the_rest(self) -> None:
        error = self.stopped.error if self.stopped is not None else ""
        self._return([row for row in self.rows if row.id not in self.results], error)

    def _return(self, rows: Sequence[OutboxRow], error: str) -> None:
        self.results.update((row.id, Returned(error)) for row in rows)


def _halves(rows: Sequence[OutboxRow]) -> tuple[Sequence[OutboxRow], Sequence[OutboxRow]]:
    """Two parts, divided between two tenants if there are several."""
    ordered = sorted(rows, key=lambda row: (row.org_id, row.id))
    middle = len(ordered) // 2
    borders = [at for at in range(1, len(ordered)) if ordered[at].org_id != ordered[at - 1].org_id]
    cut = min(borders, key=lambda at: abs(at - middle)) if borders else middle
    return ordered[:cut], ordered[cut:]

"""A budget for the bytes of answers, from before the first row is read until the caller has read the last byte.

A list holds rows, messages and bytes at once. When answers were counted only as they were sent, a thousand of one tenant at once
used 3 GB before the first was counted. So a call with a possibly large answer reserves the size of the largest answer before it
begins, and returns the unused part. Only a few are made at once, which is also the most that one interpreter can do: the others
wait a short time, tenants in turn. A small answer is counted when it is sent, from a part of its own: a tenant's lists never use
the part of calls that change one object.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.descriptor import Descriptor

from tocsin_kit.counts import Counts
from tocsin_kit.fair_queue import FairQueue
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.access import Access
from tocsin_kit.rpc.bounds import bounds_of
from tocsin_kit.rpc.call_limits import TENANT_SHARE, ConcurrencyLimit
from tocsin_kit.time_limit import TimeLimit, TooLate

_KIND: Final = "bytes of answers"
_CALL_BYTES: Final = 16 << 10
"""The bytes of a call without content: 13.6 KiB were measured."""
_READING: Final = 4 << 20
"""The most that a read of many objects uses while its answer is made: a page of 1 MiB as messages and as bytes, and rows that are
not converted yet."""
_CHANGING: Final = 1 << 20
"""The most that a change of many objects uses; its answer grows with its request."""
_LARGE_REQUEST: Final = 256 << 10
"""A change whose request may be larger is limited by the bytes that its tenant may send (`TENANT_BYTES_PER_SECOND`)."""
_LARGE: Final = 0.75
"""The part of the budget that large answers may use together."""
_LARGE_OF_TENANT: Final = 0.25
_LARGE_OF_CONNECTION: Final = 0.125
WAIT_SECONDS: Final = 2.0
"""How long a call waits for its reservation."""


def room_of(access: Access, request_type: Descriptor, response_type: Descriptor) -> int:
    """Bytes that a method needs to make its largest answer; 0 when that is small, because it contains one object only."""
    if not any(field.is_repeated and field.message_type is not None for field in response_type.fields):
        return 0
    if access.reads:
        return _READING
    return _CHANGING if bounds_of(request_type).max_bytes <= _LARGE_REQUEST else 0


class Answer:
    """The reservation of one call with a large answer."""

    __slots__ = ("_answers", "connection", "cost", "granted", "lacked", "size", "who")

    def __init__(self, answers: "Answers", who: str, connection: str, cost: int) -> None:
        self._answers = answers
        self.who: Final = who
        self.connection: Final = connection
        self.cost: Final = cost
        """Bytes it takes while it is made."""
        self.size = 0
        """Bytes it takes now."""
        self.granted: asyncio.Future[None] | None = None
        """Its call waits for this."""
        self.lacked = "", 0
        """The limit because of which it waits: its scope and its value."""

    def made(self, size: int) -> None:
        """The answer has this size, and is sent. Raises OVERLOADED when it is larger than its reservation, and the rest of the
        budget is not enough."""
        self._answers.resize(self, size + _CALL_BYTES)

    def end(self, _: object = None) -> None:
        """It was read, or will not be made."""
        self._answers.resize(self, 0)


class Answers:
    """The bytes of answers that are being made or were not read yet."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._all: Final = ConcurrencyLimit(_KIND, most, TENANT_SHARE, metrics)
        self._most: Final = int(most * _LARGE)
        self._most_of_tenant: Final = int(most * _LARGE_OF_TENANT)
        self._most_of_connection: Final = int(most * _LARGE_OF_CONNECTION)
        self._large = 0
        self._large_of_tenant: Counts[str] = Counts()
        self._large_of_connection: Counts[str] = Counts()
        self._queue: FairQueue[tuple[str, bool], Answer] = FairQueue()
        """Waiting calls, by tenant and by whether they read: the reads of a dashboard do not delay changes of many objects."""
        self._waiting = TimeLimit(WAIT_SECONDS)

    def leaves(self, who: str, size: int, context: Any) -> None:
        """A small answer of so many bytes is sent to `who`. Raises OVERLOADED when too many of its answers are unread.

        With HTTP/2 a caller may stop reading, and gRPC keeps the answer until the connection ends, which is
        `GRPC_MAX_STREAM_SECONDS` later; nothing ends the call before. An error has no content, and is sent at once even if the
        caller does not read.
        """
        cost = size + _CALL_BYTES
        self._all.enter(who, cost)

        def end(_: object) -> None:
            self._all.leave(who, cost)
            self._hand_on()

        context.add_done_callback(end)

    async def take(self, who: str, connection: str, cost: int, context: Any, *, reads: bool) -> Answer:
        """Reserve at most `cost` bytes for an answer until the call has ended. Raises OVERLOADED when the budget is exhausted for
        too long."""
        answer = Answer(self, who, connection, min(cost, self._most_of_connection))
        context.add_done_callback(answer.end)
        key = who, reads
        lacked = self._lacks(answer)
        if key not in self._queue and lacked is None:
            self._enter(answer, answer.cost)
            return answer
        answer.lacked = lacked or ("one", self._most_of_tenant)
        answer.granted = asyncio.get_running_loop().create_future()
        self._queue.add(key, answer)
        try:
            await self._waiting.wait(answer.granted)
        except TooLate:
            if answer.size:
                return answer
            raise self._all.full(*answer.lacked) from None
        finally:
            self._queue.remove(key, answer)
        return answer

    def resize(self, answer: Answer, size: int) -> None:
        """Change the reservation. Raises OVERLOADED when it grows beyond the budget."""
        more = size - answer.size
        if more > 0:
            lacking = self._all.lacks(answer.who, more)
            if lacking is not None:
                raise self._all.full(*lacking)
        if more:
            self._enter(answer, more)
        if more < 0:
            self._hand_on()

    def _lacks(self, answer: Answer) -> tuple[str, int] | None:
        if self._large + answer.cost > self._most:
            return "all", self._most
        if self._large_of_tenant[answer.who] + answer.cost > self._most_of_tenant:
            return "one", self._most_of_tenant
        if self._large_of_connection[answer.connection] + answer.cost > self._most_of_connection:
            return "connection", self._most_of_connection
        return self._all.lacks(answer.who, answer.cost)

    def _enter(self, answer: Answer, size: int) -> None:
        answer.size += size
        self._large += size
        if size > 0:
            self._large_of_tenant[answer.who] += size
            self._large_of_connection[answer.connection] += size
            self._all.enter(answer.who, size)
        else:
            self._large_of_tenant.less(answer.who, -size)
            self._large_of_connection.less(answer.connection, -size)
            self._all.leave(answer.who, -size)

    def _hand_on(self) -> None:
        """Gives free budget to waiting calls: to the first of each line in rotation, until none of them fits."""
        self._queue.serve(self._grant_one)

    def _grant_one(self, line: Iterable[Answer]) -> Answer | None:
        """The one that got its reservation; None when none of this line fits."""
        for answer in line:
            assert answer.granted is not None
            if answer.granted.done():  # its call was cancelled, and has not resumed yet
                continue
            lacking = self._lacks(answer)
            if lacking is None:
                self._enter(answer, answer.cost)
                answer.granted.set_result(None)
                return answer
            answer.lacked = lacking
            if lacking[0] != "connection":
                return None
        return None

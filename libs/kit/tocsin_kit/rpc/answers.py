"""Room for the bytes of answers, from before the first row is read until the caller has read the last byte.

A list holds rows, messages and bytes at once. Counted only when it left, a thousand of one tenant at once took 3 GB before the
first was counted. So what may be large takes the room of the largest answer before it begins, and gives back what it did not
need. A few are made at once, which is also all that one interpreter can make: the others wait shortly, tenants in turn. What is
small is counted when it leaves, and has room of its own: a tenant's lists never take that of the calls that change one thing.
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
from tocsin_kit.rpc.rooms import TENANT_SHARE, Room
from tocsin_kit.time_limit import TimeLimit, TooLate

_KIND: Final = "bytes of answers"
_CALL_BYTES: Final = 16 << 10
"""What a call without content takes: 13.6 KiB were measured."""
_READING: Final = 4 << 20
"""What a read of many takes at most while its answer is made: a page of 1 MiB as messages and as bytes, and rows that are not
told yet."""
_CHANGING: Final = 1 << 20
"""What a change of many takes, whose answer grows with its request."""
_LARGE_REQUEST: Final = 256 << 10
"""A change whose request may be larger is bounded by the bytes that its tenant may send (`TENANT_BYTES_PER_SECOND`)."""
_LARGE: Final = 0.75
"""The part of all room that large answers may take together."""
_LARGE_OF_TENANT: Final = 0.25
_LARGE_OF_CONNECTION: Final = 0.125
WAIT_SECONDS: Final = 2.0
"""How long a call waits for room."""


def room_of(access: Access, request_type: Descriptor, response_type: Descriptor) -> int:
    """Bytes that a method needs to make its largest answer; 0 when that is small: it tells of one thing, not of many."""
    if not any(field.is_repeated and field.message_type is not None for field in response_type.fields):
        return 0
    if access.reads:
        return _READING
    return _CHANGING if bounds_of(request_type).max_bytes <= _LARGE_REQUEST else 0


class Answer:
    """The room of one call's large answer."""

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
        """What its call waits for."""
        self.lacked = "", 0
        """The limit because of which it waits: its scope and its number."""

    def made(self, size: int) -> None:
        """It has so many bytes, and leaves. Raises OVERLOADED when it is larger than its room, and finds none for the rest."""
        self._answers.resize(self, size + _CALL_BYTES)

    def end(self, _: object = None) -> None:
        """It was read, or is not made."""
        self._answers.resize(self, 0)


class Answers:
    """The bytes of answers that are being made or that were not read yet."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._all: Final = Room(_KIND, most, TENANT_SHARE, metrics)
        self._most: Final = int(most * _LARGE)
        self._most_of_tenant: Final = int(most * _LARGE_OF_TENANT)
        self._most_of_connection: Final = int(most * _LARGE_OF_CONNECTION)
        self._large = 0
        self._large_of_tenant: Counts[str] = Counts()
        self._large_of_connection: Counts[str] = Counts()
        self._queue: FairQueue[tuple[str, bool], Answer] = FairQueue()
        """Who waits, by tenant and by whether they read: a dashboard is not before who changes many things at once."""
        self._waiting = TimeLimit(WAIT_SECONDS)

    def leaves(self, who: str, size: int, context: Any) -> None:
        """A small answer of so many bytes leaves for `who`. Raises OVERLOADED when they leave too many unread.

        HTTP/2 lets a caller not read, and gRPC keeps the answer until the connection ends, which is `GRPC_MAX_STREAM_SECONDS`
        later; nothing ends the call before. An error has no content, and leaves at once whatever the caller reads.
        """
        cost = size + _CALL_BYTES
        self._all.enter(who, cost)

        def end(_: object) -> None:
            self._all.leave(who, cost)
            self._hand_on()

        context.add_done_callback(end)

    async def take(self, who: str, connection: str, cost: int, context: Any, *, reads: bool) -> Answer:
        """Room for an answer of at most `cost` bytes until the call has ended. Raises OVERLOADED when none is free for too long."""
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
        """It takes so many bytes from now on. Raises OVERLOADED when it grows, and there is no room for that."""
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
        """Gives free room to those who wait: to the first of each line in rotation, until none of them finds room."""
        self._queue.serve(self._grant_one)

    def _grant_one(self, line: Iterable[Answer]) -> Answer | None:
        """The one that got room; None when none of this line finds any."""
        for answer in line:
            assert answer.granted is not None
            if answer.granted.done():  # its call was cancelled, and has not gone on yet
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

"""Long-lived streams: limited, kept alive, and ended when their caller may not read any more.

A source offers messages to streams and never waits for a reader. The number of unread messages is limited: beyond it the stream
ends, and its reader is told to open the stream again.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.auth import Principal
from tocsin_kit.credentials import Credentials
from tocsin_kit.errors import TocsinError
from tocsin_kit.loops import wait_for_any

M = TypeVar("M")

HEARTBEAT_SECONDS: Final = 10.0
"""Between two messages of a quiet stream; the contract promises 15 s."""
_LOOK_SECONDS: Final = 1.0


class LiveStream(Generic[M]):
    """One stream: the messages that wait for its reader. `heartbeat` makes a message for a quiet stream, or None if none may be
    sent."""

    def __init__(self, principal: Principal, heartbeat: Callable[[], M | None], most: int) -> None:
        self.principal: Final = principal
        self._heartbeat = heartbeat
        self._most = most
        self._waiting: deque[tuple[M, int]] = deque()
        self._weight = 0
        self._wake = asyncio.Event()
        self._error: TocsinError | None = None
        self._beats = False
        self._told = time.monotonic() - random.uniform(0, HEARTBEAT_SECONDS / 2)

    def offer(self, message: M, weight: int) -> None:
        """Add a message for the reader. Beyond `most` of weight the stream ends with WATCH_TOO_SLOW."""
        if self._error is not None:
            return
        if self._waiting and self._weight + weight > self._most:
            self.end(
                TocsinError(
                    ErrorReason.ERROR_REASON_WATCH_TOO_SLOW,
                    f"more than {self._most} changes wait to be read; open the stream again with the last cursor",
                )
            )
            return
        self._waiting.append((message, weight))
        self._weight += weight
        self._wake.set()

    def end(self, error: TocsinError) -> None:
        """Drop waiting messages; the reader gets the error."""
        if self._error is None:
            self._error = error
            self._waiting.clear()
            self._wake.set()

    def beat(self) -> None:
        """Send a heartbeat if no message waits."""
        self._beats = True
        self._wake.set()

    def quiet(self, seconds: float) -> bool:
        """Whether no message was sent or waits, for this long."""
        return not self._waiting and time.monotonic() - self._told >= seconds

    def check(self) -> None:
        """Raises what ended it."""
        if self._error is not None:
            raise self._error

    async def next(self) -> M:
        """The next message. Raises what ended the stream."""
        while True:
            self._wake.clear()
            self.check()
            if self._waiting:
                message, weight = self._waiting.popleft()
                self._weight -= weight
                self._told = time.monotonic()
                return message
            if self._beats:
                self._beats = False
                beat = self._heartbeat()
                if beat is not None:
                    self._told = time.monotonic()
                    return beat
            await self._wake.wait()


class LiveStreams:
    """All streams of a process. `run` must be one of its loops, wherever calls are served."""

    def __init__(self, credentials: Credentials, stop: asyncio.Event) -> None:
        """`stop`: set when the process is to stop."""
        self._credentials = credentials
        self._stop = stop
        self._open: set[LiveStream[object]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, stream: "LiveStream[M]") -> None:
        """From now on it is looked after."""
        self._open.add(stream)  # type: ignore[arg-type]  # nothing is put into it here

    def remove(self, stream: "LiveStream[M]") -> None:
        """Its stream has ended."""
        self._open.discard(stream)

    async def run(self, ended: asyncio.Event) -> None:
        """The loop, until `ended`: no call is under way any more."""
        while not ended.is_set():
            self.look()
            if self._stop.is_set():
                await wait_for_any(ended, seconds=_LOOK_SECONDS / 10)
            else:
                await wait_for_any(ended, self._stop, seconds=_LOOK_SECONDS)

    def look(self) -> None:
        """Once: end streams whose credential is not good any more, all of them when the process stops; beat for the quiet ones."""
        for stream in tuple(self._open):
            try:
                if self._stop.is_set():
                    raise TocsinError(
                        ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
                        "this process is stopping; open the stream again with the last cursor, another one will take it",
                        retry_after=0.0,
                    )
                self._credentials.require_still_good(stream.principal)
            except TocsinError as error:
                stream.end(error)
            else:
                if stream.quiet(HEARTBEAT_SECONDS):
                    stream.beat()

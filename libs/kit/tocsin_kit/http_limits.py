"""Limits of HTTP connections: how many each host may have, for how long, and how many bytes of bodies may be held. aiohttp limits
none of these.

All limits apply before a request's credential is known, so they count by host: by its address, or of public IPv6 by the first 64
bits (`source_of`). A trusted proxy counts by its whole address. Limits are far above what senders need: a connection sends its
first headers within seconds, and a body at once.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.counts import Counts
from tocsin_kit.errors import TocsinError
from tocsin_kit.keys.sources import source_of
from tocsin_kit.loops import until
from tocsin_kit.metrics import Metrics
from tocsin_kit.proxies import Proxies
from tocsin_kit.time_slices import SLICE_SECONDS

_HOST_SHARE: Final = 0.5
_UNKNOWN: Final = 64 << 10
"""Counted for a body without a size, until its reader counts for itself."""
_RETRY_AFTER: Final = 2.0
_STEP: Final = 0.01
_LOOKS: Final = 5
"""Checks of a request that has arrived in part, whose client sends no more. A request that arrived as a whole is being handled
after the first check."""
_READ: Final = 8 << 10
"""Bytes that are parsed between two checks of the clock. Without a limit they are 256 KB, which may contain 40,000 chunks of a
body, or 7,000 requests."""
_READ_WHEN_BUSY: Final = 512
"""The same for connections that arrive in an iteration that has lasted long enough already."""
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"


class HttpLimits:
    """The limits of one listener. `connections`, `body_bytes`: of all hosts; one host may take half of each.

    Connections of a trusted proxy are those of many hosts.
    """

    def __init__(
        self,
        *,
        connections: int,
        body_bytes: int,
        header_seconds: float,
        body_seconds: float,
        proxies: Proxies,
        metrics: Metrics,
    ) -> None:
        self._most = connections
        self._proxies = proxies
        self._most_bytes = body_bytes
        self._header_seconds = header_seconds
        self._body_seconds = body_seconds
        self._open: Counts[str] = Counts()
        self._bytes: Counts[str] = Counts()
        self._all_bytes = 0
        """The sum of these."""
        self._waiting: dict[Any, asyncio.TimerHandle] = {}
        """Connections whose first request has not arrived yet."""
        self._connections: dict[Any, _Connection] = {}
        """By their transports."""
        self._buffer = memoryview(bytearray(_READ))
        """Data are processed at once, so one buffer is enough for all connections."""
        self._spent = 0.0
        """Seconds of parsing since the event loop last ran."""
        self._refused = metrics.http_refused

    def open(self) -> int:
        """Connections."""
        return self._open.total()

    def protocol(
        self, make: Callable[[], asyncio.Protocol], *, admitted: bool = False
    ) -> Callable[[], asyncio.BaseProtocol]:
        """A protocol factory around aiohttp's. `admitted`: of connections that `admit` has counted."""
        return lambda: _Connection(self, make, admitted=admitted)

    def admit(self, host: str) -> bool:
        """Count one more connection of this host, until `leave` or `dismiss`; False when the limit is reached."""
        source = self._source(host)
        mine = self._open[source]
        full = mine >= self._most * _HOST_SHARE and not self._proxies.trusts(host)
        if full or self._open.total() >= self._most:
            self._refused.labels("connections").inc()
            return False
        self._open[source] = mine + 1
        return True

    def dismiss(self, host: str) -> None:
        """An admitted connection failed before it began."""
        self._open.less(self._source(host))

    def _source(self, host: str) -> str:
        """A proxy's connections are those of many hosts, so they use nothing of its network's share."""
        return host if self._proxies.trusts(host) else source_of(host)

    def enter(self, connection: "_Connection", transport: Any) -> None:
        """A connection that was admitted begins."""
        self._connections[transport] = connection
        self._waiting[transport] = asyncio.get_running_loop().call_later(self._header_seconds, self._expire, transport)

    async def first_requests_came(self, seconds: float) -> None:
        """Wait until every connection has sent its first headers, at most `seconds`."""
        await until(lambda: not self._waiting, seconds, step=_STEP)

    def leave(self, transport: Any, host: str) -> None:
        """The connection is over."""
        self._headers_came(transport)
        self._connections.pop(transport, None)
        self._open.less(self._source(host))

    def buffer(self) -> memoryview:
        """Where to read to."""
        return self._buffer if self._spent < SLICE_SECONDS else self._buffer[:_READ_WHEN_BUSY]

    def read(self, count: int) -> bytes:
        """The data that were read into it."""
        return bytes(self._buffer[:count])

    def parsed(self, seconds: float) -> bool:
        """Parsing took this long; returns whether other tasks must run before more is parsed."""
        if not self._spent:
            asyncio.get_running_loop().call_soon(self._begin_slice)
        self._spent += seconds
        return self._spent >= SLICE_SECONDS

    def _begin_slice(self) -> None:
        self._spent = 0.0

    def request(self, request: web.Request, limit: int) -> "_CountedRequest":
        """Around a request whose headers have arrived and whose body is at most `limit` bytes.

        Raises OVERLOADED when the bodies being read use the whole budget. A body that does not arrive in time raises
        HTTPRequestTimeout where it is read.
        """
        return _CountedRequest(self, request, limit)

    def begin(self, request: web.Request) -> "_Connection | None":
        """Its headers have arrived; returns its connection, if that is one of this listener's."""
        transport = request.transport
        self._headers_came(transport)
        connection = self._connections.get(transport)
        if connection is not None:
            connection.request = request
        return connection

    def take_body(self, request: web.Request, host: str, limit: int) -> int:
        """Count bytes for its body until they are given back. Raises OVERLOADED."""
        length = request.content_length
        size = min(limit, _UNKNOWN if length is None else length)
        source = source_of(host)
        mine = self._bytes[source]
        if mine + size > self._most_bytes * _HOST_SHARE or self._all_bytes + size > self._most_bytes:
            self._refused.labels("body_bytes").inc()
            raise TocsinError(
                ErrorReason.ERROR_REASON_OVERLOADED,
                "more bodies are under way than are taken at once; send it again a little later",
                metadata={"limit": "body_bytes", "allowed": str(self._most_bytes)},
                retry_after=_RETRY_AFTER,
            )
        self._bytes[source] = mine + size
        self._all_bytes += size
        return size

    def give_back(self, host: str, size: int) -> None:
        """The body with so many counted bytes is finished."""
        self._all_bytes -= size
        self._bytes.less(source_of(host), size)

    def wait_for_body(self, request: web.Request) -> asyncio.TimerHandle:
        """Ends a body that does not arrive in time."""
        return asyncio.get_running_loop().call_later(self._body_seconds, self._body_late, request)

    def _headers_came(self, transport: Any) -> None:
        timer = self._waiting.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, transport: Any) -> None:
        self._waiting.pop(transport, None)
        self._refused.labels("header_seconds").inc()
        transport.abort()

    def _body_late(self, request: web.Request) -> None:
        if not request.content.is_eof():
            self._refused.labels("body_seconds").inc()
            request.content.set_exception(web.HTTPRequestTimeout())


class _CountedRequest:
    """One request. A class: two generators cost as much as the rest of this."""

    __slots__ = ("_connection", "_host", "_limit", "_limits", "_request", "_size", "_timer")

    def __init__(self, limits: HttpLimits, request: web.Request, limit: int) -> None:
        self._limits = limits
        self._request = request
        self._limit = limit
        self._host = ""
        self._size: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        limits, request = self._limits, self._request
        self._connection = limits.begin(request)
        if not request.can_read_body:
            return
        self._host = request.remote or ""
        try:
            self._size = limits.take_body(request, self._host, self._limit)
        except TocsinError:
            self.__exit__()
            raise
        if not request.content.is_eof():
            # Most bodies arrive with their headers.
            self._timer = limits.wait_for_body(request)

    def __exit__(self, *_error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._size is not None:
            self._limits.give_back(self._host, self._size)
        if self._connection is not None:
            self._connection.answered()


class _Connection(asyncio.BufferedProtocol):
    """Counts a connection and passes all data to aiohttp's protocol, in pieces between which other tasks run."""

    def __init__(self, limits: HttpLimits, make: Callable[[], asyncio.Protocol], *, admitted: bool) -> None:
        self._limits = limits
        self._make = make
        self._admitted = admitted
        self._inner: Any = None  # aiohttp's, which nothing public names
        self._transport: Any = None
        self._host = ""
        self._unanswered = False
        self.request: web.Request | None = None
        """The one that is under way."""

    def answered(self) -> None:
        """The answer to the request is known."""
        self.request, self._unanswered = None, False

    def connection_made(self, transport: Any) -> None:
        peer = transport.get_extra_info("peername")
        self._host = str(peer[0]) if peer else ""
        if not self._admitted and not self._limits.admit(self._host):
            transport.write(_FULL)
            transport.close()
            return
        self._limits.enter(self, transport)
        self._transport = transport
        self._inner = self._make()
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._inner is not None:
            self._limits.leave(self._transport, self._host)
            self._inner.connection_lost(error)

    def get_buffer(self, _wanted: int) -> memoryview:
        return self._limits.buffer()

    def buffer_updated(self, count: int) -> None:
        if self._inner is None:
            return
        self._unanswered = True
        began = time.perf_counter()
        self._inner.data_received(self._limits.read(count))
        if self._limits.parsed(time.perf_counter() - began) and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        # aiohttp also pauses while no handler reads a body or many requests wait; then it resumes by itself.
        inner = self._inner
        if not (self._transport.is_closing() or inner._reading_paused or inner._buffer_paused):
            self._transport.resume_reading()

    def eof_received(self) -> bool | None:
        """The client sends no more. Its requests are still answered: scripts that pipe a request into a connection close their
        side at once, and their request would be lost if the connection were closed before it is read. TLS has no half-closed
        connections.
        """
        if not self._unanswered or self._transport.get_extra_info("ssl_object") is not None:
            return None
        self._answer_the_last(_LOOKS)
        return True

    def _answer_the_last(self, looks: int) -> None:
        if self._transport.is_closing():
            return
        if self.request is not None:
            if not self.request.content.is_eof():
                self.request.content.set_exception(ConnectionResetError("the client has ended in the middle of a body"))
            self._inner.close()  # after its answer
        elif self._unanswered and looks:
            asyncio.get_running_loop().call_later(_STEP, self._answer_the_last, looks - 1)
        else:
            self._transport.close()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

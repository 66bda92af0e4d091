"""Reading bodies of any size within a bounded amount of memory.

Limits are separate from those of gRPC: Alertmanager posts a whole group at once, and does not repeat a request that is answered
4xx. All bodies of a process share one budget; a body beyond it is refused, to be repeated, so that memory use is limited.
"""

import contextlib
import zlib
from collections.abc import Iterator
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.http_encoding import Inflater, UnknownEncoding, encoding_of
from tocsin_kit.time_slices import TimeSlice

_RETRY_AFTER: Final = 1.0
_BROKEN: Final = (HttpProcessingError, web.RequestPayloadError, ConnectionError, aiohttp.ClientError)


class Refused(Exception):
    """An error with an HTTP status that no gRPC status stands for. `close`: the connection cannot be used again."""

    def __init__(self, status: int, error: TocsinError, *, close: bool = False) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.close = close


class Bodies:
    """Reads bodies of at most `limit` bytes each, and of at most `budget` bytes at the same time, inflated."""

    def __init__(self, *, limit: int, budget: int) -> None:
        self._limit = limit
        self._budget = max(budget, limit)
        self.held = 0
        """Bytes of bodies that are being read or worked on."""

    def lend(self) -> "Loan":
        """`with bodies.lend() as loan: data = await loan.read(request)`; the bytes count until the block ends."""
        return Loan(self)


class Loan:
    """One body's share of the budget."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._taken = 0

    def __enter__(self) -> "Loan":
        return self

    def __exit__(self, *_error: object) -> None:
        self._bodies.held -= self._taken

    async def read(self, request: web.Request) -> bytes | bytearray:
        """The body, inflated. Raises Refused (400, 408, 413, 415) or OVERLOADED."""
        limit = self._bodies._limit
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        try:
            encoding = encoding_of(request)
        except UnknownEncoding as error:
            raise Refused(415, invalid("Content-Encoding", str(error))) from error
        try:
            return await (self._inflate(request, encoding) if encoding else self._plain(request))
        except web.HTTPRequestTimeout as error:
            raise Refused(408, invalid("body", "did not come in time; send it again")) from error
        except _BROKEN as error:
            # Data that may still arrive do not belong to this body any more: no reader waits for them, and the connection is not
            # reused.
            request.content.feed_eof()
            broken = invalid("body", "the connection ended in the middle of it, or its form is broken")
            raise Refused(400, broken, close=True) from error

    async def _plain(self, request: web.Request) -> bytes | bytearray:
        content = request.content
        first = await content.readany()
        self._take(0, len(first))
        if content.at_eof():
            return first
        body = bytearray(first)
        with _emptied(body):
            while chunk := await content.readany():
                self._take(len(body), len(chunk))
                body += chunk
        return body  # not as bytes: copying 32 MiB takes as long as a slice of the event loop

    async def _inflate(self, request: web.Request, encoding: str) -> bytearray:
        body, came, time_slice, inflater = bytearray(), 0, TimeSlice(), Inflater(encoding)
        try:
            with _emptied(body):
                while chunk := await request.content.readany():
                    came += len(chunk)
                    if came > self._bodies._limit:
                        raise _too_large(self._bodies._limit)
                    for piece in inflater.feed(chunk):
                        self._take(len(body), len(piece))
                        body += piece
                        await time_slice.yield_if_over()
                inflater.end()
        except zlib.error as error:
            raise Refused(400, invalid("Content-Encoding", f"the body is not {encoding}: {error}")) from error
        return body

    def _take(self, held: int, size: int) -> None:
        bodies = self._bodies
        if held + size > bodies._limit:
            raise _too_large(bodies._limit)
        if bodies.held + size > bodies._budget:
            raise TocsinError(
                ErrorReason.ERROR_REASON_OVERLOADED,
                "more bytes are being received than fit into memory; send this again a little later",
                retry_after=_RETRY_AFTER,
            )
        bodies.held += size
        self._taken += size


@contextlib.contextmanager
def _emptied(body: bytearray) -> Iterator[None]:
    """An error that ends the block keeps no part of the body.

    Its traceback holds the body, and may live until the cycle collector runs. The budget counts the bytes as given back.
    """
    try:
        yield
    except BaseException:
        body.clear()
        raise


def _too_large(limit: int) -> Refused:
    return Refused(
        413,
        TocsinError(
            ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE,
            f"the body is larger than {limit} bytes; send fewer alerts at once",
            metadata={"limit_bytes": str(limit)},
        ),
    )

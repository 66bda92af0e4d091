"""Connections of an HTTP client to hosts that a tenant has named, which may answer anything.

aiohttp parses all that has arrived in one go, and interim answers (1xx, RFC 9110 §15.2) and empty lines for as long as they come. A
host that sends nothing else, or a body in chunks of a byte, keeps the event loop busy until the call's time is over, and everything
else of the process waits.
"""

import asyncio
from functools import partial
from typing import Any, ClassVar, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

MOST_HEAD: Final = 32 << 10
"""Bytes up to the end of the final answer's head. Servers send some hundred, and few would take more than this."""
_PIECE: Final = 4096
"""Bytes that are parsed at once before that: as many answers as fit take a few milliseconds."""
_BODY_PIECE: Final = 16 << 10
"""The same afterwards."""
_BODY_FREE: Final = 64 << 10
"""Bytes after which a body that is mostly made of the ends of its chunks is given up. Chunks of ten bytes are long enough."""
_SWITCHING: Final = 101


class CostlyAnswer(aiohttp.ClientError):
    """Reading the answer would cost far more than what it says. The text names no part of the URL."""


class BoundedProtocol(ResponseHandler):
    """A connection that is closed when its answer is costly to read; the request raises CostlyAnswer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._head = 0
        self._body = 0
        self._finals = 0
        """Final answers whose heads were found: one belongs to the request."""
        self._is_over = False

    def set_response_params(self, **params: Any) -> None:
        """The client calls it before each request."""
        self._begin()
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse it in pieces. Without data: what was held back while the reader was behind."""
        if not (data or self._is_over):
            super().data_received(data)
            self._judge()
        while data and not self._is_over:
            size = _BODY_PIECE if self._finals else _PIECE
            piece, data = data[:size], data[size:]
            if self._finals:
                self._body += len(piece)
            else:
                self._head += len(piece)
            super().data_received(piece)
            self._judge()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The parser has found an answer's head."""
        status = data[0].code
        if status >= 200 or status == _SWITCHING:
            self._finals += 1
        super().feed_data(data, size)

    @property
    def _content(self) -> int:
        """Bytes of the body that are known. The session must not decompress."""
        return self._body if self._payload is None else self._payload.total_bytes

    def _begin(self) -> None:
        self._head = 0
        self._body = 0
        self._finals = 0
        self._is_over = False

    def _judge(self) -> None:
        if self._finals > 1:
            # The first one counts. A host that goes on would have thousands parsed from each packet.
            self._is_over = True
            self.force_close()
        elif not self._finals and self._head > MOST_HEAD:
            self._give_up(f"the answer does not begin within {MOST_HEAD} bytes")
        elif not self._reading_paused and self._body > max(_BODY_FREE, 2 * self._content):
            self._give_up("its chunks are too small")

    def _give_up(self, why: str) -> None:
        self._is_over = True
        error, payload = CostlyAnswer(why), self._payload
        self.set_exception(error)
        if payload is not None and not payload.is_eof():
            payload.set_exception(error)
        if self.transport is not None:
            self.transport.abort()


class BoundedConnector(aiohttp.TCPConnector):
    """Makes connections of that kind, or of a kind derived from it."""

    protocol: ClassVar[type[BoundedProtocol]] = BoundedProtocol

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        factory: Any = partial(self.protocol, loop=self._loop)
        self._factory = factory

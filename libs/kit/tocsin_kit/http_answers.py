"""Connections of an HTTP client to hosts that a tenant has named, which may answer anything.

aiohttp reads interim answers (1xx, RFC 9110 §15.2) for as long as they come, all that have arrived in one go. A host that sends
nothing else keeps the event loop busy until the call's time is over, and everything else of the process waits.
"""

import asyncio
from functools import partial
from typing import Any, ClassVar, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

MOST_INTERIM: Final = 20
"""Interim answers that are read before the final one. A server sends one or two."""
_PIECE: Final = 4096
"""Bytes that are parsed at once before the final answer: as many interim answers as fit take a few milliseconds."""
_SWITCHING: Final = 101


class EndlessAnswer(aiohttp.ClientError):
    """A host sent interim answers only."""

    def __init__(self) -> None:
        super().__init__(f"more than {MOST_INTERIM} interim answers (1xx)")


class BoundedProtocol(ResponseHandler):
    """A connection that is closed after `MOST_INTERIM` interim answers to its present request. The request raises EndlessAnswer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._interim = 0
        self._is_final = False

    def set_response_params(self, **params: Any) -> None:
        """The client calls it before each request."""
        self._interim = 0
        self._is_final = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse it in pieces until the final answer has begun."""
        while len(data) > _PIECE and not self._is_final and not self._is_endless:
            piece, data = data[:_PIECE], data[_PIECE:]
            super().data_received(piece)
        if not self._is_endless:
            super().data_received(data)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The parser has found an answer's head."""
        status = data[0].code
        if 100 <= status < 200 and status != _SWITCHING:
            self._interim += 1
        else:
            self._is_final = True
        if not self._is_endless:
            super().feed_data(data, size)
        elif not self.is_eof():
            self.set_exception(EndlessAnswer())
            if self.transport is not None:
                self.transport.abort()

    @property
    def _is_endless(self) -> bool:
        return self._interim > MOST_INTERIM


class BoundedConnector(aiohttp.TCPConnector):
    """Makes connections of that kind, or of a kind derived from it."""

    protocol: ClassVar[type[BoundedProtocol]] = BoundedProtocol

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        factory: Any = partial(self.protocol, loop=self._loop)
        self._factory = factory

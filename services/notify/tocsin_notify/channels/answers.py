"""The answer of a webhook's receiver, known from its status line alone; the rest of the answer does not matter.

A receiver that answered 2xx has accepted the page. A repeat because the rest of the answer was endless, missing, short
or not HTTP would ring the phone for hours. The HTTP client hides the status line when it cannot parse what came in the
same packet, so the line is also noted here as it arrives.
"""

import asyncio
import re
from contextlib import nullcontext
from typing import Any, Final

import aiohttp
from tocsin_kit.http_answers import BoundedConnector, BoundedProtocol

_STATUS: Final = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: [^\n]*)?\r?\n")
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")
_HEAD_LIMIT: Final = 16_384
_BODY_LIMIT: Final = 2048
_BODY_SECONDS: Final = 1.0
_NO_LIMIT: Final = nullcontext()


class StatusLine:
    """Of the answer to one request, as its bytes arrive."""

    def __init__(self) -> None:
        self.status = 0
        """0: none has come yet. Interim answers (1xx, RFC 9110 §15.2) do not count."""
        self._head = bytearray()

    def note(self, data: bytes) -> None:
        """Read the bytes that arrived, until the status is known."""
        if not self.status and len(self._head) < _HEAD_LIMIT:
            self._head += data[: _HEAD_LIMIT - len(self._head)]
            self.status = _final_status(self._head)


class AnswerProtocol(BoundedProtocol):
    """A connection that notes the status line of the answer to its present request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.answer = StatusLine()
        self.requests = 0
        """Sent on it, with the present one."""

    def set_response_params(self, **params: Any) -> None:
        """The client calls it before each request."""
        self.answer = StatusLine()
        self.requests += 1
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Note the status first, then let the client parse."""
        self.answer.note(data)
        super().data_received(data)


class Connector(BoundedConnector):
    """Makes connections of that kind."""

    protocol = AnswerProtocol


async def beginning(response: aiohttp.ClientResponse, limit: int = _BODY_LIMIT) -> str:
    """The first words of the answer: at most `limit` bytes of what comes within a second. Errors of the receiver raise
    nothing. A connection whose answer was not read to its end is closed.
    """
    content = b""
    try:
        # An answer that is complete needs no time limit: a timer would cost more than all other work on a short answer.
        async with _NO_LIMIT if response.content.is_eof() else asyncio.timeout(_BODY_SECONDS):
            while len(content) < limit and not response.content.at_eof():
                content += await response.content.read(limit - len(content))
    except (aiohttp.ClientError, OSError):  # a time-out is an OSError
        response.close()
    if not response.content.at_eof():
        response.close()
    return content.decode("utf-8", "replace")


def _final_status(head: bytearray) -> int:
    start = 0
    while line := _STATUS.match(head, start):
        status = int(line[1])
        if status >= 200:
            return status
        end = _END_OF_HEAD.search(head, line.end() - 2)
        if end is None:
            break
        start = end.end()
    return 0

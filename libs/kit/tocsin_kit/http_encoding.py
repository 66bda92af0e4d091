"""Encodings of HTTP bodies (RFC 9110, 8.4). The parser's own decoding answers errors before a handler or a method is known."""

import zlib
from collections.abc import Iterator
from typing import Final

from aiohttp import web

_PIECE: Final = 64 << 10
"""Bytes of one step, after which a limit is checked."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB_METHOD: Final = 8


class UnknownEncoding(ValueError):
    """The body has an encoding that is not read here."""


def encoding_of(request: web.Request) -> str:
    """`gzip`, `deflate`, or empty for a plain body. Raises UnknownEncoding."""
    named = request.headers.get("Content-Encoding", "").strip().lower()
    if named in ("", "identity"):
        return ""
    if named in ("gzip", "x-gzip"):
        return "gzip"
    if named == "deflate":
        return named
    raise UnknownEncoding("must be gzip, deflate or absent")


class Inflater:
    """Inflates one body, a piece at a time, so that a small body that becomes very large is noticed while it grows.

    `gzip` may consist of several members (RFC 1952, 2.2). `deflate` is the zlib form (RFC 1950); some send it without its header.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._now = None if encoding == "deflate" else zlib.decompressobj(_GZIP)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that these bytes complete. Raises zlib.error for another format."""
        while data:
            if self._now is None:
                raw = data[0] & 0x0F != _ZLIB_METHOD
                self._now = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS)
            elif self._now.eof:
                if self._encoding != "gzip":
                    raise zlib.error("bytes follow its end")
                self._now = zlib.decompressobj(_GZIP)
            self._begun = True
            if piece := self._now.decompress(data, _PIECE):
                yield piece
            data = self._now.unconsumed_tail or self._now.unused_data
            if not data and len(piece) == _PIECE:
                # The last bytes may stand for more than one piece: nothing is left to feed, but more pieces come.
                while piece := self._now.decompress(b"", _PIECE):
                    yield piece

    def end(self) -> None:
        """The end of the body. Raises zlib.error when it is cut off; no bytes at all are an empty body."""
        if self._begun and (self._now is None or not self._now.eof):
            raise zlib.error("it ends too early")

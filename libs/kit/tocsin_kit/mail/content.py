"""A mail as it arrives after DATA: finds its end, and removes the dots that escape such an end (RFC 5321, section 4.5.2).

Processed in pieces, not line by line: a mail of empty lines has millions of them, and each would cost as much as a whole piece.
"""

from typing import Final

_LINE: Final = b"\r\n"
_END: Final = b"\r\n.\r\n"
_KEPT: Final = len(_LINE) + len(_END) - 1
"""Bytes that are examined again with the next ones: an end without its last byte, and whether a line begins before it."""


class MailContent:
    """The content that has arrived. Beyond `most` bytes only their number is kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = bytearray()
        self._held = bytearray(_LINE)  # the first line begins as others do
        self.came = 0
        """Bytes of the mail, with the dots."""

    def feed(self, data: bytes) -> bytes | None:
        """Takes new bytes; once the mail has ended, returns the bytes after it."""
        self._held += data
        end = self._held.find(_END)
        if end >= 0:
            behind = bytes(self._held[end + len(_END) :])
            self._take(end + len(_LINE))
            return behind
        if len(self._held) > _KEPT:
            self._take(len(self._held) - _KEPT + len(_LINE))
        return None

    @property
    def taken(self) -> bytes | None:
        """The mail; None: it is too large."""
        return bytes(self._taken) if self.came <= self._most else None

    def _take(self, size: int) -> None:
        """So many of the held bytes; the first two were taken before."""
        part = self._held[:size]
        del self._held[: size - len(_LINE)]
        self.came += size - len(_LINE)
        if self.came <= self._most:
            self._taken += part.replace(_LINE + b".", _LINE)[len(_LINE) :]
        else:
            self._taken.clear()

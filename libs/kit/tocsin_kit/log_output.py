"""The output of log lines. Lines that cannot be written are counted: a full disk, or a reader that is gone or stopped, must not
delay a page."""

import errno
import json
import os
import select
import threading
import time
from typing import Final, TextIO

_LOST: Final = "log_lines_lost"
_PIECE: Final = 1000
"""Characters of a piece, at most 4,000 bytes: a writable pipe accepts 4,096 (pipe(7), PIPE_BUF)."""
_PATIENCE_SECONDS: Final = 0.01
_PATIENT_AGAIN_SECONDS: Final = 1.0
"""Seconds between two waits for a reader: a stopped reader costs the process a hundredth of its time at most."""


class LogOutput:
    """A stream of whole lines, which raises nothing, and waits for its reader at most 10 ms a second.

    The first line that can be written again says how many were lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._untold = 0
        self._begun = False
        """The end of a line was lost: the next one starts on a new line."""
        self._patient_from = 0.0
        self._readiness = _readiness(stream)
        self.lost = 0
        """Lines."""

    def write(self, text: str) -> int:
        """Lines with their ends."""
        with self._lock:
            told = f"{json.dumps({'event': _LOST, 'level': 'error', 'lines': self._untold})}\n" if self._untold else ""
            try:
                self._write(("\n" if self._begun else "") + told + text)
            except (OSError, ValueError):  # ValueError: the stream was closed
                self.lost += 1
                self._untold += 1
            else:
                self._untold = 0
        return len(text)

    def flush(self) -> None:
        """Each line is written at once."""

    def _write(self, text: str) -> None:
        for start in range(0, len(text), _PIECE):
            if not self._has_room():
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self._stream.write(text[start : start + _PIECE])
            self._stream.flush()
            self._begun = start + _PIECE < len(text)

    def _has_room(self) -> bool:
        if self._readiness is None or self._readiness.poll(0):
            return True
        if time.monotonic() < self._patient_from:
            return False
        found = bool(self._readiness.poll(_PATIENCE_SECONDS * 1000))
        self._patient_from = time.monotonic() + _PATIENT_AGAIN_SECONDS
        return found


def _readiness(stream: TextIO) -> "select.poll | None":
    """Whether the stream accepts more without waiting. None: it is no file."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return None
    readiness = select.poll()
    readiness.register(number, select.POLLOUT)
    return readiness

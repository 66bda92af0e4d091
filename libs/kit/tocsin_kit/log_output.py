"""Where log lines go. What cannot be written is counted: a full disk, or a reader that has gone, must not hold up a page."""

import json
import threading
from typing import Final, TextIO

_LOST: Final = "log_lines_lost"


class LogOutput:
    """A stream of whole lines, which raises nothing. The first line that can be written again tells how many were lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._untold = 0
        self.lost = 0
        """Lines."""

    def write(self, text: str) -> int:
        """Lines with their ends."""
        with self._lock:
            told = f"{json.dumps({'event': _LOST, 'level': 'error', 'lines': self._untold})}\n" if self._untold else ""
            try:
                self._stream.write(told + text)
                self._stream.flush()
            except (OSError, ValueError):  # ValueError: the stream was closed
                self.lost += 1
                self._untold += 1
            else:
                self._untold = 0
        return len(text)

    def flush(self) -> None:
        """Each line is written at once."""

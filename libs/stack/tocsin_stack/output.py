"""What a child writes goes to a bounded log file, to the terminal behind a prefix, and into error messages."""

import os
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO, BinaryIO, Final

_MAX_LOG_BYTES: Final = 10 * 1024 * 1024  # of the file in use; one older file of the same size is kept beside it
_MAX_LINE_BYTES: Final = 64 * 1024  # a longer line is broken up instead of held in memory
_COLOURS: Final = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Terminal:
    """The shared terminal: whole lines only, each behind its writer's name."""

    def __init__(self, stream: IO[str] | None = None, width: int = 12) -> None:
        self._stream: IO[str] | None = stream or sys.stdout
        self._width = width
        self._lock = threading.Lock()
        self._colours: dict[str, int] = {}
        self._coloured = self._stream.isatty() and "NO_COLOR" not in os.environ

    def line(self, name: str, text: str) -> None:
        """Print one line. Once the terminal is gone the lines go to the log files only."""
        with self._lock:
            if self._stream is None:
                return
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            prefix = f"{name:<{self._width}} | "
            try:
                print(f"\033[{colour}m{prefix}\033[0m{text}" if self._coloured else prefix + text, file=self._stream)
                self._stream.flush()
            except (OSError, ValueError):  # closed: the pump must read on, or the child blocks on a full pipe
                self._stream = None


class Output:
    """The output of one named child over all its runs."""

    def __init__(self, name: str, log_folder: Path, terminal: Terminal | None = None) -> None:
        self.name = name
        self.path = log_folder / f"{name}.log"
        self._terminal = terminal
        self._last: deque[str] = deque(maxlen=15)
        self._lost = 0
        self._lock = threading.Lock()  # two runs may overlap: a killed server's children close the pipe a little later

    def say(self, text: str) -> None:
        """A line of our own about the child, among its lines."""
        self._write(f"[{text}]".encode())

    def pump(self, pipe: BinaryIO | IO[bytes]) -> None:
        """Copy everything from the pipe until its last writer is gone. Runs in a thread of its own."""
        with pipe:
            while line := pipe.readline(_MAX_LINE_BYTES):
                self._write(line.rstrip(b"\r\n"))

    def tail(self) -> str:
        """The last lines, indented, for an error message."""
        with self._lock:
            lines = list(self._last)
        return "\n".join(f"  | {line}" for line in lines) or "  | (it wrote nothing)"

    def _write(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        with self._lock:
            self._last.append(text)
            self._keep(line)
        if self._terminal is not None:
            self._terminal.line(self.name, text)

    def _keep(self, line: bytes) -> None:
        told = b"[%d lines before this one could not be written]\n" % self._lost if self._lost else b""
        try:
            self._append(told + line)
        except OSError:  # the disk is full: the pump must read on, or the child blocks on a full pipe
            self._lost += 1
        else:
            self._lost = 0

    def _append(self, line: bytes) -> None:
        # Logs hold names and what alerts say: for the account that runs the stack alone.
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as file:
            file.write(line + b"\n")
            full = file.tell() > _MAX_LOG_BYTES
        if full:
            self.path.replace(self.path.with_suffix(".log.1"))

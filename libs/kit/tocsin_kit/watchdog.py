"""Reports when the event loop was blocked, for how long, and by which code.

The loop beats; a thread checks whether it still does. When it does not, the thread notes the task and the line that the loop is
in: afterwards these are unknown. Code that holds the interpreter's lock the whole time (an extension) is reported as the line
after it.
"""

import asyncio
import sys
import threading
import time
from types import FrameType
from typing import Final

from tocsin_kit.logging import get_logger
from tocsin_kit.metrics import Metrics

_log = get_logger(__name__)
_BEAT: Final = 0.05
"""Seconds between beats."""
BLOCKED: Final = 0.1
"""Seconds without an iteration of the loop that are logged."""
_LATE: Final = _BEAT + BLOCKED / 2
"""Seconds since a beat after which the thread checks the loop."""
_PREFIX: Final = "HandleExceptions["  # what grpc.aio calls the task of an RPC, before the method
_LIBRARIES: Final = ("site-packages", "/asyncio/", "<frozen")


class Watchdog:
    """Run it in the loop that it watches: `loops.add("loop-lag", Watchdog(metrics).run)`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._beat = time.monotonic()
        self._ended = threading.Event()
        self._found: tuple[str, str] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until stopped."""
        loop = asyncio.get_running_loop()
        self._ended.clear()
        self._beat = time.monotonic()
        thread = threading.Thread(target=self._watch, args=(loop, threading.get_ident()), name="watchdog", daemon=True)
        thread.start()
        # A timer and not a task that sleeps: no loop of an idle service has more rounds.
        self._next = loop.call_later(_BEAT, self._beaten, loop)
        try:
            await stop.wait()
        finally:
            self._next.cancel()
            self._ended.set()

    def _beaten(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next = loop.call_later(_BEAT, self._beaten, loop)
        now = time.monotonic()
        late = max(0.0, now - self._beat - _BEAT)
        self._beat = now
        self._metrics.loop_lag_seconds.observe(late)
        if late < BLOCKED:
            self._found = None
            return
        running, line = self._found or ("unknown", "")
        self._found = None
        self._metrics.loop_blocked_seconds.labels(running).inc(late)
        _log.warning("loop_blocked", seconds=round(late, 3), running=running, line=line)

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        # It sleeps until the loop could be late at the earliest: to wake up it needs the interpreter's lock, and a busy loop
        # that has to hand the lock over stands still until this thread is given a processor.
        wait = _LATE
        while not self._ended.wait(wait):
            wait = _LATE - (time.monotonic() - self._beat)
            if wait > 0:
                continue
            wait = _BEAT / 2
            if self._found is None:
                frame = sys._current_frames().get(thread_id)
                task = asyncio.current_task(loop)
                # No task: between two of them. The next look may find the one that blocks.
                if task is not None:
                    self._found = (_name_of(task), _line_of(frame))


def _name_of(task: "asyncio.Task[object]") -> str:
    """The RPC's method, the HTTP route or the loop whose task it is."""
    name = task.get_name()
    if name.startswith(_PREFIX):
        return name.removeprefix(_PREFIX).rstrip("]").lstrip("/")
    # A number would make a metric without bounds.
    return "other" if name.startswith("Task-") or name == "rpc_task" else name


def _line_of(frame: FrameType | None) -> str:
    """The innermost line that is ours, as `file.py:12 function`."""
    first = frame
    while frame is not None and any(part in frame.f_code.co_filename for part in _LIBRARIES):
        frame = frame.f_back
    frame = frame or first
    if frame is None:
        return ""
    file = "/".join(frame.f_code.co_filename.split("/")[-3:])
    return f"{file}:{frame.f_lineno} {frame.f_code.co_name}"

"""Starts the processes of a service, replaces those that end, and stops all of them."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from tocsin_kit.logging import get_logger
from tocsin_kit.loops import backoff, wait_or_stop
from tocsin_kit.processes.child import ChildProcess
from tocsin_kit.processes.metrics import ProcessMetrics

_log = get_logger(__name__)
_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_STEADY_SECONDS: Final = 30.0
"""A process that ran for this long had no fault at its start."""
_MOST_FAILURES: Final = 6
"""How often in a row one process may end before this time. Then the service ends, so that its operator notices."""
_BACKLOG: Final = 64
_LOOPBACK: Final = "127.0.0.1"


class Processes:
    """`count` processes that are started by `command` with the option `--part`."""

    def __init__(self, command: Sequence[str], count: int, *, pause: float = _PAUSE) -> None:
        """`pause`: seconds before a failed one is restarted; doubled each time, with jitter."""
        self._command = command
        self._pause = pause
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._admins = [socket.create_server((_LOOPBACK, 0), backlog=_BACKLOG) for _ in range(count)]
        self._lifeline, self._held = os.pipe()
        self._stop = asyncio.Event()
        self._failed = False
        self.registry: Final = CollectorRegistry()
        self._metrics = ProcessMetrics(self.registry)
        for number in range(count):
            self._metrics.up.labels(str(number)).set_function(lambda number=number: number in self._running)  # type: ignore[misc]
            self._metrics.ended.labels(str(number))

    @property
    def running(self) -> dict[int, tuple[int, str]]:
        """For the running ones: the number of this start (its process id), and where the parent asks them."""
        return {number: (process.pid, self._url(number)) for number, process in sorted(self._running.items())}

    def stop(self) -> None:
        """Tell all of them to stop, once."""
        if not self._stop.is_set():
            self._stop.set()
            for process in self._running.values():
                _signal(process, signal.SIGTERM)

    def kill(self) -> None:
        """End all of them at once."""
        for process in self._running.values():
            _signal(process, signal.SIGKILL)

    async def run(self) -> int:
        """Until stopped, or until one of them fails again and again. The exit code: 0 when all have stopped in good order."""
        try:
            codes = await asyncio.gather(*(self._keep(number) for number in range(len(self._admins))))
        finally:
            self.kill()
            os.close(self._held)
            os.close(self._lifeline)
            for each in self._admins:
                each.close()
        return 1 if self._failed or any(codes) else 0

    async def _keep(self, number: int) -> int:
        failures = 0
        while True:
            began = time.monotonic()
            code = await self._run(number)
            if self._stop.is_set():
                return code
            failures = 1 if time.monotonic() - began > _STEADY_SECONDS else failures + 1
            self._metrics.ended.labels(str(number)).inc()
            _log.error("process_ended", process=number, code=code, failures=failures)
            if failures >= _MOST_FAILURES:
                _log.error("service_gives_up", process=number, failures=failures)
                self._failed = True
                self.stop()
                return code
            if await wait_or_stop(self._stop, backoff(failures, base=self._pause, cap=_LONGEST_PAUSE)):
                return 0

    async def _run(self, number: int) -> int:
        admin = self._admins[number].fileno()
        process = await asyncio.create_subprocess_exec(
            *(*self._command, "--part", str(ChildProcess(number, admin, self._lifeline))),
            pass_fds=(admin, self._lifeline),
            # A terminal's ^C goes to its whole group: a process would get it a second time, and end at once.
            start_new_session=True,
        )
        self._running[number] = process
        _log.info("process_started", process=number, pid=process.pid)
        if self._stop.is_set():
            _signal(process, signal.SIGTERM)
        try:
            return await process.wait()
        finally:
            del self._running[number]

    def _url(self, number: int) -> str:
        return f"http://{_LOOPBACK}:{self._admins[number].getsockname()[1]}"


def stop_on_signals(stop: Callable[[], None], kill: Callable[[], None]) -> None:
    """SIGTERM and SIGINT call `stop`; the second one calls `kill` and ends this process."""
    loop = asyncio.get_running_loop()
    stop_asked = False

    def on_signal(number: int) -> None:
        nonlocal stop_asked
        if stop_asked:
            kill()
            os._exit(128 + number)
        stop_asked = True
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return

"""A few processes that run Apprise, started when they are needed."""

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tocsin_kit.counts import Counts
from tocsin_kit.logging import get_logger

from tocsin_notify.channels.apprise_words import Done
from tocsin_notify.channels.base import NotStarted, Permit

_log = get_logger(__name__)

_WORKER: Final = "tocsin_notify.channels.apprise_worker"


class Busy(Exception):
    """No process became free in time."""


class Died(Exception):
    """A process ended by itself, or sent something that cannot be read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one process of Apprise answered."""

    done: Done
    fenced: Sequence[str]
    """The audit events that were refused, by name."""


class Pool:
    """At most `size` processes at once. A process whose work does not end in time is killed, and the next work starts a
    new one.

    Each serves one tenant alone: what a plugin keeps in memory, such as a login, must reach no other tenant.

    They inherit nothing: no connection, no environment, no working directory, no terminal.
    """

    def __init__(self, schemes: Sequence[str], *, size: int, allow_private: bool) -> None:
        self._command = (sys.executable, "-I", "-m", _WORKER, ",".join(schemes), str(int(allow_private)))
        self._size = size
        self._share = max(1, size - 1)
        """For one tenant: if its plugins hang, one process is left to the others."""
        self._idle: list[tuple[str, Process]] = []
        """With their tenants, the one that has rested longest first."""
        self._busy: Counts[str] = Counts()
        self._freed = asyncio.Condition()
        self._ending: set[asyncio.Task[int]] = set()

    async def work(self, org_id: str, wanted: dict[str, Any], permit: Permit, *, timeout: float) -> Answer:
        """`timeout`: seconds for all of it; at most half of them are spent waiting for a process.

        Raises Busy, Died, TimeoutError, and NotStarted when the permit refuses.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        # Not nested: on a slow machine both limits may pass at once, and then the outer one would raise.
        await self._enter(org_id, timeout / 2)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._serve(org_id, wanted, permit)
        finally:
            await self._leave(org_id)

    async def close(self) -> None:
        """End every idle one. Those at work end with their callers."""
        while self._idle:
            self._end(self._idle.pop()[1])
        while self._ending:
            await asyncio.wait(set(self._ending))

    async def _enter(self, org_id: str, patience: float) -> None:
        try:
            async with asyncio.timeout(patience), self._freed:
                await self._freed.wait_for(lambda: self._busy.total() < self._size and self._busy[org_id] < self._share)
                self._busy[org_id] += 1
        except TimeoutError as error:
            raise Busy from error

    async def _leave(self, org_id: str) -> None:
        self._busy.less(org_id)
        async with self._freed:
            self._freed.notify_all()

    async def _serve(self, org_id: str, wanted: dict[str, Any], permit: Permit) -> Answer:
        rested = next((each for each in reversed(self._idle) if each[0] == org_id), None)
        if rested is not None:
            self._idle.remove(rested)
            exchange = _Exchange(rested[1], permit)
            try:
                return await self._run(org_id, exchange, wanted)
            except Died:
                if exchange.asked:
                    raise
                # It ended while it was idle, so the work is not the cause.
        if self._idle and self._busy.total() + len(self._idle) > self._size:
            self._end(self._idle.pop(0)[1])
        return await self._run(org_id, _Exchange(await self._start(), permit), wanted)

    async def _run(self, org_id: str, exchange: "_Exchange", wanted: dict[str, Any]) -> Answer:
        process = exchange.process
        try:
            answer = await exchange.run(wanted)
        except NotStarted:
            self._idle.append((org_id, process))
            raise
        except BaseException:
            self._end(process)
            raise
        self._idle.append((org_id, process))
        return answer

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, cwd="/", start_new_session=True
        )
        try:
            ready = await _read(process)
        except BaseException:
            self._end(process)
            raise
        if ready.get("unknown"):
            _log.error("apprise_schemes_unknown", schemes=ready["unknown"], remedy="mend NOTIFY_APPRISE_SCHEMES")
        return process

    def _end(self, process: Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        task = asyncio.get_running_loop().create_task(process.wait())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class _Exchange:
    """One work of one process, which asks the permit each time before it connects anywhere."""

    def __init__(self, process: Process, permit: Permit) -> None:
        self.process = process
        self._permit = permit
        self.asked = False
        """Whether it has called its provider, or was about to."""
        self._refusal: NotStarted | None = None

    async def run(self, wanted: dict[str, Any]) -> Answer:
        await self._write(wanted)
        while "done" not in (said := await _read(self.process)):
            await self._answer()
        if self._refusal is not None:
            raise self._refusal
        try:
            return Answer(Done(said["done"]), said["fenced"])
        except (KeyError, ValueError) as error:
            raise Died from error

    async def _answer(self) -> None:
        asked, self.asked = self.asked, True
        try:
            await self._permit.begin(lambda: self._write({"go": True}), repeat=asked)
        except NotStarted as error:
            self._refusal = error
            await self._write({"go": False})

    async def _write(self, words: dict[str, Any]) -> None:
        assert self.process.stdin is not None, "it was started with a pipe"
        try:
            self.process.stdin.write(json.dumps(words).encode() + b"\n")
            await self.process.stdin.drain()
        except OSError as error:
            raise Died from error


async def _read(process: Process) -> dict[str, Any]:
    assert process.stdout is not None, "it was started with a pipe"
    try:
        said = json.loads(await process.stdout.readline())
    except ValueError as error:  # nothing at all, if it ended
        raise Died from error
    if not isinstance(said, dict):
        raise Died
    return said

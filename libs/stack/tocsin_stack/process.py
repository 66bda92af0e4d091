"""A child process that cannot outlive us: own session, parent-death signal, output pumped line by line."""

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Final, Protocol

from tocsin_stack.account import Account
from tocsin_stack.errors import StackError
from tocsin_stack.output import Output

_LINUX: Final = platform.system() == "Linux"
# Becomes the program, once the kernel knows what to send it when we die. A program of its own and not a preexec_fn: with
# that, or with a change of user, Python forks, and gRPC's handlers around fork crash one child in six while calls are
# under way in this process. Without either it uses vfork, which runs no handlers.
_DIE_WITH_PARENT: Final = """
import ctypes, os, sys
parent, signum, uid, gid = map(int, sys.argv[1:5])
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
if os.getppid() != parent:  # it died before the call: the signal would never come
    sys.exit(1)
os.execvp(sys.argv[5], sys.argv[5:])
"""


class Running(Protocol):
    """What a child needs of `subprocess.Popen`."""

    pid: int
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        ...

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        ...

    def send_signal(self, sig: int) -> None:
        """Nothing happens if it has ended."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...


Start = Callable[[Sequence[str], Mapping[str, str], signal.Signals], "Running | None"]


class Child:
    """One run of one program after another: `start` may be called again once the last run has ended."""

    start_program: ClassVar[Start] = lambda program, env, stop_signal: None
    """Starts a program in another way than `subprocess`, with its output in a pipe; None for those it leaves alone."""

    def __init__(
        self,
        argv: Sequence[str],
        output: Output,
        *,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """`stop_signal` asks the program to end in good order; it is also what the kernel sends when we die."""
        self.output = output
        self._argv = list(argv)
        self._env = env
        self._account = account or Account.own()
        self._stop_signal = stop_signal
        self._popen: Running | None = None
        self._pump: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The process id of the current or last run."""
        assert self._popen is not None, "not started"
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._popen.poll() if self._popen else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self, *, stdin: bytes = b"", pass_fds: Sequence[int] = ()) -> None:
        """Start the program; `stdin` (at most a few KiB) is for what must not show in the process list.

        Call it from a thread that lives on: the kernel counts the death of the starting *thread* as the parent's.
        """
        assert not self.running, "already running"
        self._popen = None if stdin or pass_fds else self._started_otherwise()
        if self._popen is None:
            self._popen = self._opened(stdin, pass_fds)
        assert self._popen.stdout is not None
        self._pump = threading.Thread(target=self.output.pump, args=(self._popen.stdout,), daemon=True)
        self._pump.start()

    def _started_otherwise(self) -> Running | None:
        if self._account != Account.own():
            return None
        return Child.start_program(self._argv, os.environ if self._env is None else self._env, self._stop_signal)

    def _opened(self, stdin: bytes, pass_fds: Sequence[int]) -> Running:
        program = (*self._account.prefix, *self._argv)
        if shutil.which(program[0], path=(self._env or os.environ).get("PATH")) is None:
            raise StackError(f"cannot start {self.output.name}: there is no program {program[0]}")
        read_end = self._account.pipe_with(stdin)
        try:
            return subprocess.Popen(
                self._bound_to_us(program),
                stdin=read_end,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=None if self._env is None else dict(self._env),
                cwd=self._account.working_directory,
                start_new_session=True,  # the terminal's Ctrl-C reaches the launcher alone, which then stops in order
                pass_fds=pass_fds,
                **self._identity(),
            )
        except OSError as error:
            raise StackError(f"cannot start {self.output.name}: {error}") from error
        finally:
            os.close(read_end)

    def send_signal(self, signum: signal.Signals) -> None:
        """Send a signal to the program, if it still runs."""
        if self._popen is not None:
            self._popen.send_signal(signum)

    def kill(self) -> None:
        """End it with SIGKILL, and return when it is gone (milliseconds)."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()

    async def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended and its last output is on record.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        assert self._popen is not None, "not started"
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self._popen.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
            await asyncio.sleep(0.01)
        assert self._pump is not None
        self._pump.join(timeout=1)  # bounded: a grandchild may hold the pipe open
        return code

    async def stop(self, grace: float = 10.0) -> int | None:
        """Ask it to end; after `grace` seconds SIGKILL. Returns the exit code, or None when it never ran."""
        if self._popen is None:
            return None
        self.send_signal(self._stop_signal)
        self.send_signal(signal.SIGCONT)  # a paused process would sit on the request until the grace is over
        try:
            return await self.wait(grace)
        except TimeoutError:
            self.output.say(f"did not end within {grace:g} s: killed")
            self.kill()
            return await self.wait()

    async def ready(self, probe: Callable[[], Awaitable[bool]], limit: float) -> None:
        """Wait until `probe` says yes.

        Raises:
            StackError: the program ended first, or `limit` seconds went by; with the last lines it wrote.
        """
        deadline = time.monotonic() + limit
        while not await probe():
            if not self.running:
                code = await self.wait()
                raise StackError(f"{self.output.name} exited with {code} while starting\n{self.output.tail()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.output.name} is not ready after {limit:g} s\n{self.output.tail()}")
            await asyncio.sleep(0.01)

    def _bound_to_us(self, program: Sequence[str]) -> Sequence[str]:
        if not _LINUX:
            return program
        uid, gid = self._account.uid, self._account.gid
        numbers = (os.getpid(), self._stop_signal, -1 if uid is None else uid, -1 if gid is None else gid)
        return (sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, *(f"{int(number)}" for number in numbers), *program)

    def _identity(self) -> dict[str, Any]:
        """The change of user, where the program above does not make it."""
        if _LINUX or self._account.uid is None:
            return {}
        return {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}


def children_of(pid: int) -> list[int]:
    """The direct children of a process."""
    if not Path("/proc/self/stat").exists():
        done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, timeout=10, check=False)
        return [int(word) for word in done.stdout.split()]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended while we looked
        if int(fields[1]) == pid:
            found.append(int(entry.name))
    return found

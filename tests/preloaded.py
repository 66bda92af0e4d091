"""Services of the tests start as forks of a process that has imported them: two seconds of imports, paid once a run.

What all services import is imported once: by the stem, of which the process that has imported one service is a fork. Of that one
each worker of pytest-xdist gets a fork of its own, which starts the services of that worker.

A service's fork runs the same `python -m tocsin_… serve` in a process of its own, with its own environment, session, signals
and output. What reads the command line of a running service, or wants another interpreter, starts it by `subprocess`; so does
everything that tests the launcher.
"""

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final, NoReturn

from google.protobuf import message_factory
from tocsin_kit import gc_tuning, quick_records
from tocsin_stack.process import Child
from tocsin_stack.service import SERVICES

_PR_SET_PDEATHSIG: Final = 1
_LARGEST: Final = 1 << 17
"""Bytes of one request: the arguments and the environment."""
_READ_BEFORE: Final = ("PYTHON", "LD_", "MALLOC_", "LANG", "LC_")
"""Variables that an interpreter or a library reads before a fork could change them."""
_UNBUFFERED: Final = {"PYTHONUNBUFFERED": "1"}
_WHEN_ASKED: Final = (
    "import runpy, socket, sys; requests = socket.socket(fileno=int(sys.argv[1])); "
    "requests.recv(1, socket.MSG_PEEK) or sys.exit(); requests.detach(); "
    "runpy.run_module('tests.preloaded', run_name='__main__', alter_sys=True)"
)
"""The stem's program, which imports nothing before the first service is wanted: many runs start none."""
_SHARED: Final = ("tocsin_kit.lifecycle", "tocsin_kit.db.migrations", "tocsin_kit.db.tables", "tocsin_timers")
_SERVICES: Final = frozenset(spec.module for spec in SERVICES)


def install() -> None:
    """Let the services of this process's stacks be forks."""
    if sys.platform == "linux":
        Child.start_program = _start


def fork(module: str, arguments: Sequence[str], env: Mapping[str, str], stop_signal: signal.Signals) -> "Forked | None":
    """Start `python -m MODULE …`, which gets the signal when this process dies. None if it needs its own interpreter."""
    with _lock:
        if not _stems:
            share(env)
            atexit.register(_stems[0].close)
        if _early(env) != _stems[0].early:
            return None
        parent = _parents.get(module)
        if parent is None:
            parent = _parents[module] = _Parent(_stems[0].branch(module))
        return parent.fork((module, *arguments), env, stop_signal)


def share(env: Mapping[str, str]) -> None:
    """Start the stem. Forks of this process use it, too."""
    _stems.append(_Stem(env))


def _start(program: Sequence[str], env: Mapping[str, str], stop_signal: signal.Signals) -> "Forked | None":
    match list(program):
        case [sys.executable, "-m", module, *arguments] if module in _SERVICES:
            return fork(module, arguments, env, stop_signal)
        case _:
            return None


def _early(env: Mapping[str, str]) -> dict[str, str]:
    """Of these the stem has those of the first service: unbuffered is the output of all of them."""
    return {name: value for name, value in {**env, **_UNBUFFERED}.items() if name.startswith(_READ_BEFORE)}


class Forked:
    """One running service; what `subprocess.Popen` is to other programs."""

    def __init__(self, pid: int, stdout: IO[bytes]) -> None:
        self.pid = pid
        self.stdout: IO[bytes] | None = stdout
        self.returncode: int | None = None
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        """Note how it ended."""
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.returncode

    def wait(self) -> int:
        """The exit code, when it has ended."""
        self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Stem:
    """The process that has imported what all services import, seen from here. It ends when all that may ask it have ended."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.early = _early(env)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-c", _WHEN_ASKED, str(theirs.fileno())),
                env={**env, **_UNBUFFERED},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def close(self) -> None:
        """It ends when it is asked no more."""
        self._socket.close()
        self._process.wait()

    def branch(self, module: str) -> socket.socket:
        """Have it fork a process that imports the module, and forks on request; answers where to ask."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._socket, [module.encode()], [theirs.fileno()])
        return ours


class _Parent:
    """The process that has imported one service, seen from here. It ends when this process does."""

    def __init__(self, at: socket.socket) -> None:
        self._socket = at
        self._running: dict[int, Forked] = {}
        self._started: list[int] = []
        self._answer = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def fork(self, arguments: Sequence[str], env: Mapping[str, str], stop_signal: signal.Signals) -> Forked:
        output, theirs = os.pipe()
        request = json.dumps({"arguments": list(arguments), "env": dict(env), "signal": int(stop_signal)}).encode()
        assert len(request) < _LARGEST
        with self._answer:
            try:
                socket.send_fds(self._socket, [request], [theirs])
            finally:
                os.close(theirs)
            assert self._answer.wait_for(lambda: self._started, timeout=60), "the process that forks does not answer"
            pid = self._started.pop()
            forked = self._running[pid] = Forked(pid, os.fdopen(output, "rb"))
            self._answer.notify_all()
        return forked

    def _listen(self) -> None:
        while said := self._socket.recv(_LARGEST):
            pid, code = json.loads(said)
            with self._answer:
                if code is None:
                    self._started.append(pid)
                    self._answer.notify_all()
                else:
                    self._answer.wait_for(lambda: pid in self._running, timeout=60)  # noqa: B023 - waited for here
                    self._running.pop(pid).end(code)


_lock: Final = threading.Lock()
_stems: Final[list[_Stem]] = []
"""None or one."""
_parents: Final[dict[str, _Parent]] = {}


def main(descriptor: int) -> None:
    """The stem. Returns in each process that is to go on as a service."""
    _load(_SHARED)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # it asks nothing of its forks, and leaves none as zombies
    requests = socket.socket(fileno=descriptor)
    imported: dict[str, socket.socket] = {}
    while True:
        said, descriptors, _, _ = socket.recv_fds(requests, _LARGEST, 1)
        if not said:
            os._exit(0)
        module = said.decode()
        if module not in imported:
            imported[module], theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if os.fork() == 0:
                requests.close()
                for each in (*imported.values(), *map(_socket, descriptors)):
                    each.close()
                _branch_on_request(theirs, module)
                return
            theirs.close()
        socket.send_fds(imported[module], [said], descriptors)
        os.close(descriptors[0])


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)


def _branch_on_request(requests: socket.socket, module: str) -> None:
    """Import a service, then fork for each worker that wants to start it. Returns in each service."""
    _load((f"{module}.settings", f"{module}.wiring") if module in _SERVICES else (module,))
    while True:
        said, descriptors, _, _ = socket.recv_fds(requests, _LARGEST, 1)
        if not said:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _fork_on_request(_socket(descriptors[0]))
            return
        os.close(descriptors[0])


def _load(modules: Sequence[str]) -> None:
    with gc_tuning.switched_off():
        for module in modules:
            importlib.import_module(module)
        _compile_rules()
        quick_records.quicken_all()
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the threads that an import has started"


def _compile_rules() -> None:
    """Of all requests in the contracts that are imported: to compile its own takes a third of a service's start."""
    validation = importlib.import_module("tocsin_kit.rpc.validation")
    for name, module in list(sys.modules.items()):
        if name.startswith("tocsin.") and name.endswith("_pb2"):
            for service in module.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    validation.warm(message_factory.GetMessageClass(method.input_type))


def _fork_on_request(requests: socket.socket) -> None:
    """Fork for each request. Returns in each fork."""
    libc = ctypes.CDLL(None)
    children: dict[int, int] = {}
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != requests.fileno():
                poll.unregister(ready)
                os.close(ready)
                pid, status = os.waitpid(children.pop(ready), 0)
                _tell(requests, (pid, os.waitstatus_to_exitcode(status)))
                continue
            said, descriptors, _, _ = socket.recv_fds(requests, _LARGEST, 1)
            if not said:
                os._exit(0)
            request = json.loads(said)
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                libc.prctl(_PR_SET_PDEATHSIG, request["signal"], 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(1)
                requests.close()
                for each in children:
                    os.close(each)
                _become(request, descriptors[0])
                return
            os.close(descriptors[0])
            watched = os.pidfd_open(pid)
            children[watched] = pid
            poll.register(watched, select.POLLIN)
            _tell(requests, (pid, None))


def _tell(requests: socket.socket, said: tuple[int, int | None]) -> None:
    """Answer. Whoever has died meanwhile is no error: the next look at the requests ends this process."""
    with contextlib.suppress(BrokenPipeError):
        requests.send(json.dumps(said).encode())


def _become(request: dict[str, Any], output: int) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = request["arguments"]
    if "JITTER" in os.environ:
        importlib.import_module("tests.jitter").install()


def _end() -> NoReturn:
    """End a service as Python ends a program, but for freeing each object, which copies most of what the fork shares."""
    threads: Any = threading
    threads._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    _end()

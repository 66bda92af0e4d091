"""Workers of pytest-xdist start as forks of a process that has imported the tests: three seconds of imports, paid once a run.

That process, the trunk, reads the command line as a worker would, imports all tests that are about to be collected, and is
asked for one fork after the other. A fork goes on as execnet's own worker would begin. Where there is no fork to be had,
workers are started in the ordinary way.

A module of the tests must not ask while it is imported which worker it is in: in the trunk there is none yet.
"""

import atexit
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import pytest
from _pytest.config import _prepareconfig
from _pytest.warnings import catch_warnings_for_item
from execnet import gateway_io
from execnet.gateway_base import Popen2IO

_LARGEST: Final = 1 << 17
"""Bytes of what the trunk is told: the command line and the module path."""
_PR_SET_PDEATHSIG: Final = 1
_WITHOUT_DATABASES: Final = ("tests/unit", "tests/architecture", "tests/timers")
_START: Final = (
    "import json, sys; told = json.loads(sys.argv.pop()); sys.path[:] = told['path']; "
    "from tests import worker_forks; worker_forks.main(told)"
)
_ordinary: Final = gateway_io.create_io


def install(config: pytest.Config) -> None:
    """Let the workers of this run be forks. Those that delay are not: the tests' modules would have what is replaced later."""
    if sys.platform == "linux" and "JITTER" not in os.environ:
        factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]  # no public way before a test runs
        trunk = Trunk(config.invocation_params.args, factory.getbasetemp())
        atexit.register(trunk.close)
        gateway_io.create_io = trunk.create_io


def databases_of(basetemp: Path) -> Path:
    """The folder in which all workers of a run find migrated databases."""
    return basetemp / "prepared"


class _Fork(Popen2IO):
    """What execnet reads from and writes to, as for a process that it has started."""

    def __init__(self, pid: int, to: IO[bytes], answers: IO[bytes], execmodel: Any) -> None:
        super().__init__(to, answers, execmodel=execmodel)
        self._ended = os.pidfd_open(pid)

    def wait(self) -> int:
        """Return when it has ended. Its exit code is its parent's to know."""
        select.select([self._ended], [], [])
        return 0

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._ended, signal.SIGKILL)


class Trunk:
    """The process that has imported the tests, seen from the one that prints. It ends when this one does."""

    def __init__(self, arguments: Sequence[str], basetemp: Path) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told = json.dumps(
            {"arguments": list(arguments), "path": sys.path, "socket": theirs.fileno(), "basetemp": str(basetemp)}
        )
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-c", _START, told), stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )

    def create_io(self, spec: Any, execmodel: Any) -> Any:
        """In place of execnet's function."""
        if spec.popen and not spec.python:
            with contextlib.suppress(OSError):
                return self._fork(execmodel)
        return _ordinary(spec, execmodel)

    def close(self) -> None:
        """It ends when it is asked no more."""
        self._socket.close()
        self._process.wait()

    def _fork(self, execmodel: Any) -> _Fork:
        theirs, to = os.pipe()
        answers, its = os.pipe()
        try:
            socket.send_fds(self._socket, [b"fork"], [theirs, its])
        finally:
            os.close(theirs)
            os.close(its)
        said = self._socket.recv(_LARGEST)
        if not said:
            raise ConnectionResetError("the process that forks workers has ended")
        return _Fork(int(said), os.fdopen(to, "wb"), os.fdopen(answers, "rb"), execmodel)


def main(told: dict[str, Any]) -> None:
    """The trunk, and in the end each of its forks. Does not return."""
    gc.disable()  # modules are no garbage, and there are many
    _import(told["arguments"], Path(told["basetemp"]))
    gc.freeze()
    gc.enable()
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the threads that an import has started"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # it asks nothing of its forks, and leaves none as zombies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the process that prints, which ends its workers first
    requests = socket.socket(fileno=told["socket"])
    while True:
        said, descriptors, _, _ = socket.recv_fds(requests, _LARGEST, 2)
        if not said:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            requests.close()
            _become_worker(*descriptors)
        for each in descriptors:
            os.close(each)
        requests.send(str(pid).encode())


def _import(arguments: Sequence[str], basetemp: Path) -> None:
    """Import what a worker imports before it collects, as it would: asserts are rewritten, and warnings are errors."""
    config = _prepareconfig([*arguments, "--capture=no"])
    from tests import bytecode  # one of pytest's plugins: imported by pytest, or it would not be rewritten

    _preload()
    if any(_needs_databases(config, path) for path in config.args):
        _prepare_databases(basetemp)
    with catch_warnings_for_item(config, config.hook, "collect", None, record=False):
        bytecode.import_tests(config)
        _read_constants()
    config._ensure_unconfigure()


def _read_constants() -> None:
    """Hypothesis tries numbers and texts that our own modules contain, and looks through a thousand modules for them.

    Each worker would do that anew when it has collected: half a second, and five times that where nothing was read before.
    """
    if "hypothesis" in sys.modules:
        # Their own plugin for pytest calls it once tests are collected; there is no public function.
        from hypothesis.errors import HypothesisSideeffectWarning
        from hypothesis.internal import charmap
        from hypothesis.internal.conjecture.providers import _get_local_constants

        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", HypothesisSideeffectWarning
            )  # so early it is slow for no use in one process
            _get_local_constants()
            charmap.charmap()


def _preload() -> None:
    """All workers start services, and can do so from one process that has imported them."""
    from tests import preloaded

    preloaded.share(os.environ)


def _needs_databases(config: pytest.Config, path: str) -> bool:
    chosen = (config.invocation_params.dir / path.partition("::")[0]).resolve()
    return not any(chosen.is_relative_to(config.rootpath / folder) for folder in _WITHOUT_DATABASES)


def _prepare_databases(basetemp: Path) -> None:
    """Make what every worker would wait for at its first test, meanwhile: imports keep one processor busy, and not the other.

    Should that fail, it is told, and the first worker that needs databases makes them or fails as well.
    """
    from tocsin_testkit.prepared import Prepared

    trunk = os.getpid()
    if os.fork() == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == trunk:
            try:
                Prepared(databases_of(basetemp)).make_once()
            except Exception:
                traceback.print_exc()
        os._exit(0)


def _become_worker(reads: int, writes: int) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for source, target in ((reads, 0), (writes, 1)):
        os.dup2(source, target)
        os.close(source)
    sys.stdin = os.fdopen(0, buffering=1, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    try:
        exec(eval(sys.stdin.readline()), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    os._exit(0)  # nothing is freed object by object, which would copy most of what the forks share

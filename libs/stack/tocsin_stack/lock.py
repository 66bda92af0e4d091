"""One owner per data folder, also across crashes.

The lock is an flock on a file that the servers inherit: it is free only when the launcher *and* every process it
started in that folder are gone. Valkey does not lock its folder (two servers would ruin one append-only file), and
PostgreSQL's own lock file mistakes a zombie for a living server; an inherited flock knows better in both cases.
"""

import asyncio
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Final

from tocsin_stack.errors import StackError

_ORPHAN_GRACE: Final = 10.0  # seconds a dead launcher's servers get to finish writing


class FolderLock:
    """An exclusive, inheritable lock on one folder; `owner` is the word for its holder in messages."""

    def __init__(self, folder: Path, owner: str, advice: str = "use another data folder") -> None:
        self._path = folder / "lock"
        self._owner = owner
        self._advice = advice
        self._fd: int | None = None
        self.was_left = False
        """The owner before this one never said that all had ended: what it started may still be going down."""

    @property
    def fd(self) -> int:
        """The descriptor to pass on to the processes that live in the folder."""
        assert self._fd is not None
        return self._fd

    async def acquire(self) -> None:
        """Take the lock; wait while the servers of a launcher that is dead already are still going down.

        Raises:
            StackError: a living process holds it, or an orphaned server does not end.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _ORPHAN_GRACE
        signalled = False
        while not _try_lock(fd):
            launcher, server = _pids(fd)
            if launcher not in (0, os.getpid()) and is_alive(launcher):
                os.close(fd)
                raise StackError(
                    f"another {self._owner} (pid {launcher}) is using {self._path.parent}; stop it, or {self._advice}"
                )
            if launcher != os.getpid() and server and not signalled:
                signalled = True
                _terminate(server)  # where the kernel tells no child that its parent died, it serves on alone
            if time.monotonic() > deadline:
                os.close(fd)
                raise StackError(f"{self._path.parent} is still in use by pid {server or launcher}; stop that first")
            await asyncio.sleep(0.02)
        self._fd = fd
        self.was_left = _pids(fd) != (0, 0)
        self.note_server(0)

    def note_server(self, pid: int) -> None:
        """Record which server lives in the folder, so that a later start can end an orphan."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()} {pid}\n".encode(), 0)

    def release(self, *, all_ended: bool = False) -> None:
        """Let go. While a server that inherited the lock lives, the folder stays locked.

        `all_ended`: nothing that the owner started runs any more, so the next owner finds the folder as if never used.
        """
        if self._fd is not None:
            if all_ended:
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def is_alive(pid: int) -> bool:
    """Whether the process still runs; a zombie that is not reaped yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()  # no procfs: the signal's answer stands


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pids(fd: int) -> tuple[int, int]:
    words = os.pread(fd, 64, 0).split()
    return (int(words[0]), int(words[1])) if len(words) == 2 else (0, 0)


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended between the look and the signal

"""One owner per data folder."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tocsin_stack import lock
from tocsin_stack.errors import StackError
from tocsin_stack.lock import FolderLock, is_alive
from tocsin_testkit.busy import until

HOLDER = (
    "import asyncio, subprocess, sys; from pathlib import Path; from tocsin_stack.lock import FolderLock\n"
    "held = FolderLock(Path(sys.argv[1]), 'launcher'); asyncio.run(held.acquire())\n"
    "server = subprocess.Popen(['/bin/sleep', sys.argv[2]], pass_fds=(held.fd,)); held.note_server(server.pid)\n"
    "print(server.pid, flush=True); input()"
)


def holder(folder: Path, seconds: float) -> tuple[subprocess.Popen[bytes], int]:
    """Another process that holds the lock, with a server that lives for so long."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


async def test_a_living_holder_is_named_and_left_alone(tmp_path: Path) -> None:
    process, server = holder(tmp_path, 60)
    words = rf"another launcher \(pid {process.pid}\) is using .*; stop it, or x"
    with process:
        with pytest.raises(StackError, match=words):
            await FolderLock(tmp_path, "launcher", "x").acquire()
        assert is_alive(server)
        os.kill(server, 9)
        process.kill()


async def test_an_orphaned_server_is_ended_before_the_folder_is_used_again(tmp_path: Path) -> None:
    process, server = holder(tmp_path, 60)
    with process:
        process.kill()
    assert is_alive(server), "nothing told this one that its launcher died"
    mine = FolderLock(tmp_path, "launcher")
    await mine.acquire()
    # It closes its files, and so gives the lock away, a moment before it has ended.
    await until(lambda: not is_alive(server))
    mine.release()


async def test_only_who_says_that_all_has_ended_leaves_nothing_to_wait_for(tmp_path: Path) -> None:
    process, _ = holder(tmp_path, 60)
    with process:
        process.kill()
    for said, left in ((True, True), (False, False), (True, True), (True, False)):
        mine = FolderLock(tmp_path, "launcher")
        await mine.acquire()
        assert mine.was_left is left
        mine.release(all_ended=said)


async def test_a_folder_in_use_by_ourselves_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_ORPHAN_GRACE", 0.1)
    mine = FolderLock(tmp_path, "launcher")
    await mine.acquire()
    began = time.monotonic()
    with pytest.raises(StackError, match="still in use"):
        await FolderLock(tmp_path, "launcher").acquire()
    assert time.monotonic() - began < 5
    mine.release()
    await FolderLock(tmp_path, "launcher").acquire()

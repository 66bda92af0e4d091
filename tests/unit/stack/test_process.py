"""Children: output on record, orderly stop, no survivors."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tocsin_stack.errors import StackError
from tocsin_stack.lock import is_alive
from tocsin_stack.output import Output
from tocsin_stack.process import Child, children_of


def shell(script: str, folder: Path, name: str = "child") -> Child:
    return Child(["/bin/sh", "-c", script], Output(name, folder))


async def told(child: Child, text: str) -> None:
    """Wait until the child wrote something."""

    async def probe() -> bool:
        return text in child.output.tail()

    await child.ready(probe, limit=10)


def gone(pid: int) -> bool:
    """Whether a process ends within ten seconds."""
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)


async def test_output_is_complete_when_wait_returns(tmp_path: Path) -> None:
    child = shell("echo out; echo err >&2; printf 'no newline'; exit 3", tmp_path)
    child.start()
    assert await child.wait(timeout=10) == 3
    assert (tmp_path / "child.log").read_text() == "out\nerr\nno newline\n"


async def test_standard_input_and_environment_reach_the_program(tmp_path: Path) -> None:
    child = Child(["/bin/sh", "-c", 'read a; echo "$a $B"'], Output("child", tmp_path), env={"B": "two"})
    child.start(stdin=b"one\n")
    await child.wait(timeout=10)
    assert "one two" in child.output.tail()


async def test_stop_asks_and_then_kills(tmp_path: Path) -> None:
    willing = shell("trap 'echo bye; exit 7' TERM; echo on; while :; do sleep 0.01; done", tmp_path)
    willing.start()
    await told(willing, "on")
    assert await willing.stop() == 7
    assert "bye" in willing.output.tail()
    stubborn = shell("trap '' TERM; echo on; while :; do sleep 0.01; done", tmp_path, "stubborn")
    stubborn.start()
    await told(stubborn, "on")
    assert await stubborn.stop(grace=0.1) == -signal.SIGKILL
    assert "did not end within 0.1 s" in stubborn.output.tail()


async def test_a_paused_child_stops_in_good_order(tmp_path: Path) -> None:
    child = shell("trap 'exit 7' TERM; echo on; while :; do sleep 0.01; done", tmp_path)
    child.start()
    await told(child, "on")
    child.send_signal(signal.SIGSTOP)
    assert await child.stop() == 7


async def test_a_child_can_run_again(tmp_path: Path) -> None:
    child = shell("exit 0", tmp_path)
    child.start()
    assert await child.wait(timeout=10) == 0
    child.start()
    assert await child.wait(timeout=10) == 0


async def test_dying_while_starting_says_how_and_why(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    child = shell("echo the reason; exit 9", tmp_path)
    child.start()
    with pytest.raises(StackError, match=r"child exited with 9 while starting\n  \| the reason"):
        await child.ready(never, limit=10)
    child = shell("echo waiting; exec sleep 60", tmp_path)
    child.start()
    with pytest.raises(StackError, match=r"not ready after 1 s\n(?s:.*)waiting"):
        await child.ready(never, limit=1)
    child.kill()


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    child = Child([str(tmp_path / "nothing")], Output("child", tmp_path))
    with pytest.raises(StackError, match="cannot start child"):
        child.start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tocsin_stack.output import Output; "
        "from tocsin_stack.process import Child; "
        "child = Child(['/bin/sleep', '60'], Output('child', Path(sys.argv[1]))); child.start(); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert children_of(parent.pid) == [pid]
        assert is_alive(pid)
        parent.kill()
    assert gone(pid)


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it ended, and was not reaped
    assert not is_alive(child.pid)
    child.wait()
    assert is_alive(os.getpid())

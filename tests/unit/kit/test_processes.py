"""A service as several processes: who is started anew, when it ends, what operators are shown."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping

import pytest
from tocsin_kit.processes.admin import is_ready
from tocsin_kit.processes.child import ChildProcess
from tocsin_kit.processes.figures import together
from tocsin_kit.processes.parent import Processes
from tocsin_kit.settings import SettingsError, read
from tocsin_testkit.busy import until

from tests.unit.kit.test_settings import GOOD, WidgetSettings

WAITS = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nsignal.pause()"
FAILS = "import sys\nif sys.argv[-1].startswith('0,'): sys.exit(3)\n" + WAITS


def program(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text]


@contextlib.asynccontextmanager
async def running(processes: Processes) -> AsyncIterator[asyncio.Task[int]]:
    """Until the block ends; the task ends with the exit code."""
    task = asyncio.create_task(processes.run())
    try:
        await until(lambda: len(processes.running) == 2)
        yield task
    finally:
        processes.kill()
        processes.stop()
        await task


async def test_a_process_that_is_killed_is_replaced_and_counted() -> None:
    processes = Processes(program(WAITS), 2)
    async with running(processes):
        before = processes.running
        os.kill(before[1][0], signal.SIGKILL)
        await until(lambda: len(processes.running) == 2 and processes.running[1][0] != before[1][0])
        assert processes.running[0] == before[0], "the other one goes on"
        assert processes.running[1][1] == before[1][1], "the new one is asked at the same place"
        assert processes.registry.get_sample_value("tocsin_process_ended_total", {"process": "1"}) == 1
        assert processes.registry.get_sample_value("tocsin_process_up", {"process": "1"}) == 1


async def test_all_of_them_are_stopped_in_good_order() -> None:
    processes = Processes(program(WAITS), 2)
    async with running(processes) as task:
        await until(lambda: all(_handles_sigterm(pid) for pid, _ in processes.running.values()))
        processes.stop()
        assert await task == 0


async def test_a_service_ends_when_one_of_its_processes_fails_again_and_again() -> None:
    processes = Processes(program(FAILS), 2, pause=0)
    task = asyncio.create_task(processes.run())
    assert await task == 1
    assert processes.registry.get_sample_value("tocsin_process_ended_total", {"process": "0"}) == 6
    assert processes.registry.get_sample_value("tocsin_process_ended_total", {"process": "1"}) == 0


async def test_a_process_learns_that_its_parent_is_gone() -> None:
    lifeline, held = os.pipe()
    gone = asyncio.Event()
    part = ChildProcess.parse(str(ChildProcess(1, 5, lifeline)))
    assert (part.number, part.admin) == (1, 5)
    part.when_orphaned(gone.set)
    os.close(held)
    async with asyncio.timeout(10):
        await gone.wait()
    os.close(lifeline)


@pytest.mark.parametrize(
    ("answers", "ready"),
    [
        ({0: True, 1: True}, True),
        ({0: True, 1: None}, True),
        ({0: True}, True),
        ({0: True, 1: False}, False),
        ({0: None, 1: None}, False),
        ({}, False),
    ],
    ids=["all", "one begins", "one is gone", "one cannot serve", "both begin", "none"],
)
def test_it_is_ready_when_every_process_that_takes_connections_is(answers: Mapping[int, bool], ready: bool) -> None:
    assert is_ready(answers) is ready


def test_the_metrics_of_all_are_one_text_in_which_each_sample_tells_its_process() -> None:
    one = '# HELP a_total A\n# TYPE a_total counter\na_total{x="}y"} 1.0\n# HELP b B\n# TYPE b gauge\nb 2.0\n'
    other = "# HELP a_total A\n# TYPE a_total counter\n# HELP b B\n# TYPE b gauge\nb 3.0\n"
    assert together({"0": one, "1": other}) == (
        '# HELP a_total A\n# TYPE a_total counter\na_total{process="0",x="}y"} 1.0\n'
        '# HELP b B\n# TYPE b gauge\nb{process="0"} 2.0\nb{process="1"} 3.0\n'
    )


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("ADMIN_LISTEN", "WIDGET_ADMIN_LISTEN is not set, and WIDGET_PROCESSES is above 1"),
        ("GRPC_LISTEN", "WIDGET_GRPC_LISTEN has port 0"),
        ("HTTP_LISTEN", "WIDGET_HTTP_LISTEN has port 0"),
    ],
)
def test_several_processes_need_addresses_that_they_can_share(
    monkeypatch: pytest.MonkeyPatch, left_out: str, message: str
) -> None:
    needed = {"ADMIN_LISTEN": "0.0.0.0:7301", "GRPC_LISTEN": "0.0.0.0:7101", "HTTP_LISTEN": "0.0.0.0:7201"}
    for name, value in (GOOD | {f"WIDGET_{name}": value for name, value in needed.items()}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WIDGET_PROCESSES", "2")
    assert read(WidgetSettings).processes == 2
    monkeypatch.delenv(f"WIDGET_{left_out}")
    with pytest.raises(SettingsError, match=message):
        read(WidgetSettings)


def _handles_sigterm(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        caught = next(line for line in status if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

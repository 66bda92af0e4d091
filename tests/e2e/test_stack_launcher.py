"""`python -m tocsin_stack` from outside: what a person at a terminal sees, and what is left when it is gone."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest
from tocsin_stack.__main__ import main
from tocsin_stack.lock import is_alive
from tocsin_stack.ports import free_port
from tocsin_stack.process import children_of
from tocsin_stack.scratch import scratch
from tocsin_stack.service import SERVICES

pytestmark = pytest.mark.stack

FAKE = Path(__file__).parents[1] / "unit" / "stack" / "fake_service"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Fake services under the real ones' names, a data folder, and fixed ports that no other test uses."""
    with scratch() as folder:
        yield _environment(folder / "data", folder / "modules")


def _environment(data: Path, modules: Path) -> dict[str, str]:
    modules.mkdir()
    for spec in SERVICES:
        (modules / spec.module).symlink_to(FAKE)
    ports = {
        spec.variable(f"{kind}_LISTEN"): f"127.0.0.1:{free_port()}" for spec in SERVICES for kind in ("GRPC", "HTTP")
    }
    inherited = {key: value for key, value in os.environ.items() if not key.endswith(("_URL", "_KEYS"))}
    return {
        **inherited,
        **ports,
        "TOCSIN_POSTGRES_PORT": str(free_port()),
        "TOCSIN_VALKEY_PORT": str(free_port()),
        "TOCSIN_HTTPS_PORT": str(free_port()),
        "TOCSIN_DATA_DIR": str(data),
        "PYTHONPATH": str(modules),
    }


class Launcher:
    """One running `up`, its output so far, and its children."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tocsin_stack", "up"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def read_until(self, text: str) -> str:
        """Read lines until one holds the text, or the output ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                break
        return self.output

    def children(self) -> list[int]:
        return children_of(self.process.pid)

    def ended(self) -> int:
        """The exit code, once it and all it started are gone."""
        self.read_until("\0")
        return self.process.wait(timeout=30)


@pytest.fixture
def up(environment: dict[str, str]) -> Iterator[Callable[..., Launcher]]:
    launchers: list[Launcher] = []

    def start(**more: str) -> Launcher:
        launchers.append(Launcher(environment | more))
        return launchers[-1]

    yield start
    for launcher in launchers:
        with launcher.process:
            launcher.process.kill()


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 15
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(is_alive, pids))


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tocsin_stack", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_up_says_what_to_try_and_stops_in_order(up: Callable[..., Launcher], environment: dict[str, str]) -> None:
    launcher, data = up(), environment["TOCSIN_DATA_DIR"]
    launcher.read_until("NotificationService/ListNotifications")
    assert f"gRPC {environment['INGEST_GRPC_LISTEN']}" in launcher.output
    assert f"HTTP http://{environment['NOTIFY_HTTP_LISTEN']}" in launcher.output
    assert (
        f"https://127.0.0.1:{environment['TOCSIN_HTTPS_PORT']}; clients trust it by {data}/tls/ca.pem"
        in launcher.output
    )
    assert re.search(r"^  export ADMIN=ey[\w.-]+ ", launcher.output, re.MULTILINE)
    assert re.search(r"^ingest +\| INGEST serves redis$", launcher.output, re.MULTILINE)

    second = run(environment, "up")
    assert second.returncode == 1
    assert f"another launcher (pid {launcher.process.pid}) is using {environment['TOCSIN_DATA_DIR']}" in second.stderr
    assert "TOCSIN_DATA_DIR" in second.stderr

    children = launcher.children()
    assert len(children) == 5
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.ended() == 0
    assert not any(map(is_alive, children))
    end = launcher.output
    assert "database system is shut down" in end
    assert max(end.index(f"{spec.name.upper()} stops") for spec in SERVICES) < end.index("fast shutdown request")
    assert end.endswith("stopped\n")


def test_nothing_survives_a_killed_launcher_and_a_service_that_dies_stops_the_rest(up: Callable[..., Launcher]) -> None:
    launcher = up()
    launcher.read_until("ListNotifications")
    children = launcher.children()
    assert len(children) == 5
    launcher.process.kill()
    again = up()  # at once: it waits for what is still going down
    again.read_until("ListNotifications")
    assert "Tocsin is up" in again.output
    assert gone(children)

    children = again.children()
    (victim,) = [pid for pid in children if b"tocsin_notify" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(victim, signal.SIGKILL)
    assert again.ended() == 1
    assert "notify exited with -9; stopping the rest" in again.output
    assert not any(map(is_alive, children))


def test_the_second_signal_does_not_wait(up: Callable[..., Launcher]) -> None:
    launcher = up(FAKE_STUBBORN="1")
    launcher.read_until("ListNotifications")
    children = launcher.children()
    launcher.process.send_signal(signal.SIGTERM)
    assert "stopping in order" in launcher.read_until("stopping in order")
    assert launcher.process.poll() is None
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.ended() == 1
    assert launcher.output.endswith("killed\n")
    assert not any(map(is_alive, children))


def test_a_taken_port_is_told_with_the_variable_that_moves_it(environment: dict[str, str]) -> None:
    port = environment["ESCALATION_GRPC_LISTEN"].rpartition(":")[2]
    with socket.create_server(("127.0.0.1", int(port))):
        done = run(environment, "up")
    assert done.returncode == 1
    assert done.stderr == (
        f"cannot start:\n  127.0.0.1:{port} for escalation (GRPC) is taken; stop what holds it, or set "
        "ESCALATION_GRPC_LISTEN\n"
    )


def test_a_folder_that_cannot_be_made(environment: dict[str, str]) -> None:
    done = run(environment | {"TOCSIN_DATA_DIR": "/proc/nowhere"}, "migrate")
    assert (done.returncode, done.stderr) == (
        1,
        "cannot use /proc/nowhere: No such file or directory; set TOCSIN_DATA_DIR\n",
    )


def test_migrate_always_asks_the_services(environment: dict[str, str]) -> None:
    assert run(environment, "migrate").returncode == 0
    failed = run(environment | {"FAKE_FAIL": "ingest migrate"}, "migrate")
    assert failed.returncode == 1
    assert "the migration of ingest failed with 1" in failed.stderr
    assert "INGEST refuses to migrate" in failed.stderr


def test_tokens_are_minted_with_the_stacks_own_key(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["tocsin_stack", "token", "--org", "acme", "--scopes", "alerts:write,alerts:read"])
    monkeypatch.setenv("TOCSIN_DATA_DIR", environment["TOCSIN_DATA_DIR"])
    assert main() == 0
    claims = jwt.decode(capsys.readouterr().out.strip(), options={"verify_signature": False})
    assert (claims["org"], claims["scope"]) == ("acme", "alerts:read alerts:write")
    monkeypatch.setenv("TOCSIN_DATA_DIR", str(tmp_path))
    assert main() == 1
    assert "run `make up` once" in capsys.readouterr().err

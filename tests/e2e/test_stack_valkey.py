"""The embedded Valkey: what it keeps, what it refuses."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError
from tocsin_stack import lock
from tocsin_stack.errors import StackError
from tocsin_stack.scratch import scratch
from tocsin_stack.valkey import Valkey

pytestmark = pytest.mark.stack


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is room, instead of pytest's."""
    with scratch() as folder:
        yield folder


@asynccontextmanager
async def running(folder: Path, *, appendonly: bool = True) -> AsyncIterator[Valkey]:
    server = Valkey(folder, appendonly=appendonly)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def call(url: str, *command: str) -> object:
    client = redis.asyncio.Redis.from_url(url)
    try:
        answer: object = await client.execute_command(*command)  # type: ignore[no-untyped-call]
        return answer
    finally:
        await client.aclose()


async def test_what_was_acknowledged_survives_a_kill_at_the_same_address(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await call(server.url, "SET", "key", "value")
        for _ in range(2):
            server.kill()
            with pytest.raises(redis.exceptions.ConnectionError):
                await call(server.url, "PING")
            await server.start()
            assert await call(server.url, "GET", "key") == b"value"


async def test_without_the_log_nothing_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path, appendonly=False) as server:
        await call(server.url, "SET", "key", "value")
        await server.stop()
        await server.start()
        assert await call(server.url, "GET", "key") is None


async def test_a_password_is_needed_and_in_no_process_list(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        with pytest.raises(AuthenticationError):
            await call(f"redis://127.0.0.1:{server.port}/0", "PING")
        assert len(server.password) == 43
        processes = await asyncio.create_subprocess_exec("ps", "axww", stdout=subprocess.PIPE)
        listing, _ = await processes.communicate()
        assert f"valkey-server 127.0.0.1:{server.port}".encode() in listing
        assert server.password.encode() not in listing


async def test_a_paused_server_answers_later(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.pause()
        answer = asyncio.ensure_future(call(server.url, "PING"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer), 0.2)
        server.resume()
        assert await answer is True


async def test_a_second_owner_of_the_folder_is_refused(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from tocsin_stack.valkey import Valkey\n"
        "asyncio.run(Valkey(Path(sys.argv[1])).start())"
    )
    async with running(tmp_path) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, str(tmp_path)), stderr=subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert f"another launcher (pid {os.getpid()}) is using {tmp_path}".encode() in errors
        assert await call(server.url, "PING") is True


async def test_a_folder_is_in_use_as_long_as_its_server_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_ORPHAN_GRACE", 0.1)
    async with running(tmp_path) as server:
        server._lock.release()  # as if its launcher had died, and the server taken its time to end
        with pytest.raises(StackError, match=rf"still in use by pid {server.process.pid}"):
            await Valkey(tmp_path).start()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    server = Valkey(tmp_path, extra=("--maxmemory", "much"))
    with pytest.raises(StackError, match=r"(?s)valkey exited with 1 while starting.*maxmemory"):
        await server.start()
    async with running(tmp_path):
        pass  # the failed one let go of the folder

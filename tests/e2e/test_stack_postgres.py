"""The embedded PostgreSQL: databases, crashes, and everything that can be wrong with its folder."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from tocsin_stack.errors import StackError
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch

pytestmark = pytest.mark.stack


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is room, instead of pytest's."""
    with scratch() as folder:
        yield folder


@pytest.fixture(scope="module")
async def postgres() -> AsyncIterator[Postgres]:
    with scratch() as folder:
        server = Postgres(folder, fsync=False)
        await server.start()
        yield server
        await server.stop()


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that every account may enter."""
    tmp_path.chmod(0o755)
    return tmp_path


@contextmanager
def zombie() -> Iterator[int]:
    """A process that ended and was not reaped."""
    with subprocess.Popen(["/bin/true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


def written(path: Path) -> None:
    """Wait until the file is there."""
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.001)


def owner(pid: int) -> int:
    """The uid a process runs as."""
    return Path(f"/proc/{pid}").stat().st_uid


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_a_role_owns_its_database_and_nothing_else(postgres: Postgres) -> None:
    ours = await postgres.ensure_database("ours", "our_role")
    theirs = await postgres.ensure_database("theirs", "their_role")
    assert await postgres.ensure_database("ours", "our_role") == ours, "the password is kept"
    await fetch(ours, "CREATE TABLE mine (i int)")
    rights = (
        "SELECT rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    )
    assert await fetch(theirs, rights) is False
    password = theirs.split(":")[2].split("@")[0]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await fetch(f"postgresql://their_role:{password}@127.0.0.1:{postgres.port}/ours", "SELECT 1")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await fetch(f"postgresql://our_role:{password}@127.0.0.1:{postgres.port}/ours", "SELECT 1")
    file = postgres.data_dir / "passwords" / "their_role"
    assert (file.read_text().strip(), stat.S_IMODE(file.stat().st_mode)) == (password, 0o600)


async def test_a_lost_password_is_replaced(postgres: Postgres) -> None:
    old = await postgres.ensure_database("forgetful", "forgetful")
    (postgres.data_dir / "passwords" / "forgetful").unlink()
    new = await postgres.ensure_database("forgetful", "forgetful")
    assert new != old
    assert await fetch(new, "SELECT current_user") == "forgetful"


async def test_clones_have_the_templates_content_and_owner(postgres: Postgres) -> None:
    template = await postgres.ensure_database("pattern", "pattern_role")
    await fetch(template, "CREATE TABLE filled AS SELECT generate_series(1, 10) AS i")
    clone = await postgres.clone_database("pattern", 'odd "name"')
    assert await fetch(clone, "SELECT sum(i) FROM filled") == 55
    assert await fetch(clone, "SELECT current_user") == "pattern_role"
    stranger = await postgres.ensure_database("stranger", "stranger")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await fetch(stranger.removesuffix("stranger") + "odd%20%22name%22", "SELECT 1")
    connection = await asyncpg.connect(clone)
    await postgres.drop_database('odd "name"')
    with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError)):
        await connection.fetchval("SELECT 1")
    await postgres.drop_database('odd "name"')
    with pytest.raises(StackError, match="no database missing"):
        await postgres.clone_database("missing", "x")


async def test_committed_rows_survive_a_kill_at_the_same_address(postgres: Postgres) -> None:
    url = await postgres.ensure_database("durable", "durable")
    await fetch(url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS i")
    for _ in range(3):
        postgres.kill()
        with pytest.raises(OSError, match="Connect"):
            await fetch(url, "SELECT 1")
        await postgres.start()
        assert await fetch(url, "SELECT count(*) FROM kept") == 1000


async def test_a_paused_server_answers_nothing_and_goes_on_later(postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.admin_url)
    postgres.pause()
    question = asyncio.ensure_future(connection.fetchval("SELECT 42"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(question), 0.2)
    postgres.resume()
    assert await question == 42
    await connection.close()


async def test_a_zombie_does_not_keep_the_folder(postgres: Postgres) -> None:
    pid_file = postgres.data_dir / "cluster" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    await postgres.stop()
    with zombie() as pid:
        pid_file.write_text("\n".join([str(pid), *lines[1:]]) + "\n")
        await postgres.start()


async def test_a_second_owner_of_the_folder_is_refused(postgres: Postgres) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from tocsin_stack.postgres import Postgres\n"
        "asyncio.run(Postgres(Path(sys.argv[1])).start())"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(postgres.data_dir)), stderr=subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert f"another launcher (pid {os.getpid()}) is using {postgres.data_dir}".encode() in errors
    assert await fetch(postgres.admin_url, "SELECT 1") == 1


async def test_another_major_version_is_refused_with_words(postgres: Postgres) -> None:
    await postgres.stop()
    marker = postgres.data_dir / "cluster" / "PG_VERSION"
    marker.write_text("17\n")
    with pytest.raises(StackError, match=r"was made by PostgreSQL 17, the program is 18"):
        await Postgres(postgres.data_dir).start()
    marker.unlink()
    with pytest.raises(StackError, match=r"is no PostgreSQL cluster"):
        await Postgres(postgres.data_dir).start()
    marker.write_text("18\n")
    await postgres.start()


async def test_a_server_that_does_not_start_says_why(postgres: Postgres) -> None:
    await postgres.stop()
    wrong = Postgres(postgres.data_dir, settings={"shared_buffers": "much"})
    with pytest.raises(StackError, match=r'(?s)postgres exited with 1.*"shared_buffers": "much"'):
        await wrong.start()
    await postgres.start()


async def test_an_interrupted_first_start_is_made_good(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from tocsin_stack.postgres import Postgres\n"
        "asyncio.run(Postgres(Path(sys.argv[1]), fsync=False).start())"
    )
    launcher = await asyncio.create_subprocess_exec(*(sys.executable, "-c", script, str(tmp_path)))
    written(tmp_path / "initdb" / "cluster" / "PG_VERSION")
    launcher.send_signal(signal.SIGKILL)
    await launcher.wait()
    assert not (tmp_path / "cluster").exists(), "killed too late to show anything"
    server = Postgres(tmp_path, fsync=False)
    await server.start()
    assert await fetch(server.admin_url, "SELECT 1") == 1
    await server.stop()
    assert not (tmp_path / "initdb").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must become somebody else")
async def test_root_becomes_another_account_where_it_may_enter(open_folder: Path) -> None:
    server = Postgres(open_folder / "data", fsync=False)
    await server.start()
    way = (open_folder / "data" / "run-as").read_text().strip()
    assert way.startswith("user ")
    assert owner(server.process.pid) != 0
    await server.stop()
    os.chmod(open_folder, 0o700)  # the account is shut out now: another way would not own the files
    with pytest.raises(StackError, match=rf"cannot run as before \(way: {way}\)"):
        await Postgres(open_folder / "data").start()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="stands in for an ordinary user")
async def test_an_ordinary_user_runs_it_as_is(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys; from pathlib import Path; from tocsin_stack.postgres import Postgres\n"
        "async def main():\n"
        "    server = Postgres(Path(sys.argv[1]), fsync=False); await server.start(); await server.stop()\n"
        "assert os.geteuid() != 0; asyncio.run(main())"
    )
    user = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
    process = await asyncio.create_subprocess_exec(*user, sys.executable, "-c", script, str(tmp_path))
    assert await process.wait() == 0
    assert (tmp_path / "run-as").read_text() == "self\n"

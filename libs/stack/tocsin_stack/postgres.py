"""A real PostgreSQL server as a child of this process."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import asyncpg

from tocsin_stack import account, binaries, secret
from tocsin_stack.errors import StackError
from tocsin_stack.lock import FolderLock, is_alive
from tocsin_stack.output import Output, Terminal
from tocsin_stack.ports import HOST, free_port
from tocsin_stack.process import Child, children_of

_ADMIN: Final = "tocsin_admin"
_SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path is limited to about a hundred bytes; data folders are not
    "max_connections": "300",  # three services, a few replicas each, and the tests' own connections
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "jit": "off",  # short queries only: compiling one costs more than running it
}
# Not synchronous_commit: a commit must reach the kernel, or killing the server (not the machine) would lose it.
_NO_FSYNC: Final = {"fsync": "off", "full_page_writes": "off"}
_QUICK_LOGINS: Final = {"scram_iterations": "1"}
"""Each login costs both sides milliseconds, and tests open thousands of sessions."""


class Postgres:
    """One cluster on the loopback interface; every role has a generated password.

    Under `data_dir`: `cluster/` (the data), `passwords/`, `run-as` (the way chosen, see `tocsin_stack.account`).
    `port` None takes a free one and keeps it over restarts of this object. Without `fsync` a crash of the machine
    (not of the server) may ruin the data, and passwords are cheap to guess: for tests. `settings` override postgresql.conf.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
        log_dir: Path | None = None,
        terminal: Terminal | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self._fsync = fsync
        self._settings = _SETTINGS | ({} if fsync else _NO_FSYNC | _QUICK_LOGINS) | dict(settings or {})
        self._cluster = self.data_dir / "cluster"
        self._lock = FolderLock(self.data_dir, "launcher")
        self._output = Output("postgres", log_dir or self.data_dir, terminal)
        self._child: Child | None = None
        self._kept: asyncpg.Connection[asyncpg.Record] | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def process(self) -> Child:
        """The postmaster."""
        assert self._child is not None, "not started"
        return self._child

    @property
    def admin_url(self) -> str:
        """The superuser's way in, to the maintenance database."""
        return self.url("postgres")

    def url(self, database: str, role: str | None = None) -> str:
        """`postgresql://…`, password included; `role` None is the superuser."""
        role = role or _ADMIN
        return f"postgresql://{quote(role)}:{self._password(role)}@{HOST}:{self.port}/{quote(database)}"

    async def start(self) -> None:
        """Return when a query answers; makes the cluster at first use.

        Raises:
            StackError: the folder is in use or of another major version, or the server ended; with its last lines.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)  # 0711: another account must pass through
        await self._lock.acquire()
        try:
            if self._child is None:
                await self._prepare()
            self._forget_zombie()
            self.process.start(pass_fds=(self._lock.fd,))
            self._lock.note_server(self.process.pid)
            await self.process.ready(self._answers, limit=60)
        except BaseException:
            self.kill()
            raise

    async def stop(self) -> None:
        """Fast shutdown: running transactions are rolled back, everything committed is on disk."""
        if self._child is not None:
            self.resume()
            if self._kept is not None:
                await self._kept.close(timeout=5)
            await self._child.stop()
        self._lock.release()

    def kill(self) -> None:
        """SIGKILL to the postmaster and all its backends: the next start recovers from the log."""
        if self._child is not None and self._child.running:
            for pid in (self._child.pid, *self._backends()):
                _signal(pid, signal.SIGKILL)
            self._child.kill()
        if self._kept is not None:
            self._kept.terminate()
        self._lock.release()

    def pause(self) -> None:
        """SIGSTOP to the postmaster and all its backends: connections stay open and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)  # first, so that no backend is born while we go through them
        for pid in self._backends():
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self.process.running:
            for pid in (*self._backends(), self.process.pid):
                _signal(pid, signal.SIGCONT)

    async def ensure_database(self, name: str, role: str) -> str:
        """A database owned by a role of its own (login only, row-level security applies); returns its URL.

        Other roles cannot connect to it. Both are made if missing.
        """
        admin = await self._connect()
        try:
            await self._ensure_role(admin, role)
            has_database = await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", name)
            if not has_database:
                await admin.execute(f"CREATE DATABASE {_quoted(name)} OWNER {_quoted(role)}")
                await admin.execute(f"REVOKE ALL ON DATABASE {_quoted(name)} FROM PUBLIC")
        finally:
            await admin.close()
        return self.url(name, role)

    async def ensure_tenant_login(self, name: str, role: str) -> str:
        """A login beside the owner `role` of the database, for calls: it owns nothing. Returns its URL.

        It has the owner's password.
        """
        admin = await self._connect()
        try:
            await self._ensure_role(admin, tenant_login(role), owner=role)
        finally:
            await admin.close()
        return tenant_url(self.url(name, role))

    async def _ensure_role(self, admin: "asyncpg.Connection[asyncpg.Record]", role: str, owner: str = "") -> None:
        kept = self._password_file(owner or role).exists()
        password = self._password(owner or role)
        has_role = await admin.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
        if owner or not has_role or not kept:
            verb = "ALTER" if has_role else "CREATE"
            rights = "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION"
            await admin.execute(f"{verb} ROLE {_quoted(role)} {rights} PASSWORD '{password}'")

    async def clone_database(self, template: str, name: str) -> str:
        """A copy of `template`, with the same owner; no session may be connected to the template.

        Takes about 20 ms in memory (`tocsin_stack.scratch`), and up to ten times that on a disk.

        Returns the owner's URL.
        """
        async with self._administration() as admin:
            owner: str = await admin.fetchval(
                "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", template
            )
            if owner is None:
                raise StackError(f"there is no database {template} to clone")
            await admin.execute(
                f"CREATE DATABASE {_quoted(name)} OWNER {_quoted(owner)} "
                f"TEMPLATE {_quoted(template)} STRATEGY file_copy"
            )
            # The rights on a database are not part of what is copied.
            await admin.execute(f"REVOKE ALL ON DATABASE {_quoted(name)} FROM PUBLIC")
            if await admin.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", tenant_login(owner)):
                await admin.execute(f"GRANT CONNECT ON DATABASE {_quoted(name)} TO {_quoted(tenant_login(owner))}")
        return self.url(name, owner)

    async def warm(self, template: str) -> None:
        """Have PostgreSQL write the database's file of catalog entries (pg_internal.init), which clones copy.

        The start of the server and each change of the schema remove it. Without it every session of a clone that is
        opened before another one has written it reads the system catalogs anew: twice the cost of a session.
        """
        session = await asyncpg.connect(self.url(template), timeout=5)
        await session.close()

    async def drop_database(self, name: str) -> None:
        """Drop it if it is there; sessions in it are ended."""
        async with self._administration() as admin:
            await admin.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    @asynccontextmanager
    async def _administration(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A session that is kept for the next caller: tests clone and drop by the hundred."""
        async with self._one_at_a_time:
            if self._kept is None or self._kept.is_closed():
                self._kept = await self._connect()
            yield self._kept

    async def _prepare(self) -> None:
        """Choose the account, and make the cluster unless there is one."""
        program = binaries.postgres("postgres")
        workshop = self.data_dir / "initdb"
        shutil.rmtree(workshop, ignore_errors=True)  # an interrupted first start; only a finished cluster is moved out
        first = not self._cluster.exists()
        if first:
            workshop.mkdir(mode=0o700)
        runs_as = account.choose(self.data_dir / "run-as", program, workshop if first else self._cluster)
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
        if first:
            await self._initdb(workshop / "cluster", runs_as, environment)
            (workshop / "cluster").rename(self._cluster)
            workshop.rmdir()
        self._check_major()
        settings = [word for key, value in self._settings.items() for word in ("-c", f"{key}={value}")]
        self._child = Child(
            [str(program), "-D", str(self._cluster), "-p", str(self.port), *settings],
            self._output,
            env=environment,
            account=runs_as,
            stop_signal=signal.SIGINT,  # fast shutdown: SIGTERM would wait for every client to leave
        )

    async def _initdb(self, cluster: Path, runs_as: account.Account, environment: Mapping[str, str]) -> None:
        arguments = [
            *("-D", str(cluster), "-U", _ADMIN, "-A", "scram-sha-256", "--pwfile=/dev/stdin", "-E", "UTF8"),
            # The same on Linux and macOS, with or without the system's locales.
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *(() if self._fsync else ("--no-sync", *(f"--set={key}={value}" for key, value in _QUICK_LOGINS.items()))),
        ]
        output = Output("initdb", self._output.path.parent)
        child = Child([str(binaries.postgres("initdb")), *arguments], output, env=environment, account=runs_as)
        child.start(stdin=f"{self._password(_ADMIN)}\n".encode(), pass_fds=(self._lock.fd,))
        try:
            code = await child.wait(timeout=120)
        except TimeoutError as error:
            raise StackError(f"initdb takes longer than 120 s\n{output.tail()}") from error
        finally:
            child.kill()
        if code != 0:
            raise StackError(f"initdb exited with {code}\n{output.tail()}")

    def _check_major(self) -> None:
        marker = self._cluster / "PG_VERSION"
        if not marker.exists():
            raise StackError(f"{self._cluster} is no PostgreSQL cluster (no PG_VERSION in it); move it away")
        made_with, ours = marker.read_text().strip(), _major(binaries.postgres("postgres"))
        if made_with != ours:
            raise StackError(
                f"{self._cluster} was made by PostgreSQL {made_with}, the program is {ours}: dump and load it with "
                f"{made_with}'s tools, name the folder of its programs with TOCSIN_POSTGRES_BIN, or move it away"
            )

    def _forget_zombie(self) -> None:
        """Remove the lock file of a server that is dead but not yet reaped by process 1.

        PostgreSQL takes a zombie for a living server and refuses to start; in a container whose process 1 reaps
        nobody that lasts for ever. Holding the folder's lock proves that no backend of it is left.
        """
        pid_file = self._cluster / "postmaster.pid"
        if pid_file.exists() and not is_alive(int(pid_file.read_text().split()[0])):
            pid_file.unlink()

    async def _answers(self) -> bool:
        try:
            connection = await self._connect()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False  # not listening yet, or still recovering
        try:
            return bool(await connection.fetchval("SELECT true"))
        finally:
            await connection.close()

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(
            self.admin_url,
            timeout=5,
            # A failed statement would otherwise be written to the log, password and all.
            server_settings={"log_min_error_statement": "panic"},
        )

    def _backends(self) -> list[int]:
        return children_of(self.process.pid)

    def _password(self, role: str) -> str:
        return secret.kept(self._password_file(role))

    def _password_file(self, role: str) -> Path:
        return self.data_dir / "passwords" / role


def tenant_login(role: str) -> str:
    """The login of calls beside the role that owns a database."""
    return f"{role}_tenant"


def tenant_url(url: str) -> str:
    """The URL of the login of calls, of the owner's URL."""
    parts = urlsplit(url)
    user, colon, rest = parts.netloc.partition(":")
    return parts._replace(netloc=f"{tenant_login(user)}{colon}{rest}").geturl()


def _major(program: Path) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.split()[-1].split(".")[0]  # postgres (PostgreSQL) 18.6


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _signal(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass  # a backend that ended in the meantime

"""The whole of Tocsin on one machine: stores, migrations, services, in order up and in reverse order down."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, Self

from tocsin_stack import certificates, secret
from tocsin_stack.errors import StackError
from tocsin_stack.lock import FolderLock
from tocsin_stack.output import Terminal
from tocsin_stack.plan import Plan, StackSettings
from tocsin_stack.ports import require_free, until_free
from tocsin_stack.postgres import Postgres
from tocsin_stack.process import Child
from tocsin_stack.schema import SeenMigrations
from tocsin_stack.service import ServiceProcess, ServiceSpec, migrate
from tocsin_stack.tls_listener import TlsListener
from tocsin_stack.valkey import Valkey


class Stack:
    """`async with Stack(settings) as stack:` – inside, everything is healthy; afterwards, everything is gone.

    `postgres` and `valkey` are None when the settings name other servers. `services` maps each service's name to its
    replicas. `https` is None without fixed ports. One stack object is used once.
    """

    def __init__(self, settings: StackSettings) -> None:
        self.data_dir = settings.data_dir.absolute()
        self.log_dir = self.data_dir / "logs"
        self.plan = Plan(settings)
        self.services: dict[str, list[ServiceProcess]] = {}
        self.https: TlsListener | None = None
        self.stopping = False
        self._specs = {spec.name: spec for spec in settings.services}
        self._terminal = None if settings.quiet else Terminal()
        self._lock = FolderLock(self.data_dir, "launcher", "set TOCSIN_DATA_DIR to use another folder")
        output: dict[str, Any] = {"log_dir": self.log_dir, "terminal": self._terminal}
        self.postgres = (
            Postgres(self.data_dir / "postgres", self.plan.postgres_port, fsync=settings.fsync, **output)
            if self.plan.embedded_databases
            else None
        )
        self.valkey = (
            Valkey(self.data_dir / "valkey", self.plan.valkey_port, **output) if self.plan.embedded_redis else None
        )
        self._seen = SeenMigrations(self.data_dir / "postgres" / "migrated")

    async def __aenter__(self) -> Self:
        try:
            await self.provision()
            await self.migrate()
            await self.start_services()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def provision(self, *, serving: bool = True) -> None:
        """Start the stores that are ours, and make the databases; `serving` looks at the services' ports beforehand.

        Raises:
            StackError: the folder or a port is taken, or a server did not start.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)  # PostgreSQL's account must pass through
            await self._lock.acquire()
        except OSError as error:
            raise StackError(f"cannot use {self.data_dir}: {error.strerror}; set TOCSIN_DATA_DIR") from error
        wanted = [*self.plan.store_ports, *(self.plan.service_ports if serving else ())]
        if self._lock.was_left:
            await until_free(wanted)
        require_free(wanted)
        self.plan.signing_keys = self.plan.signing_keys or secret.kept(
            self.data_dir / "signing-keys", secret.signing_key
        )
        await _together([self._start_postgres(), self._start_valkey()])

    async def migrate(self, *, always: bool = False, only: str = "") -> None:
        """Bring every database to the newest schema, all at once; with `only` that of one service.

        Embedded databases that saw these very migrations already are left alone, unless `always`.

        Raises:
            StackError: a migration failed.
        """
        await _together(self._migrate(spec, always) for name, spec in self._specs.items() if only in ("", name))

    async def start_services(self) -> None:
        """Start every replica, all at once; return when all are SERVING.

        Raises:
            StackError: one of them is not.
        """
        for name, spec in self._specs.items():
            self.services[name] = [self._replica(spec, index) for index in range(self.plan.replicas(name))]
        await _together(process.start() for process in self._processes())
        if self.plan.https_port is not None:
            files = certificates.kept(self.data_dir / "tls", "localhost")
            self.https = TlsListener(self.plan.https_port, files, self.services["ingest"][0].http_address)
            await self.https.start()

    async def add_replica(self, service: str) -> ServiceProcess:
        """One more replica, at free ports, SERVING. Processes that run learn its address at their next start."""
        spec, index = self._specs[service], self.plan.replicas(service)
        self.plan.add_replica(service)
        for process in self._processes():
            process.env[spec.variable("TARGET")] = self.plan.target(service)
        process = self._replica(spec, index)
        self.services[service].append(process)
        await process.start()
        return process

    def environment(self, service: str, replica: int = 0) -> dict[str, str]:
        """Everything a replica is told, by its service's name and its place among the replicas."""
        return self.plan.environment(self._specs[service], replica)

    async def first_death(self) -> str:
        """Wait until a child ends by itself, and say which and how."""
        while True:
            for child in self._children():
                if (code := child.returncode) is not None:
                    return f"{child.output.name} exited with {code}"
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Services first, then the stores; a process that does not end in time is killed."""
        self.stopping = True
        await _together(process.stop() for process in self._processes())
        if self.https is not None:
            await self.https.stop()
        await _together(store.stop() for store in (self.valkey, self.postgres) if store)
        self._lock.release(all_ended=True)

    def kill(self) -> None:
        """SIGKILL to everything. PostgreSQL and Valkey recover at the next start."""
        if self.https is not None:
            self.https.close()
        for process in self._processes():
            process.kill()
        for store in (self.valkey, self.postgres):
            if store:
                store.kill()
        self._lock.release()

    async def _start_postgres(self) -> None:
        if self.postgres is None:
            return
        await self.postgres.start()
        for spec in self.plan.embedded_databases:
            name = f"tocsin_{spec.name}"
            self.plan.databases[spec.name] = await self.postgres.ensure_database(name, name)
            self.plan.tenant_databases[spec.name] = await self.postgres.ensure_tenant_login(name, name)

    async def _start_valkey(self) -> None:
        if self.valkey is None:
            return
        await self.valkey.start()
        self.plan.redis_url = self.valkey.url

    async def _migrate(self, spec: ServiceSpec, always: bool) -> None:
        embedded = spec in self.plan.embedded_databases
        if embedded and not always and self._seen.is_current(spec.name, spec.module):
            return
        await migrate(spec, self.environment(spec.name), log_dir=self.log_dir, terminal=self._terminal)
        if embedded:
            self._seen.record(spec.name, spec.module)

    def _replica(self, spec: ServiceSpec, index: int) -> ServiceProcess:
        environment = self.environment(spec.name, index)
        return ServiceProcess(spec, index, environment, log_dir=self.log_dir, terminal=self._terminal)

    def _processes(self) -> list[ServiceProcess]:
        return [process for replicas in self.services.values() for process in replicas]

    def _children(self) -> list[Child]:
        stores = [store.process for store in (self.postgres, self.valkey) if store]
        return [*stores, *(process.process for process in self._processes())]


async def _together(work: Iterable[Awaitable[object]]) -> None:
    """Await all at once. When one fails the others are cancelled, and the failures are told as one.

    Raises:
        StackError: what went wrong, each cause on its own lines.
    """

    async def run(one: Awaitable[object]) -> None:
        await one

    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(run(one))
    except* StackError as failures:
        raise StackError("\n".join(str(failure) for failure in failures.exceptions)) from None

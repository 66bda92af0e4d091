"""What can break, each bounded in time. A fault breaks, is held for a while, and mends; it tells the history when."""

import asyncio
import os
import random
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis
from tocsin_stack import binaries
from tocsin_stack.service import ServiceProcess

from tests.chaos.cables import Cables
from tests.chaos.fleet import Fleet
from tests.chaos.history import Fault, History
from tests.chaos.receivers import Receivers

SERVICES = ("ingest", "escalation", "notify")
_FULL = """
CREATE OR REPLACE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE SQLSTATE '53100' USING MESSAGE = 'could not extend file: No space left on device'; END $$
"""
_FAILING = """
CREATE OR REPLACE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'chaos' USING ERRCODE =
    (ARRAY['40001', '40P01', '42501', '53200', '55P03', '57014', '57P01', '58030', 'XX000', '22P02'])[1 + floor(random() * 10)];
END $$
"""
"""Each statement with another SQLSTATE."""
_NOT_FULL = "CREATE OR REPLACE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
_TABLES = """
SELECT quote_ident(relname) AS name FROM pg_class
WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace
"""
_ASKING = (
    "CREATE OR REPLACE TRIGGER disk_full BEFORE INSERT OR UPDATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION disk_full()"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. `broken` breaks on entry and mends on exit; in between it is held."""

    name: str
    broken: Callable[[], AbstractAsyncContextManager[object]]
    shortest: float
    longest: float
    harms_calls: bool = False
    restores: str = ""
    """The service whose database must have been copied before."""
    alone: bool = False
    """Never together with another one: what it forgets would be taken for broken promises of both."""


class Faults:
    """Every kind of fault for one fleet, chosen by the dice."""

    def __init__(
        self,
        fleet: Fleet,
        receivers: Receivers,
        history: History,
        dice: random.Random,
        cables: Cables | None = None,
    ) -> None:
        """Without cables nothing can be cut off from PostgreSQL."""
        self._fleet = fleet
        self._cables = cables
        self._receivers = receivers
        self._history = history
        self._dice = dice
        self._copies: dict[str, tuple[float, Path]] = {}

    def kinds(self) -> list[Kind]:
        """In an order that means nothing."""
        kinds = []
        for service in SERVICES:
            notify = service == "notify"
            for how, broken in (("killed", self._killed), ("frozen", self._frozen)):
                longest = 3.0 if how == "killed" else 5.0
                one = _bound(broken, service, one=True)
                both = _bound(broken, service, one=False)
                kinds.append(Kind(f"one {service} {how}", one, 0.2, longest, harms_calls=notify))
                kinds.append(Kind(f"both {service} {how}", both, 0.2, longest, harms_calls=notify))
            kinds.append(Kind(f"{service}'s disk full", _bound(self._not_writable, service, _FULL), 1, 4))
            kinds.append(Kind(f"{service}'s writes fail", _bound(self._not_writable, service, _FAILING), 1, 4))
            kinds.append(
                Kind(
                    f"{service}'s database restored from an earlier copy",
                    _bound(self._restored, service),
                    0,
                    0,
                    restores=service,
                )
            )
        return [
            *kinds,
            *(self._cuts(self._cables) if self._cables else ()),
            Kind("PostgreSQL killed", self._postgres_killed, 0.1, 3),
            Kind("PostgreSQL frozen", self._postgres_frozen, 1, 10),
            Kind("PostgreSQL read-only", self._postgres_read_only, 1, 4),
            Kind(
                "PostgreSQL's standby takes over, without the last commits",
                self._took_over,
                0.1,
                3,
                harms_calls=True,
                alone=True,
            ),
            Kind("Valkey killed, with its data", _bound(self._valkey_killed, forget=False), 0.1, 3),
            Kind("Valkey killed, without its data", _bound(self._valkey_killed, forget=True), 0.1, 3),
            Kind("Valkey hung", self._valkey_hung, 1, 6),
            Kind("Valkey full", self._valkey_full, 1, 4),
            Kind("Valkey's writes paused", self._valkey_paused, 1, 6),
            Kind("Valkey loses keys", _bound(self._valkey_keys_hit, "DEL"), 1, 4),
            Kind("Valkey's keys overwritten", _bound(self._valkey_keys_hit, "SET"), 1, 4),
            Kind("provider refuses with 503", _bound(self._receivers.behaving, "refuse"), 1, 4),
            Kind("provider cuts connections", _bound(self._receivers.behaving, "cut"), 1, 4),
            Kind("provider hangs", _bound(self._receivers.behaving, "hang"), 1, 4),
            Kind("provider is slow", _bound(self._receivers.behaving, "slow"), 1, 4),
            Kind("rolling restart", self._rolling_restart, 0, 0),
        ]

    def _cuts(self, cables: Cables) -> Iterator[Kind]:
        for service in SERVICES:
            notify = service == "notify"
            one = _bound(self._cut, cables, service)
            yield Kind(f"one {service} cut off from PostgreSQL", one, 1, 10, harms_calls=notify)
        everybody = self._fleet.replicas()
        yield Kind("PostgreSQL cut off", _bound(cables.cut, everybody), 1, 10, harms_calls=True)
        yield Kind("PostgreSQL's connections reset", _bound(cables.broken, everybody), 0.1, 3, harms_calls=True)

    async def happens(self, kind: Kind, longest: float) -> None:
        """Break, hold for a random time of at most `longest` seconds, mend, and note it."""
        held = self._dice.uniform(min(kind.shortest, longest), min(kind.longest, longest))
        began, refused = time.monotonic(), self._history.refused
        async with kind.broken() as copied:
            await asyncio.sleep(held)
        self._history.faults.append(
            Fault(
                kind.name,
                began,
                time.monotonic(),
                harms_calls=kind.harms_calls,
                forgets_since=copied if isinstance(copied, float) else None,
                refused=self._history.refused - refused,
            )
        )

    async def copy_database(self, service: str) -> None:
        """What the next fault restores: `pg_dump` of a service's database, taken while it works."""
        path = self._fleet.stack.data_dir / f"{service}.copy"
        began = time.monotonic()
        await self._program("pg_dump", "--format=custom", f"--file={path}", self._admin_url(service))
        self._copies[service] = began, path

    @asynccontextmanager
    async def _killed(self, service: str, *, one: bool) -> AsyncIterator[None]:
        victims = self._victims(service, one)
        for victim in victims:
            victim.kill()
        yield
        await asyncio.gather(*(victim.start() for victim in victims))

    @asynccontextmanager
    async def _frozen(self, service: str, *, one: bool) -> AsyncIterator[None]:
        victims = self._victims(service, one)
        for victim in victims:
            victim.pause()
        try:
            yield
        finally:
            for victim in victims:
                victim.resume()

    @asynccontextmanager
    async def _cut(self, cables: Cables, service: str) -> AsyncIterator[None]:
        async with cables.cut(self._victims(service, one=True)):
            yield

    @asynccontextmanager
    async def _restored(self, service: str) -> AsyncIterator[float]:
        """As docs/upgrade.md says: the service is stopped, its database replaced and migrated, and it is started again."""
        copied, path = self._copies[service]
        replicas = self._fleet.replicas(service)
        await asyncio.gather(*(replica.stop() for replica in replicas))
        name = f"tocsin_{service}"
        async with self._admin() as admin:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await admin.execute(f"CREATE DATABASE {name} OWNER {name}")
            await admin.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        await self._program("pg_restore", "--exit-on-error", f"--dbname={self._admin_url(service)}", str(path))
        await self._fleet.stack.migrate(always=True, only=service)
        yield copied
        await asyncio.gather(*(replica.start() for replica in replicas))

    @asynccontextmanager
    async def _postgres_killed(self) -> AsyncIterator[None]:
        self._fleet.postgres.kill()
        yield
        await self._fleet.postgres.start()

    @asynccontextmanager
    async def _postgres_frozen(self) -> AsyncIterator[None]:
        self._fleet.postgres.pause()
        try:
            yield
        finally:
            self._fleet.postgres.resume()

    @asynccontextmanager
    async def _postgres_read_only(self) -> AsyncIterator[None]:
        """As a failover leaves it whose clients still reach the old primary."""
        async with self._admin() as admin:
            await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await admin.execute("SELECT pg_reload_conf()")
            try:
                yield
            finally:
                await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
                await admin.execute("SELECT pg_reload_conf()")

    @asynccontextmanager
    async def _took_over(self) -> AsyncIterator[float]:
        """A failover of asynchronous replication, at the same address: all three databases go back by some seconds, together."""
        server = self._fleet.postgres
        cluster, standby = server.data_dir / "cluster", server.data_dir / "standby"
        copying = ("--checkpoint=fast", "--wal-method=stream", "--no-sync", f"--dbname={server.admin_url}")
        await self._program("pg_basebackup", f"--pgdata={standby}", *copying)
        copied = time.monotonic()
        await asyncio.sleep(self._dice.uniform(0.5, 10))
        server.kill()
        owner = cluster.stat()
        (standby / "standby.signal").touch()
        for path in (standby, *standby.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        shutil.rmtree(cluster)
        standby.rename(cluster)
        yield copied
        await server.start()
        async with self._admin() as admin:
            await admin.execute("SELECT pg_promote(true, 30)")

    @asynccontextmanager
    async def _not_writable(self, service: str, how: str) -> AsyncIterator[None]:
        """Nothing of a service can be written that takes room: each statement that would is ended by the trigger `how` makes."""
        admin = await asyncpg.connect(self._admin_url(service), timeout=5)
        try:
            # One table at a time, and none afterwards: more locks at once would deadlock with the service.
            await admin.execute(_NOT_FULL)
            for table in await admin.fetch(_TABLES):
                await admin.execute(_ASKING.format(table["name"]))
            await admin.execute(how)
            try:
                yield
            finally:
                await admin.execute(_NOT_FULL)
        finally:
            await admin.close()

    @asynccontextmanager
    async def _valkey_killed(self, *, forget: bool) -> AsyncIterator[None]:
        self._fleet.valkey.kill()
        if forget:
            shutil.rmtree(self._fleet.valkey.data_dir / "appendonlydir", ignore_errors=True)
        yield
        await self._fleet.valkey.start()

    @asynccontextmanager
    async def _valkey_hung(self) -> AsyncIterator[None]:
        self._fleet.valkey.pause()
        try:
            yield
        finally:
            self._fleet.valkey.resume()

    @asynccontextmanager
    async def _valkey_full(self) -> AsyncIterator[None]:
        redis: Any = Redis.from_url(self._fleet.valkey.url)
        try:
            await redis.config_set("maxmemory", 1)
            try:
                yield
            finally:
                await redis.config_set("maxmemory", 0)
        finally:
            await redis.aclose()

    @asynccontextmanager
    async def _valkey_paused(self) -> AsyncIterator[None]:
        """Reads are answered, writes wait."""
        redis: Any = Redis.from_url(self._fleet.valkey.url)
        try:
            await redis.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
            try:
                yield
            finally:
                await redis.execute_command("CLIENT", "UNPAUSE")
        finally:
            await redis.aclose()

    @asynccontextmanager
    async def _valkey_keys_hit(self, command: str) -> AsyncIterator[None]:
        """Keys at random are deleted, as a policy that evicts does; or another program writes texts to them, and deletes these."""
        redis: Any = Redis.from_url(self._fleet.valkey.url)
        hit: set[bytes] = set()

        async def hits() -> None:
            while True:
                key = await redis.randomkey()
                if key:
                    hit.add(key)
                    await redis.execute_command(command, key, *(("hello",) if command == "SET" else ()))
                await asyncio.sleep(0.02)

        hitting = asyncio.create_task(hits())
        try:
            yield
        finally:
            hitting.cancel()
            await asyncio.gather(hitting, return_exceptions=True)
            if command == "SET" and hit:
                await redis.delete(*hit)
            await redis.aclose()

    @asynccontextmanager
    async def _rolling_restart(self) -> AsyncIterator[None]:
        first = [self._dice.choice(self._fleet.replicas(service)) for service in SERVICES]
        for some in (first, [each for each in self._fleet.replicas() if each not in first]):
            await asyncio.gather(*(replica.restart() for replica in some))
        yield

    def _victims(self, service: str, one: bool) -> list[ServiceProcess]:
        replicas = self._fleet.replicas(service)
        return [self._dice.choice(replicas)] if one else replicas

    def _admin_url(self, service: str) -> str:
        return self._fleet.postgres.admin_url.rpartition("/")[0] + f"/tocsin_{service}"

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self._fleet.postgres.admin_url, timeout=5)
        try:
            yield connection
        finally:
            await connection.close()

    async def _program(self, name: str, *arguments: str) -> None:
        """One of PostgreSQL's own programs, to its end."""
        program = binaries.postgres(name)
        run = await asyncio.create_subprocess_exec(program, *arguments, stderr=subprocess.PIPE)
        _, errors = await run.communicate()
        assert run.returncode == 0, f"{name}: {errors.decode()}"


def _bound(broken: Any, *arguments: object, **options: object) -> Callable[[], AbstractAsyncContextManager[object]]:
    return lambda: broken(*arguments, **options)

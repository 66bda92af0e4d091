"""Two of everything, with ways to stop one exactly where it hurts, and to bring all of it back."""

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self, cast

import asyncpg
import grpc
from redis.asyncio import Redis
from tocsin_stack.errors import StackError
from tocsin_stack.postgres import Postgres
from tocsin_stack.service import ServiceProcess
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import until_next_look, within
from tocsin_testkit.clients import Channels
from tocsin_testkit.prepared import Prepared
from tocsin_testkit.tenant import Sender, Tenant
from tocsin_testkit.world import World

LEASE_SECONDS = 11
"""By then every lease that a dead process held has run out: the relays' is 10 s, notify's the one set below."""
QUICK_LEASES = {"NOTIFY_ATTEMPT_TIMEOUT_SECONDS": "4", "NOTIFY_LEASE_SECONDS": "10"}
QUICK_STOPS = {"SHUTDOWN_ANNOUNCE_SECONDS": "0.3", "GRPC_MAX_CONNECTION_AGE_SECONDS": "1"}
MAILS = {"INGEST_MAIL_LISTEN": "127.0.0.1:0", "INGEST_MAIL_DOMAIN": "alerts.example.com"}
"""Each replica takes a port of its own."""
PASSING = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "RESOURCE_EXHAUSTED", "CANCELLED"})
"""What a caller may be told while something is broken; each means: the same request again.

CANCELLED: what reaches a gRPC server in the very instant in which it stops (measured: one in some hundred stops under
load). It was not begun, so nothing was done.
"""


class Fleet(World):
    """A world with two replicas of each service, all of which the callers know and use in turn."""

    def __init__(self, data_dir: Path, *, quick: bool = True, prepared: Prepared | None = None) -> None:
        """`quick`: short leases and frequent sweeps, for tests that move time. Without it, the product's defaults."""
        environment = QUICK_STOPS | MAILS | (QUICK_LEASES if quick else {})
        super().__init__(data_dir, replicas=2, environment=environment, quick=quick, prepared=prepared)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.channels.close()
        self.channels = _InTurn({name: self.stack.plan.target(name) for name in self.stack.services})
        return self

    def tenant(self) -> Tenant:
        """A new tenant, which insists on what a test begins with."""
        return _Insisting(self, super().tenant().org_id)

    @property
    def postgres(self) -> Postgres:
        assert self.stack.postgres is not None
        return self.stack.postgres

    @property
    def valkey(self) -> Valkey:
        assert self.stack.valkey is not None
        return self.stack.valkey

    def replicas(self, *services: str) -> list[ServiceProcess]:
        """The replicas of these services, or of all."""
        return [each for name in services or self.stack.services for each in self.stack.services[name]]

    def kill(self, *services: str) -> None:
        """SIGKILL to every replica of these."""
        for replica in self.replicas(*services):
            replica.kill()

    async def heal(self) -> None:
        """Everything runs and serves again, after any fault of a test."""
        self.postgres.resume()
        self.valkey.resume()
        if not self.postgres.process.running:
            await self.postgres.start()
        if not self.valkey.process.running:
            await self.valkey.start()
        for replica in self.replicas():
            replica.resume()
        await asyncio.gather(*map(_serves, self.replicas()))

    def mail_port(self, replica: ServiceProcess) -> int:
        """Where it takes mails, as it said when it was started last."""
        lines = replica.process.output.path.read_text(errors="replace").splitlines()
        said = [line for line in lines if "mail_listening" in line][-1]
        return int(re.findall(r"\bport\W+(\d+)", said)[0])

    async def not_serving(self, replica: ServiceProcess) -> None:
        """Wait until its health says that it cannot serve."""

        async def refuses() -> bool:
            return not await replica.is_serving()

        await eventually(refuses, f"{replica.name} says that it does not serve")

    async def idle(self) -> None:
        """Nothing is due and nothing under way: here also no page that is handed over a second time, as a safeguard."""
        due = "SELECT NOT EXISTS (SELECT FROM outbox WHERE dead_time IS NULL AND due_time <= app_now())"
        await self.until("escalation", due)
        await super().idle()

    async def armed(self, incident: str) -> None:
        """Wait until Redis holds the timer of an incident."""
        redis: Any = Redis.from_url(self.valkey.url)
        try:
            id = incident.removeprefix("incidents/")
            await eventually(lambda: redis.zscore("{escalation}:due", id), f"the timer of {incident} is armed")
        finally:
            await redis.aclose()

    async def for_a_while(self, seconds: float) -> None:
        """Let the load go on: real seconds, because it is real work that has to meet the disturbance."""
        await asyncio.sleep(seconds)

    async def orphans_come_due(self) -> None:
        """Let the leases of the dead run out, once all that the living do is done."""
        await self.until(
            "notify", "SELECT NOT EXISTS (SELECT FROM attempts WHERE start_time > app_now() - interval '1 s')"
        )
        await self.leases_run_out()

    async def leases_run_out(self) -> None:
        """Time passes until nothing is leased any more, by the dead or the living."""
        await self.clock.forward(timedelta(seconds=LEASE_SECONDS))

    def holds_back(self, address: str) -> "Held":
        """From now on the webhook at this address takes requests and does not answer."""
        held = self.hooks.hang[address] = Held(lambda: self.hooks.hang.pop(address))
        return held

    async def until(self, service: str, query: str, *values: object, patience: float = 15) -> None:
        """Wait until the query, asked in a service's database, is true."""
        database = await self.database(service)
        try:
            await eventually(lambda: database.fetchval(query, *values), f"{service}: {query}", patience)
        finally:
            await database.close()

    @asynccontextmanager
    async def breakpoint(self, service: str, table: str, event: str, when: str = "true") -> AsyncIterator["Breakpoint"]:
        """A process that does `event` (such as "INSERT" or "UPDATE OF state") to a row of `table` stops inside its transaction.

        `when` is a condition on OLD and NEW. It stops until the block ends or the statement's timeout (5 s) is over; a
        killed one stops there for good.
        """
        # The superuser sees whose session waits, also one of the login of calls.
        database = await asyncpg.connect(self.postgres.url(self.stack.plan.databases[service].rpartition("/")[2]))
        number = random.getrandbits(48)
        name = f"breakpoint_{number}"
        result = "OLD" if event.startswith("DELETE") else "NEW"
        await database.execute("SELECT pg_advisory_lock($1)", number)
        await database.execute(
            f"""CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM set_config('lock_timeout', '0', true), pg_advisory_xact_lock_shared({number});
                RETURN {result}; END $$;
                CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {name}()"""
        )
        point = Breakpoint(self, service, database, number)
        try:
            yield point
        finally:
            await point.end_sessions_of_the_dead()
            await database.execute("SELECT pg_advisory_unlock_all()")
            # By itself it would lock the partitions before the table that they are of; statements lock them the other way.
            await database.execute(f"LOCK TABLE {table}; DROP TRIGGER {name} ON {table}; DROP FUNCTION {name}()")
            await database.close()


class Held(asyncio.Event):
    """A provider that does not answer."""

    def __init__(self, let_go: Callable[[], object]) -> None:
        super().__init__()
        self._let_go = let_go
        self._reached = asyncio.Event()

    async def wait(self) -> Literal[True]:
        """Called for each request that has arrived."""
        self._reached.set()
        return await super().wait()

    async def reached(self) -> None:
        """A request has arrived: its sender waits for the answer."""
        async with asyncio.timeout(within(15)):
            await self._reached.wait()

    def answers(self) -> None:
        """All waiting calls are answered, and none waits any more."""
        self._let_go()
        self.set()


class Breakpoint:
    """A place in the transaction of a service."""

    def __init__(self, fleet: Fleet, service: str, database: asyncpg.Connection, number: int) -> None:
        self._fleet = fleet
        self._service = service
        self._database = database
        self._number = number

    async def reached(self) -> ServiceProcess:
        """The replica that stopped here."""

        async def stopped() -> ServiceProcess | None:
            # The kernel's table of connections is no snapshot: under load a look may miss one.
            return next((each for _, port in await self._sessions() if (each := self._of(port))), None)

        return cast("ServiceProcess", await eventually(stopped, f"a stop of {self._service}"))

    async def end_sessions_of_the_dead(self) -> None:
        """A statement that is a transaction by itself would be committed: the server does not look whether its client lives."""
        for pid, port in await self._sessions():
            # Several looks, since one may miss a connection of a living process.
            if all(self._of(port) is None for _ in range(3)):
                await self._database.execute("SELECT pg_terminate_backend($1, 5000)", pid)

    async def _sessions(self) -> list[tuple[int, int]]:
        """Process id and client's port of those that stopped here."""
        query = """SELECT pid, client_port FROM pg_locks JOIN pg_stat_activity USING (pid)
                   WHERE locktype = 'advisory' AND NOT granted AND (classid::bigint << 32) + objid::bigint = $1"""
        return [(each["pid"], each["client_port"]) for each in await self._database.fetch(query, self._number)]

    def _of(self, port: int) -> ServiceProcess | None:
        replicas = self._fleet.replicas(self._service)
        return next((each for each in replicas if port in _ports_of(each.process.pid)), None)

    async def let_go(self) -> None:
        """No process stops here any more."""
        await self._database.execute("SELECT pg_advisory_unlock_all()")


async def eventually(look: Callable[[], Awaitable[Any]], what: str, patience: float = 15) -> Any:
    """The first answer of `look` that is neither None nor false. AssertionError names `what` after `patience` seconds."""
    began = time.monotonic()
    deadline = began + within(patience)
    while not (answer := await look()):
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        await asyncio.sleep(until_next_look(began))
    return answer


async def insist(call: Callable[[], Awaitable[Any]], *, patience: float = 30, refusals: list[str] | None = None) -> Any:
    """What a good caller does: the same request again, with backoff and jitter, until it is answered.

    `refusals` takes the codes it was told on the way. Anything but those of `PASSING` is raised.
    """
    deadline = time.monotonic() + within(patience)
    attempt = 0
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code().name not in PASSING or time.monotonic() > deadline:
                raise
            if refusals is not None:
                refusals.append(error.code().name)
        attempt += 1
        await asyncio.sleep(random.uniform(0.01, min(0.5, 0.02 * 2**attempt)))


async def _serves(replica: ServiceProcess) -> None:
    if replica.process.running:
        try:
            await replica.process.ready(replica.is_serving, limit=20)
        except StackError:  # it was about to stop
            await replica.start()
    else:
        await replica.start()


def tell(case: str, **facts: Any) -> None:
    """One JSON line about what was measured."""
    print("\n" + json.dumps({"chaos": case, **facts}))


def spread(seconds: Iterable[float]) -> dict[str, float]:
    """Median and worst, in milliseconds."""
    values = sorted(seconds)
    return {"p50_ms": _ms(values[len(values) // 2]), "max_ms": _ms(values[-1])} if values else {}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


class _Insisting(Tenant):
    """The test before may have ended what a service is still on its way back from, such as its connection to another one."""

    async def policy(self, *levels: Any, **fields: Any) -> str:
        return str(await insist(lambda: super(_Insisting, self).policy(*levels, **fields)))

    async def integration(self, policy: str = "", **fields: Any) -> Sender:
        return cast("Sender", await insist(lambda: super(_Insisting, self).integration(policy, **fields)))


class _InTurn(Channels):
    """As a client of several replicas is built: round robin, and quick to find one that came back."""

    def __init__(self, targets: dict[str, str]) -> None:
        options = [
            ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        self.by_service = {name: grpc.aio.insecure_channel(target, options) for name, target in targets.items()}


def _ports_of(pid: int) -> set[int]:
    """The local ports of a process's TCP connections."""
    try:
        sockets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
        rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return set()
    return {int(row[1].rpartition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in sockets}

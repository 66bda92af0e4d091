"""Start, run and stop of a service, from command line to exit code.

Stopping, in this order:
1. Health says NOT_SERVING, so that load balancers learn of it. All other work continues.
2. New gRPC connections are refused and existing ones end. Calls are still accepted.
3. Loops stop claiming, and calls in flight finish: gRPC first, then HTTP.
4. The messages that these calls committed are delivered.
5. The database is closed. Exit 0.

Work that does not finish within the grace is cancelled; its rows become due again for other replicas. A second signal ends at
once.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

import uvloop
from pydantic import SecretStr
from pydantic_settings import BaseSettings
from structlog.contextvars import bind_contextvars

from tocsin_kit import gc_tuning, logging, open_files, quick_records
from tocsin_kit.auth import Authenticator, JwtAuthenticator
from tocsin_kit.db.failures import unavailable
from tocsin_kit.db.migrations import bypasses_row_security, head_of, require_revision, upgrade
from tocsin_kit.db.pool import Database
from tocsin_kit.db.probe import Probe
from tocsin_kit.errors import TocsinError
from tocsin_kit.former_names import MEANING, former_names
from tocsin_kit.http import HttpServer
from tocsin_kit.loops import Loops, Sweep, run_every, wait_for_any, wait_or_stop
from tocsin_kit.metrics import Metrics
from tocsin_kit.oidc import OidcAuthenticator
from tocsin_kit.processes.admin import run_processes
from tocsin_kit.processes.child import ChildProcess
from tocsin_kit.processes.parent import Processes, stop_on_signals
from tocsin_kit.rpc.health import Health, HealthCheck
from tocsin_kit.rpc.server import RpcServer
from tocsin_kit.rpc.tls import certificate_checks
from tocsin_kit.settings import ServiceSettings, load, service_settings
from tocsin_kit.unknown_settings import unknown_variables
from tocsin_kit.watchdog import Watchdog

__all__ = ["Loops", "Runtime", "Service", "Sweep", "main", "run_every", "serve", "wait_or_stop"]

S = TypeVar("S", bound=ServiceSettings)
Part = Literal["serve", "work"]

_log = logging.get_logger(__name__)
_SWITCH_SECONDS: Final = 0.0005
"""How long a thread that computes runs on while the event loop wants to run, which is at each of its iterations. With Python's
own 5 ms a page would wait that long as often as it has iterations."""
_CHECK_TIMEOUT: Final = 10.0
_BYPASSES: Final = (
    "the login is a superuser or has BYPASSRLS, so row-level security would not keep tenants apart; "
    "give the service a login of its own, such as CREATE ROLE tocsin LOGIN NOSUPERUSER NOBYPASSRLS"
)


@dataclass(frozen=True, slots=True)
class Runtime(Generic[S]):
    """The argument of `build`: everything a service is made of, not started yet."""

    name: str
    settings: S
    metrics: Metrics
    database: Database
    authenticators: list[Authenticator]
    """Asked in order; holds Tocsin's own tokens and the OIDC issuer's. Append a service's own kind of credential."""
    health: Health
    rpc: RpcServer
    """`rpc.add(...)`; skipped with `--only work`, where only health and reflection are served."""
    http: HttpServer
    loops: Loops
    """`loops.add(...)`; started once the schema is there; with `--only serve` only those that run everywhere."""
    stop: asyncio.Event
    """Set when the process is to stop."""
    only: Part | None

    @property
    def serves(self) -> bool:
        """Whether RPCs and routes are served here."""
        return self.only != "work"

    @property
    def works(self) -> bool:
        """Whether all loops run here."""
        return self.only != "serve"


@dataclass(frozen=True, slots=True)
class Service:
    """What `build` made in addition to the runtime."""

    close: Sequence[Callable[[], Awaitable[object]]] = field(default=())
    """Called in order after everything has stopped, before the database closes."""


Build = Callable[[Runtime[S]], Awaitable[Service]]


async def serve(
    name: str,
    settings: S,
    build: Build[S],
    *,
    head_revision: str = "",
    only: Part | None = None,
    process: ChildProcess | None = None,
) -> None:
    """Run a service until SIGTERM or SIGINT.

    Raises SystemExit for a database login that row security does not bind, and for certificates that cannot be used.

    `process`: it is one of several processes of the service.
    """
    certificates = _certificate_checks(settings)
    open_files.raise_limit()
    stop_asked, stop = asyncio.Event(), asyncio.Event()
    _install_signals(stop_asked)
    if process is not None:
        process.when_orphaned(stop_asked.set)
    metrics = Metrics()
    database = await _open_database(name, settings, metrics)
    health = Health((HealthCheck("database", Probe(database).check), *certificates), metrics)
    schema = _Schema(database, head_revision, refused=stop_asked.set)
    if head_revision:
        health.add(HealthCheck("schema", schema.check))
    oidc = OidcAuthenticator.from_settings(settings) if settings.auth_oidc_issuer else None
    authenticators: list[Authenticator] = [
        JwtAuthenticator(settings.signing_keys, max_lifetime=settings.auth_max_token_seconds)
    ]
    if oidc is not None:
        authenticators.append(oidc)
    rpc = RpcServer(settings, authenticators=authenticators, metrics=metrics, health_checks=health)
    admin = process.admin_socket() if process is not None else None
    http = HttpServer(settings, metrics=metrics, health=health, admin=admin)
    loops = Loops(metrics)
    runtime = Runtime(name, settings, metrics, database, authenticators, health, rpc, http, loops, stop, only)
    _tell_settings(runtime)
    own = Loops(metrics)
    own.add("health", health.run)
    own.add("loop-lag", Watchdog(metrics).run)
    own.add("connections-by-host", rpc.bound_hosts)
    service = Service()
    calls_ended = asyncio.Event()
    try:
        service = await build(runtime)
        await _start(runtime)
        own.start(stop)
        await wait_for_any(schema.ready, stop_asked)
        if not stop_asked.is_set():
            loops.start(stop, works=runtime.works, calls_ended=calls_ended)
            await stop_asked.wait()
            await _leave(runtime)
        _log.info("stopping", grace_seconds=settings.shutdown_grace_seconds)
    finally:
        await _stop(runtime, own, calls_ended)
        for each in service.close:
            await each()
        if oidc is not None:
            await oidc.close()
        await database.close()
        _log.info("stopped", service=name)
    if schema.is_refused:
        _log.error("refused_to_start", reason=_BYPASSES)
        raise SystemExit(1)


class _Schema:
    """Whether the service may work on its database. Without a revision it may at once."""

    def __init__(self, database: Database, head_revision: str, refused: Callable[[], None]) -> None:
        self._database = database
        self._head_revision = head_revision
        self._refused = refused
        self.ready: Final = asyncio.Event()
        self.is_refused = False
        if not head_revision:
            self.ready.set()

    async def check(self) -> None:
        """A health check, until it succeeds for the first time. Calls `refused` for a login that row security does not bind."""
        if self.ready.is_set():
            return
        if await bypasses_row_security(self._database):
            self.is_refused = True
            self._refused()
            raise unavailable(_BYPASSES)
        await require_revision(self._database, self._head_revision)
        await self._database.require_rights()
        await self._database.require_own_sessions()
        self.ready.set()


def _certificate_checks(settings: ServiceSettings) -> Sequence[HealthCheck]:
    """Raises SystemExit for certificates that cannot be used."""
    try:
        return certificate_checks(settings)
    except OSError as error:
        _log.error("refused_to_start", reason=f"TLS: {error}")
        raise SystemExit(1) from error


async def _open_database(name: str, settings: ServiceSettings, metrics: Metrics) -> Database:
    return await Database.open(
        settings.database_url.get_secret_value(),
        name=name,
        tenant_url=settings.tenant_database_url.get_secret_value(),
        size=settings.database_pool_size,
        max_age=settings.database_connection_max_age_seconds,
        metrics=metrics,
    )


def _tell_settings(runtime: Runtime[S]) -> None:
    """Log them, and what is odd about them."""
    settings = runtime.settings
    _log.info("starting", service=runtime.name, only=runtime.only or "all", settings=settings.redacted())
    for former, variable in former_names(type(settings), os.environ).items():
        _log.warning("renamed_setting", variable=former, name=variable, meaning=MEANING)
    for unknown in unknown_variables(type(settings), os.environ):
        _log.warning("unknown_setting", variable=unknown.variable, nearest=unknown.nearest, effect="it is not read")
    if not settings.tenant_database_url.get_secret_value():
        _log.warning("no_tenant_login", meaning="a statement of a call that sets another tenant would see it")


async def _start(runtime: Runtime[S]) -> None:
    """The servers of what `build` has added. Loops wait for the schema."""
    if not runtime.serves:
        runtime.rpc.drop_services()
    quick_records.quicken_all()
    gc_tuning.tune()
    sys.setswitchinterval(_SWITCH_SECONDS)
    await runtime.http.start()
    await runtime.rpc.start()


async def _stop(runtime: Runtime[S], own: Loops, calls_ended: asyncio.Event) -> None:
    """Calls and loops end, within the grace; then the loops that carry on what the calls committed, and the process's `own`."""
    grace = runtime.settings.shutdown_grace_seconds
    runtime.stop.set()
    runtime.health.shut_down()
    runtime.http.leave()
    await asyncio.gather(runtime.loops.join(grace), runtime.rpc.stop(grace))
    await runtime.http.stop()
    calls_ended.set()
    await asyncio.gather(runtime.loops.join_everywhere(grace), own.join(grace))


def main(
    service_name: str,
    settings_type: type[S],
    build: Build[S],
    migrations_dir: Path,
    argv: Sequence[str] | None = None,
) -> None:
    """The command line of a service: `serve [--only serve|work]`, `migrate`, `check`."""
    parser = argparse.ArgumentParser(prog=f"tocsin-{service_name}")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run until SIGTERM")
    serving.add_argument("--only", choices=("serve", "work"), help="only the servers, or only the background work")
    # Set by the parent of several processes.
    serving.add_argument("--part", type=ChildProcess.parse, help=argparse.SUPPRESS)
    commands.add_parser("migrate", help="bring the database to the newest schema")
    commands.add_parser("check", help="check settings, database and schema, then exit")
    arguments = parser.parse_args(argv)
    if arguments.command == "migrate":
        _migrate(settings_type, migrations_dir)
        return
    settings = load(settings_type)
    logging.configure(level=settings.log_level, form=settings.log_format)
    head_revision = head_of(migrations_dir)
    if arguments.command == "check":
        raise SystemExit(uvloop.run(_check(service_name, settings, head_revision)))
    process: ChildProcess | None = arguments.part
    if process is not None:
        bind_contextvars(process=process.number)
        settings = settings.model_copy(update={"listen_shared": True})
    elif settings.processes > 1:
        raise SystemExit(uvloop.run(_serve_together(settings)))
    uvloop.run(serve(service_name, settings, build, head_revision=head_revision, only=arguments.only, process=process))


async def _serve_together(settings: ServiceSettings) -> int:
    """As several processes, each of which is started with the same command line."""
    processes = Processes([sys.executable, *sys.orig_argv[1:]], settings.processes)
    return await run_processes(settings, processes, stop_on_signals)


class _DatabaseOnly(BaseSettings):
    """Migrating needs only the database: it runs where no other secret is available."""

    database_url: SecretStr
    tenant_database_url: SecretStr = SecretStr("")


def _migrate(settings_type: type[ServiceSettings], migrations_dir: Path) -> None:
    prefix = settings_type.model_config.get("env_prefix", "")
    prefixed: type[_DatabaseOnly] = type("_Prefixed", (_DatabaseOnly,), {"model_config": service_settings(prefix)})
    settings = load(prefixed)
    logging.configure(form=os.environ.get("LOG_FORMAT", "json"))
    url, tenant_url = settings.database_url.get_secret_value(), settings.tenant_database_url.get_secret_value()
    asyncio.run(upgrade(url, migrations_dir, tenant_url=tenant_url))


async def _check(name: str, settings: ServiceSettings, head_revision: str) -> int:
    """0: settings read, database reached, schema current. 1: a line on stderr says what is wrong."""
    print(f"settings: {settings.redacted()}")  # noqa: T201 - a command's answer
    for former, variable in former_names(type(settings), os.environ).items():
        print(f"settings: {former} is called {variable} now; {MEANING}", file=sys.stderr)  # noqa: T201
    for unknown in unknown_variables(type(settings), os.environ):
        advice = f"; did you mean {unknown.nearest}?" if unknown.nearest else ""
        print(f"settings: {unknown.variable} is not read{advice}", file=sys.stderr)  # noqa: T201
    database = await Database.open(
        settings.database_url.get_secret_value(),
        name=f"{name}-check",
        tenant_url=settings.tenant_database_url.get_secret_value(),
        size=2,
    )
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT):
            if await bypasses_row_security(database):
                print(f"database: {_BYPASSES}", file=sys.stderr)  # noqa: T201
                return 1
            await require_revision(database, head_revision)
            await database.require_rights()
            await database.require_own_sessions()
            await database.ping()
    except (TocsinError, TimeoutError) as error:
        print(f"database: {error}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        await database.close()
    print("database: ok")  # noqa: T201
    return 0


async def _leave(runtime: Runtime[S]) -> None:
    """Callers find another replica while everything still works. Loops continue too: rows that are written now may be due now."""
    announce = runtime.settings.shutdown_announce_seconds
    if announce and runtime.serves:
        _log.info("leaving", announce_seconds=announce)
        runtime.health.shut_down()
        runtime.http.leave()
        await asyncio.sleep(announce)
        await runtime.rpc.leave()


def _install_signals(stop_asked: asyncio.Event) -> None:
    def on_signal(number: int) -> None:
        if stop_asked.is_set():
            os._exit(128 + number)
        stop_asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)

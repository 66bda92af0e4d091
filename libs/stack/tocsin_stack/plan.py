"""Who listens where, and what each service is told: decided before anything starts."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from tocsin_stack.errors import StackError
from tocsin_stack.ports import HOST, Wanted, free_port
from tocsin_stack.service import SERVICES, ServiceSpec
from tocsin_stack.variables import DATA_DIR, HTTPS_PORT, POSTGRES_PORT, VALKEY_PORT

_POSTGRES: Final = Wanted(int(POSTGRES_PORT.default), "PostgreSQL", POSTGRES_PORT.name)
_VALKEY: Final = Wanted(int(VALKEY_PORT.default), "Valkey", VALKEY_PORT.name)
_HTTPS: Final = Wanted(int(HTTPS_PORT.default), "alerts by https", HTTPS_PORT.name)


@dataclass(frozen=True, slots=True)
class StackSettings:
    """How to run the stack. The defaults suit tests: free ports, none of the caller's URLs."""

    data_dir: Path
    """The folder of the embedded stores' data, of the secrets made for them, and of the logs."""
    fixed_ports: bool = False
    """The well-known ports instead of free ones, each movable by a variable in `overrides`."""
    replicas: int | Mapping[str, int] = 1
    """Of every service, or by service name (1 for those not named)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables for every service, on top of the caller's own."""
    overrides: Mapping[str, str] = field(default_factory=dict)
    """May hold *_DATABASE_URL, REDIS_URL, AUTH_SIGNING_KEYS and, with fixed ports, *_LISTEN and TOCSIN_*_PORT."""
    fsync: bool = True
    """Whether the embedded PostgreSQL survives a crash of the machine. Tests switch it off."""
    quiet: bool = True
    """Output goes to the log files only."""
    log_format: str = "json"
    """LOG_FORMAT of every service."""
    services: tuple[ServiceSpec, ...] = SERVICES
    """The services of the stack."""

    @classmethod
    def from_environment(cls, replicas: int = 1) -> Self:
        """Settings of `make up` and `make migrate`: fixed ports, `.data` here unless TOCSIN_DATA_DIR says otherwise."""
        return cls(
            data_dir=Path(os.environ.get(DATA_DIR.name) or DATA_DIR.default),
            fixed_ports=True,
            replicas=replicas,
            overrides={name: value for name, value in os.environ.items() if value},
            quiet=False,
            log_format=os.environ.get("LOG_FORMAT", "console"),
        )


class Listen(NamedTuple):
    """Where one replica listens, as host:port."""

    grpc: str
    http: str


class Plan:
    """The addresses of one stack. Complete once the stores' URLs are filled in."""

    def __init__(self, settings: StackSettings) -> None:
        self.store_ports: list[Wanted] = []
        self.service_ports: list[Wanted] = []
        self.databases: dict[str, str] = {}
        self.tenant_databases: dict[str, str] = {}
        self.redis_url = settings.overrides.get("REDIS_URL", "")
        self.signing_keys = settings.overrides.get("AUTH_SIGNING_KEYS", "")
        self._settings = settings
        self._listen: dict[str, list[Listen]] = {}
        for spec in settings.services:
            if url := settings.overrides.get(spec.variable("DATABASE_URL")):
                self.databases[spec.name] = url
                self.tenant_databases[spec.name] = settings.overrides.get(spec.variable("TENANT_DATABASE_URL"), "")
            count = settings.replicas if isinstance(settings.replicas, int) else settings.replicas.get(spec.name, 1)
            self._listen[spec.name] = [self._first(spec), *(_anywhere() for _ in range(count - 1))]
        # Decided here once: filling in the URLs of the embedded stores must not make them look external.
        self.embedded_databases = tuple(spec for spec in settings.services if spec.name not in self.databases)
        self.postgres_port = self._fixed_port(_POSTGRES, self.store_ports) if self.embedded_databases else None
        self.embedded_redis = not self.redis_url
        self.valkey_port = self._fixed_port(_VALKEY, self.store_ports) if self.embedded_redis else None
        self.https_port = self._fixed_port(_HTTPS, self.service_ports) if "ingest" in self._listen else None

    def replicas(self, service: str) -> int:
        """How many replicas the service has by now."""
        return len(self._listen[service])

    def add_replica(self, service: str) -> None:
        """One more, at free ports."""
        self._listen[service].append(_anywhere())

    def target(self, service: str) -> str:
        """The gRPC target that reaches every replica of a service."""
        addresses = [listen.grpc for listen in self._listen[service]]
        return addresses[0] if len(addresses) == 1 else "ipv4:" + ",".join(addresses)

    def environment(self, own: ServiceSpec, replica: int) -> dict[str, str]:
        """Everything a replica is told. Of the databases it learns its own only."""
        # The whole stack stops at once: no replica is left that could take the calls.
        environment = {"SHUTDOWN_ANNOUNCE_SECONDS": "0", **os.environ, **self._settings.environment}
        # Compiling every import anew doubles the time three services need to start.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for spec in self._settings.services:
            for suffix in ("DATABASE_URL", "TENANT_DATABASE_URL", "GRPC_LISTEN", "HTTP_LISTEN"):
                environment.pop(spec.variable(suffix), None)
            if spec is not own or replica:
                environment.pop(spec.variable("ADMIN_LISTEN"), None)  # one process can listen there
            environment[spec.variable("TARGET")] = self.target(spec.name)
        listen = self._listen[own.name][replica]
        return environment | {
            own.variable("DATABASE_URL"): self.databases[own.name],
            own.variable("TENANT_DATABASE_URL"): self.tenant_databases.get(own.name, ""),
            own.variable("GRPC_LISTEN"): listen.grpc,
            own.variable("HTTP_LISTEN"): listen.http,
            "REDIS_URL": self.redis_url,
            "AUTH_SIGNING_KEYS": self.signing_keys,
            "LOG_FORMAT": self._settings.log_format,
            "PYTHONUNBUFFERED": "1",
        }

    def _first(self, spec: ServiceSpec) -> Listen:
        if not self._settings.fixed_ports:
            return _anywhere()
        addresses = []
        for kind, usual in (("GRPC", spec.grpc_port), ("HTTP", spec.http_port)):
            variable = spec.variable(f"{kind}_LISTEN")
            address = self._settings.overrides.get(variable, f"{HOST}:{usual}")
            port = _number(address.rpartition(":")[2], variable)
            self.service_ports.append(Wanted(port, f"{spec.name} ({kind})", variable))
            addresses.append(address)
        return Listen(*addresses)

    def _fixed_port(self, default: Wanted, wanted: list[Wanted]) -> int | None:
        if not self._settings.fixed_ports:
            return None
        text = self._settings.overrides.get(default.variable, str(default.port))
        port = _number(text, default.variable)
        wanted.append(default._replace(port=port))
        return port


def _anywhere() -> Listen:
    return Listen(f"{HOST}:{free_port()}", f"{HOST}:{free_port()}")


def _number(text: str, variable: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise StackError(f"{variable} does not name a port between 1 and 65535: {text!r}")
    return int(text)

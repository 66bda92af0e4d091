"""Settings from the environment: shared ones by their plain name, a service's own with its prefix.

A service writes `class MySettings(ServiceSettings): model_config = service_settings("MY_")` and adds fields, which
are read with the prefix. Nothing is read at import; `load` reads once, in main.
"""

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tocsin_kit.auth import SigningKeys
from tocsin_kit.former_names import values_by_former_names
from tocsin_kit.proxies import Proxies

S = TypeVar("S", bound=BaseSettings)


def service_settings(prefix: str) -> SettingsConfigDict:
    """The configuration of a settings class whose own variables begin with `prefix`, such as `INGEST_`."""
    return SettingsConfigDict(env_prefix=prefix, extra="ignore", validate_by_name=True, validate_by_alias=True)


def _shared(name: str, default: Any = ...) -> Any:
    """A variable every service reads by the same name."""
    return Field(default=default, validation_alias=name)


def _parseable_proxies(value: str) -> str:
    Proxies.parse(value)
    return value


def _parseable_keys(value: SecretStr) -> SecretStr:
    SigningKeys.parse(value.get_secret_value())
    return value


def _listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not host or not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port, such as 0.0.0.0:7101; port 0 takes a free one")
    return value


Listen = Annotated[str, AfterValidator(_listen)]


class ServiceSettings(BaseSettings):
    """What every service needs."""

    model_config = service_settings("")
    renamed: ClassVar[Mapping[str, str]] = {}
    """The fields of variables that had another name in the last release, by that name (`tocsin_kit.former_names`)."""

    # With the service's prefix.
    database_url: SecretStr
    """The URL of the service's own PostgreSQL database. It may name several hosts; the one that can be written to is taken."""
    tenant_database_url: SecretStr = SecretStr("")
    """The same database with a separate login for calls, which `migrate` restricts to one tenant. It has as many connections
    again. Empty: calls use the login above, and a statement that sets another tenant would see that tenant's rows."""
    grpc_listen: Listen = "127.0.0.1:0"
    """Where gRPC listens. Port 0 takes a free port; the start log line `rpc_listening` names it."""
    http_listen: Listen = "127.0.0.1:0"
    """Where HTTP listens: ingest's receivers and health for load balancers."""
    admin_listen: Listen | Literal[""] = ""
    """The listener for operators and the orchestrator: /metrics and /readyz, and notify's /board. Empty: these are at
    `…_HTTP_LISTEN`, which senders reach too."""
    processes: int = Field(default=1, ge=1, le=64)
    """How many processes serve the same addresses (SO_REUSEPORT), for hosts with more than one core. Each is a replica: it has
    database connections, limits and memory of its own. More than one require fixed ports and `…_ADMIN_LISTEN`, where /metrics
    distinguishes them by the label `process`."""

    redis_url: SecretStr = _shared("REDIS_URL", SecretStr("redis://127.0.0.1:6379/0"))
    """The Redis or Valkey for timers, pages that are being sent, and wake-ups. `rediss://` is TLS, `unix://` a socket."""
    database_pool_size: int = Field(default=10, validation_alias="DATABASE_POOL_SIZE", ge=2, le=500)
    """Most connections of one process to PostgreSQL. Ingest lowers INGEST_BATCH_LANES to one less; notify opens a few more."""
    database_connection_max_age_seconds: float = Field(
        default=600.0, validation_alias="DATABASE_CONNECTION_MAX_AGE_SECONDS", ge=1
    )
    """A connection is replaced after this, or up to a fifth earlier, so that a changed DNS entry is followed."""

    ingest_target: str = _shared("INGEST_TARGET", "127.0.0.1:7101")
    """The gRPC target at which other services reach ingest. `dns:///host:port` means every address of the name, `ipv4:a:1,b:1` is
    a list."""
    escalation_target: str = _shared("ESCALATION_TARGET", "127.0.0.1:7102")
    """The gRPC target at which other services reach the service of this name."""
    notify_target: str = _shared("NOTIFY_TARGET", "127.0.0.1:7103")
    """The gRPC target at which other services reach notify."""

    auth_signing_keys: Annotated[SecretStr, AfterValidator(_parseable_keys)] = _shared("AUTH_SIGNING_KEYS")
    """Keys of bearer tokens, as `name:key` with 32 random bytes in base64url, separated by commas. The first signs the tokens
    that services use between themselves; each verifies. All services need the same ones. Rotate: new key first, old one behind
    it."""
    auth_max_token_seconds: float = Field(default=366 * 86400.0, validation_alias="AUTH_MAX_TOKEN_SECONDS", ge=600)
    """How long a token may live from its issue to its expiry, the issuer's as well as Tocsin's own. Longer ones are refused."""
    auth_wrong_per_second: float = Field(default=10.0, validation_alias="AUTH_WRONG_PER_SECOND", gt=0)
    """Wrong credentials per second of one address, in each replica. Beyond it and the burst, its unknown credentials wait and its
    wrong ones are RATE_LIMITED; credentials that were right before are not affected."""
    auth_wrong_burst: float = Field(default=200.0, validation_alias="AUTH_WRONG_BURST", ge=1)
    """Wrong credentials that one address may send at once."""
    auth_oidc_issuer: str = _shared("AUTH_OIDC_ISSUER", "")
    """The OpenID Connect issuer whose tokens are accepted beside Tocsin's own. Empty: none."""
    auth_oidc_audience: str = _shared("AUTH_OIDC_AUDIENCE", "")
    """The `aud` that a token of the issuer must have."""
    auth_oidc_jwks_url: str = _shared("AUTH_OIDC_JWKS_URL", "")
    """The URL of the issuer's keys. Empty: the one in the issuer's discovery document."""
    auth_oidc_org_claim: str = _shared("AUTH_OIDC_ORG_CLAIM", "org")
    """The claim of the issuer's tokens that names the tenant."""
    auth_oidc_roles_claim: str = _shared("AUTH_OIDC_ROLES_CLAIM", "roles")
    """The claim of the issuer's tokens that names roles: viewer, responder, manager, owner."""

    tls_cert_file: str = _shared("TLS_CERT_FILE", "")
    """The certificate chain (PEM) that gRPC and HTTP show. Empty: no TLS."""
    tls_key_file: str = _shared("TLS_KEY_FILE", "")
    """The certificate's private key (PEM)."""
    tls_client_ca_file: str = _shared("TLS_CLIENT_CA_FILE", "")
    """gRPC clients must show a certificate of this authority (PEM; mTLS). Empty: they need none."""
    tls_server_ca_file: str = _shared("TLS_SERVER_CA_FILE", "")
    """Calls to the other services use TLS and trust this authority (PEM). Empty: they use no TLS."""

    grpc_max_message_bytes: int = Field(
        default=1 << 20, validation_alias="GRPC_MAX_MESSAGE_BYTES", ge=1 << 18, le=1 << 28
    )
    """Largest gRPC message that is accepted. Methods whose fields cannot hold as much accept less."""
    grpc_max_concurrent_rpcs: int = Field(default=2000, validation_alias="GRPC_MAX_CONCURRENT_RPCS", ge=1)
    """Unary calls that may be open at once. One tenant may have half of them; a tenth is reserved for Tocsin's own services."""
    grpc_max_streams: int = Field(default=500, validation_alias="GRPC_MAX_STREAMS", ge=1)
    """Streams that may be open at once. One tenant may have a fifth of them, one connection a tenth."""
    grpc_max_connections: int = Field(default=10_000, validation_alias="GRPC_MAX_CONNECTIONS", ge=1)
    """gRPC connections that may be open at once. Further ones are closed. One host may have half of them, a trusted proxy all.
    There are never more than half of the files that the process may have open (RLIMIT_NOFILE)."""
    grpc_max_connection_calls: int = Field(default=1200, validation_alias="GRPC_MAX_CONNECTION_CALLS", ge=1)
    """Calls of all kinds that one connection may have open at once. A client delays further ones until one of them has ended
    (SETTINGS_MAX_CONCURRENT_STREAMS). A call counts for a moment longer than its client knows, so one of a hundred is refused at
    this bound (UNAVAILABLE, to be sent again): it is above what one tenant may have."""
    grpc_read_seconds: float = Field(default=10.0, validation_alias="GRPC_READ_SECONDS", gt=0)
    """How long the message of a unary call may take to arrive after its credential was accepted."""
    grpc_max_connection_age_seconds: float = Field(
        default=10.0, validation_alias="GRPC_MAX_CONNECTION_AGE_SECONDS", ge=1
    )
    """After this time the server closes a connection with a GOAWAY, and the client makes a new one. So clients find new replicas,
    and a process that stops has no connections after this time."""
    grpc_max_stream_seconds: float = Field(default=600.0, validation_alias="GRPC_MAX_STREAM_SECONDS", ge=1)
    """How long a call or stream may go on after its connection has reached that age."""
    grpc_max_call_seconds: float = Field(default=30.0, validation_alias="GRPC_MAX_CALL_SECONDS", gt=0)
    """Longest unary call of a caller that set no deadline."""
    trusted_proxies: Annotated[str, AfterValidator(_parseable_proxies)] = _shared("TRUSTED_PROXIES", "")
    """Addresses or ranges (CIDR) of the proxies and load balancers in front, separated by commas. For calls through them, the
    caller's address is the one that they add to `X-Forwarded-For`: for source ranges, for wrong credentials, and for limits of
    one host. Empty: the address of the connection is used."""
    http_max_connections: int = Field(default=1000, validation_alias="HTTP_MAX_CONNECTIONS", ge=2)
    """HTTP connections that may be open at once; one host may have half of them, a trusted proxy all. There are never more than an
    eighth of the files that the process may have open (RLIMIT_NOFILE)."""
    http_max_request_bytes: int = Field(default=32 << 20, validation_alias="HTTP_MAX_REQUEST_BYTES", ge=1 << 16)
    """Largest body of one request, inflated. Separate from GRPC_MAX_MESSAGE_BYTES: senders do not repeat a request that was too
    large."""
    http_max_body_bytes: int = Field(default=128 << 20, validation_alias="HTTP_MAX_BODY_BYTES", ge=1 << 20)
    """Bytes of all request bodies that are being read; one host may have half of them. Beyond it: 429."""
    http_header_seconds: float = Field(default=10.0, validation_alias="HTTP_HEADER_SECONDS", gt=0)
    """How long a new connection may take to send its first headers."""
    http_body_seconds: float = Field(default=20.0, validation_alias="HTTP_BODY_SECONDS", gt=0)
    """How long a request's body may take."""
    http_idle_seconds: float = Field(default=75.0, validation_alias="HTTP_IDLE_SECONDS", gt=0)
    """How long a connection is kept without another request."""
    reflection: bool = _shared("REFLECTION", True)
    """Whether gRPC server reflection is served, which grpcurl needs to know the methods."""

    tenant_rpcs_per_second: int = Field(default=1000, validation_alias="TENANT_RPCS_PER_SECOND", ge=1)
    """Calls and HTTP requests per second of one tenant, over all replicas of a service; ten times as many at once. A quarter of
    the burst is reserved for calls that change something. LimitService changes this and the next ones by tenant."""
    tenant_bytes_per_second: int = Field(default=32 << 20, validation_alias="TENANT_BYTES_PER_SECOND", ge=1 << 16)
    """Bytes of requests per second of one tenant, over all replicas of a service; ten times as many at once."""
    tenant_max_streams: int = Field(default=500, validation_alias="TENANT_MAX_STREAMS", ge=1)
    """Streams that one tenant may have open at all replicas of a service together."""
    tenant_max_objects: int = Field(default=10_000, validation_alias="TENANT_MAX_OBJECTS", ge=1)
    """How many objects of each kind one tenant may have."""

    outbox_max_age_seconds: float = Field(default=60.0, validation_alias="OUTBOX_MAX_AGE_SECONDS", gt=0)
    """A tenant with an older undelivered outbox row is reported: as degraded by /readyz, by a metric and in the log."""

    audit_retention_days: int = Field(default=400, validation_alias="AUDIT_RETENTION_DAYS", ge=30)
    """Entries of the audit log are kept this long. The database refuses to delete one that is younger than 30 days."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _shared("LOG_LEVEL", "INFO")
    """The least important lines that are logged."""
    log_format: Literal["json", "console"] = _shared("LOG_FORMAT", "json")
    """One JSON object a line, or lines for reading."""
    shutdown_grace_seconds: float = Field(default=10.0, validation_alias="SHUTDOWN_GRACE_SECONDS", ge=0)
    """The longest time for each of the three stages of a stop; the remaining work is then cancelled."""
    shutdown_announce_seconds: float = Field(default=3.0, validation_alias="SHUTDOWN_ANNOUNCE_SECONDS", ge=0)
    """How long a stopping process reports that it is not ready and continues as before, so that load balancers notice. Then it
    refuses new gRPC connections and accepts calls until the existing connections have reached their maximum age. 0: it does
    neither, and callers get UNAVAILABLE; right where no other replica can take the calls."""
    listen_shared: bool = Field(default=False, validation_alias="LISTEN_SHARED")
    """Whether another process may listen on the same addresses (SO_REUSEPORT), so that a successor takes the connections
    while this process leaves. Otherwise a second process on an address fails at its start."""

    @model_validator(mode="after")
    def _complete(self) -> "ServiceSettings":
        """Half of a pair would be ignored silently, and the operator would believe that it protects."""
        if self.processes > 1:
            self._require_addresses()
        if self.auth_oidc_issuer and not self.auth_oidc_audience:
            raise ValueError(
                "AUTH_OIDC_AUDIENCE is not set, and AUTH_OIDC_ISSUER is: tokens that the issuer makes for other "
                "applications would be accepted; set the audience that it writes into Tocsin's tokens"
            )
        if self.tls_cert_file and not self.tls_key_file:
            raise ValueError("TLS_KEY_FILE is not set, and TLS_CERT_FILE is: set both, or neither for plain text")
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("TLS_CERT_FILE is not set, and TLS_KEY_FILE is: set both, or neither for plain text")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError(
                "TLS_CERT_FILE is not set, and TLS_CLIENT_CA_FILE is: without a certificate of its own the server speaks "
                "plain text and asks nobody for one"
            )
        return self

    def _require_addresses(self) -> None:
        prefix = self.model_config.get("env_prefix", "")
        if not self.admin_listen:
            raise ValueError(
                f"{prefix}ADMIN_LISTEN is not set, and {prefix}PROCESSES is above 1: the other addresses lead to one process or "
                "the other, so /metrics and /readyz of all need one of their own"
            )
        for name, address in (("GRPC_LISTEN", self.grpc_listen), ("HTTP_LISTEN", self.http_listen)):
            if address.endswith(":0"):
                raise ValueError(
                    f"{prefix}{name} has port 0, and {prefix}PROCESSES is above 1: each process would take another port; name one"
                )

    @property
    def proxies(self) -> Proxies:
        """TRUSTED_PROXIES, parsed."""
        return Proxies.parse(self.trusted_proxies)

    @property
    def signing_keys(self) -> SigningKeys:
        """AUTH_SIGNING_KEYS, parsed."""
        return SigningKeys.parse(self.auth_signing_keys.get_secret_value())

    def redacted(self) -> dict[str, object]:
        """Every setting for the start log line; secrets show only whether they are set."""
        return {
            name: ("***" if value.get_secret_value() else "") if isinstance(value, SecretStr) else value
            for name, value in self
        }


class SettingsError(Exception):
    """One readable line per setting that is missing or wrong; never the value of a secret."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def read(settings_type: type[S]) -> S:
    """The settings from the environment. Raises SettingsError."""
    try:
        return cast("Any", settings_type)(**values_by_former_names(settings_type, os.environ))  # type: ignore[no-any-return]
    except ValidationError as error:
        raise SettingsError([_line(settings_type, problem) for problem in error.errors(include_url=False)]) from None


def load(settings_type: type[S]) -> S:
    """`read`, or one line per problem on stderr and exit code 2."""
    try:
        return read(settings_type)
    except SettingsError as error:
        for line in error.lines:
            print(line, file=sys.stderr)  # noqa: T201 - there is no log before the settings
        raise SystemExit(2) from None


def _line(settings_type: type[BaseSettings], problem: Any) -> str:
    if not problem["loc"]:  # of settings that do not fit together; the message names them
        return str(problem["msg"].removeprefix("Value error, "))
    location = str(problem["loc"][0])
    field = settings_type.model_fields.get(location)
    alias = field.validation_alias if field is not None else location
    prefix = settings_type.model_config.get("env_prefix", "")
    variable = alias if isinstance(alias, str) and alias else f"{prefix}{location}".upper()
    if problem["type"] == "missing":
        return f"{variable} is not set"
    return f"{variable}: {problem['msg'].removeprefix('Value error, ')}"

"""The gRPC server of a service: pipeline, health, reflection, limits, TLS."""

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tocsin.type.v1 import access_pb2

from tocsin_kit import sockets
from tocsin_kit.auth import Authenticator
from tocsin_kit.budgets import BYTES, OBJECTS, RPCS, STREAMS, Budgets, Limit, per_second
from tocsin_kit.credentials import Credentials
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import until
from tocsin_kit.metrics import Metrics
from tocsin_kit.open_files import most_connections
from tocsin_kit.rpc.access import Access
from tocsin_kit.rpc.anonymous import AnonymousHandlers
from tocsin_kit.rpc.call import Call, current_call
from tocsin_kit.rpc.call_limits import RpcLimits
from tocsin_kit.rpc.crowded_hosts import CrowdedHosts
from tocsin_kit.rpc.health import Health, HealthCheck, HealthServicer
from tocsin_kit.rpc.pipeline import Pipeline
from tocsin_kit.rpc.tls import server_credentials
from tocsin_kit.rpc.validation import validate, warm
from tocsin_kit.settings import ServiceSettings

__all__ = ["Call", "HealthCheck", "RpcServer", "current_call", "validate"]

_log = get_logger(__name__)
_KEEPALIVE_MS: Final = 30_000
_LEAST_PING_INTERVAL_MS: Final = 4_500
"""Clients may send keepalive pings every 5 s; gRPC's own default is 5 min, and it cuts off who sends them sooner."""
_HANDSHAKE_MS: Final = 10_000
_TURNING_AWAY_STEP: Final = 0.05
"""Seconds without a new call after which callers count as gone."""
_TURNING_AWAY_STEPS: Final = 20
_AGE_JITTER: Final = 1.1
_HANGING_ON: Final = 5.0
"""Seconds for clients that are slow to react to the GOAWAY."""
_LEAVING_STEP: Final = 0.1
_ANSWERS_FACTOR: Final = 128
"""The budget for answers that are being made or were not read yet, in messages of the largest size; see
`tocsin_kit.rpc.answers`."""
_SETTINGS_MS: Final = 5000
"""How long a client may take to acknowledge the server's settings. Until it does, gRPC takes 16 MiB of headers for a call, and
keeps those of a block that has no end; afterwards 16 KiB."""
_MOST_UNBEGUN: Final = 20_000
"""Calls of one method that may wait until the event loop begins them, of all connections. gRPC answers calls beyond that with
CANCELLED, independent of their sender, and by default from 1,000 on at random; hardly any client repeats such a call. One
connection has no more than GRPC_MAX_CONNECTION_CALLS of them: a stream that was reset counts as open until its call was begun."""
_WIRE_LIMIT_FACTOR: Final = 2
"""Of GRPC_MAX_MESSAGE_BYTES: above it gRPC itself refuses, without reading and without a reason."""


class RpcServer:
    """Serves servicers behind the pipeline. `add` everything, then `start`."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        authenticators: Sequence[Authenticator],
        metrics: Metrics,
        health_checks: Iterable[HealthCheck] | Health = (),
    ) -> None:
        self._settings = settings
        self.credentials: Final = Credentials(
            rate=settings.auth_wrong_per_second, burst=settings.auth_wrong_burst, metrics=metrics
        )
        """Judges the credentials of all listeners, so that failures of an address are counted together."""
        self.budgets: Final = Budgets(
            (
                per_second(RPCS, settings.tenant_rpcs_per_second),
                per_second(BYTES, settings.tenant_bytes_per_second),
                Limit(STREAMS, settings.tenant_max_streams),
                Limit(OBJECTS, settings.tenant_max_objects),
            ),
            metrics,
        )
        """What each tenant may use; a service adds limits of its own."""
        self._pipeline = Pipeline(
            authenticators,
            self.credentials,
            self.budgets,
            metrics,
            RpcLimits(
                call_seconds=settings.grpc_max_call_seconds,
                message_bytes=settings.grpc_max_message_bytes,
                calls=settings.grpc_max_concurrent_rpcs,
                streams=settings.grpc_max_streams,
                answer_bytes=_ANSWERS_FACTOR * settings.grpc_max_message_bytes,
                read_seconds=settings.grpc_read_seconds,
            ),
            settings.proxies,
        )
        self._anonymous = AnonymousHandlers(metrics)
        self._services: dict[str, Mapping[str, Any]] = {}
        self._server: grpc.aio.Server | None = None
        self._listening: set[int] = set()
        self._metrics = metrics
        self._most_connections = most_connections(settings.grpc_max_connections)
        self.health = health_checks if isinstance(health_checks, Health) else Health(health_checks, metrics)
        self.port = 0
        """The port it listens on, once started."""

    def add(self, servicer: object, add_fn: Callable[[Any, Any], None] | None = None) -> None:
        """Serve `servicer`. `add_fn`: the generated `add_…Servicer_to_server`; without it, that of the generated base class.

        Raises ValueError when the service is there already or has a method without a scope. A method the servicer lacks
        answers UNIMPLEMENTED.
        """
        capture = _Capture()
        (add_fn or _generated_add(type(servicer)))(servicer, capture)
        ((service, handlers),) = capture.handlers.items()
        if service in self._services:
            raise ValueError(f"{service} is added already")
        descriptor = descriptor_pool.Default().FindServiceByName(service)
        wrapped = {}
        for name, handler in handlers.items():
            options = descriptor.methods_by_name[name].GetOptions()
            scope = options.Extensions[access_pb2.scope]
            if not scope:
                raise ValueError(f"{service}/{name} names no scope; give it the option tocsin.type.v1.scope")
            warm(message_factory.GetMessageClass(descriptor.methods_by_name[name].input_type))
            if _is_async(getattr(servicer, name)):
                described = descriptor.methods_by_name[name]
                access = Access(
                    scope, options.Extensions[access_pb2.tenants], options.Extensions[access_pb2.self_scope]
                )
                wrapped[name] = self._pipeline.wrap(
                    f"{service}/{name}", access, handler, described.input_type, described.output_type
                )
            else:
                _log.warning("rpc_unimplemented", method=f"{service}/{name}")
        self._services[service] = wrapped

    def watch_refused(self, function: Callable[[Call, TocsinError], None]) -> None:
        """Tell `function` of each call of a known caller that fails before its handler begins, and of streams that fail."""
        self._pipeline.refused = function

    def drop_services(self) -> None:
        """Serve health and reflection only."""
        self._services.clear()

    async def start(self) -> None:
        """Listen. Raises OSError or RuntimeError when the address cannot be bound."""
        settings = self._settings
        server = grpc.aio.server(
            options=(
                # Unless asked for, a second process on the port must fail, not share the calls.
                ("grpc.so_reuseport", int(settings.listen_shared)),
                ("grpc.max_receive_message_length", _WIRE_LIMIT_FACTOR * settings.grpc_max_message_bytes),
                ("grpc.max_send_message_length", 16 * settings.grpc_max_message_bytes),
                ("grpc.max_connection_age_ms", int(settings.grpc_max_connection_age_seconds * 1000)),
                ("grpc.max_connection_age_grace_ms", int(settings.grpc_max_stream_seconds * 1000)),
                ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_INTERVAL_MS),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                ("grpc.max_allowed_incoming_connections", self._most_connections),
                ("grpc.max_concurrent_streams", settings.grpc_max_connection_calls),
                ("grpc.http2.settings_timeout", _SETTINGS_MS),
                ("grpc.server.max_pending_requests", _MOST_UNBEGUN),
                ("grpc.server.max_pending_requests_hard_limit", _MOST_UNBEGUN),
                # Otherwise the window of what may be sent unread grows with the bandwidth, to megabytes a stream.
                ("grpc.http2.bdp_probe", 0),
                # Otherwise gRPC keeps what it refuses itself, such as a message above the wire limit, open for up to a second.
                # When the connection's age ends meanwhile, it closes the connection without the answer: UNAVAILABLE.
                ("grpc.http.tarpit", 0),
            ),
        )
        for service, handlers in self._services.items():
            server.add_registered_method_handlers(service, dict(handlers))
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(handlers)),))
        health = HealthServicer(self.health, self._services)
        self._open_to_all(server, lambda target: health_pb2_grpc.add_HealthServicer_to_server(health, target))
        if settings.reflection:
            names = (*self._services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
            reflected = reflection.aio.ReflectionServicer((*names, reflection.SERVICE_NAME))
            add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
            self._open_to_all(server, lambda target: add(reflected, target))
        credentials = server_credentials(settings)
        listen = settings.grpc_listen
        before = sockets.listening()
        if credentials is None:
            self.port = server.add_insecure_port(listen)
        else:
            self.port = server.add_secure_port(listen, credentials)
        await server.start()
        self._server = server
        self._listening = {each for each in sockets.listening() - before if sockets.port_of(each) == self.port}
        _log.info("rpc_listening", address=f"{listen.rpartition(':')[0]}:{self.port}", tls=credentials is not None)

    async def bound_hosts(self, stop: asyncio.Event) -> None:
        """A loop that leaves each host half of the connections there may be."""
        most = max(1, self._most_connections // 2)
        await CrowdedHosts(self.port, most, proxies=self._settings.proxies, metrics=self._metrics).run(stop)

    def _open_to_all(self, server: grpc.aio.Server, add: Callable[[Any], None]) -> None:
        """Serve what needs no credential, within the limits for those who show none."""
        capture = _Capture()
        add(capture)
        for service, handlers in capture.handlers.items():
            wrapped = {name: self._anonymous.wrap(handler) for name, handler in handlers.items()}
            server.add_registered_method_handlers(service, wrapped)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))

    async def leave(self) -> None:
        """Send every client to another replica while calls are still accepted: refuse new connections and wait until the existing
        ones have ended.

        A connection ends with a GOAWAY within GRPC_MAX_CONNECTION_AGE_SECONDS (and 10 %, by gRPC's own jitter). Calls
        that cross the GOAWAY are served (RFC 9113 section 6.8), whereas a server that stops cancels them. Returns also
        when connections are left 5 s after that, which streams may hold open: a stream that ends then is opened
        again elsewhere.
        """
        self.health.shut_down()
        for each in self._listening:
            await sockets.accept_the_last(each, shared=self._settings.listen_shared)
            sockets.close_beneath(each)
        seconds = _AGE_JITTER * self._settings.grpc_max_connection_age_seconds + _HANGING_ON
        await until(lambda: not any(sockets.connections(self.port)), seconds, step=_LEAVING_STEP)
        _log.info("rpc_clients_left", connections=sum(1 for _ in sockets.connections(self.port)))

    async def stop(self, grace: float) -> None:
        """NOT_SERVING, no new calls, wait `grace` seconds for those in flight, then cancel them.

        A gRPC server that stops answers CANCELLED to calls that have reached it and have not begun, and few clients repeat these
        by themselves. So it continues for a moment and answers UNAVAILABLE, until callers have found another replica. Calls that
        arrive at the instant of the stop itself are still cancelled.
        """
        self.health.shut_down()
        if self._server is not None:
            await self._turn_away()
            await self._server.stop(grace)
            self._server = None

    async def _turn_away(self) -> None:
        self._pipeline.leaving = True
        for _ in range(_TURNING_AWAY_STEPS):
            before = self._pipeline.turned_away
            await asyncio.sleep(_TURNING_AWAY_STEP)
            if self._pipeline.turned_away == before:
                return


def _is_async(behaviour: object) -> bool:
    """False for the base class's stand-in of a method that was not written, which is a plain function."""
    return inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)


def _generated_add(servicer: type) -> Callable[[Any, Any], None]:
    """What registers a servicer: a function beside its base class, in the module that protoc's plugin generated."""
    for base in servicer.__mro__:
        add: Callable[[Any, Any], None] | None = getattr(
            sys.modules[base.__module__], f"add_{base.__name__}_to_server", None
        )
        if add is not None:
            return add
    raise TypeError(f"{servicer.__qualname__} has no generated base class; name the function that registers it")


class _Capture:
    """Stands in for a server, to learn the handlers a generated function would register."""

    def __init__(self) -> None:
        self.handlers: dict[str, Mapping[str, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same handlers in an older form."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Called by generated code."""
        self.handlers[service] = handlers

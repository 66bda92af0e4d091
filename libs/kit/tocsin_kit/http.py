"""HTTP: a service's own routes with the same error rules as gRPC, and /metrics, /healthz and /readyz for operators.

With `admin_listen` set, /metrics and /readyz are only on that listener: the listener for senders has only /healthz, which says
only that the process answers.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import grpc
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import Counter
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit import sockets
from tocsin_kit.errors import DOMAIN, TocsinError
from tocsin_kit.failure_lines import FailureLines
from tocsin_kit.http_handshakes import BACKLOG, Handshakes, bound
from tocsin_kit.http_limits import HttpLimits
from tocsin_kit.keys.sources import source_of
from tocsin_kit.logging import get_logger, tells_debug
from tocsin_kit.metrics import CONTENT_TYPE, Metrics
from tocsin_kit.open_files import most_connections
from tocsin_kit.proxies import HEADER
from tocsin_kit.rpc.failures import masked
from tocsin_kit.rpc.health import Health
from tocsin_kit.rpc.tls import server_context
from tocsin_kit.settings import ServiceSettings

_log = get_logger(__name__)
_LINGERING_SECONDS: Final = 2.0
_FIRST_REQUEST_SECONDS: Final = 0.5
_ADMIN_CONNECTIONS: Final = 100
"""Of operators' listener: metrics and readiness probes need a few."""
_READ_BYTES: Final = 16 << 10
"""Half of what a connection may send before the server has read it."""

# google/rpc/code.proto names the HTTP status of each code.
HTTP_STATUS: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def error_response(error: TocsinError) -> web.Response:
    """The JSON form of an error: `{"error": {"status", "reason", "domain", "message", "metadata", "fields"}}`."""
    body = {
        "error": {
            "status": error.code.name,
            "reason": error.reason_name,
            "domain": DOMAIN,
            "message": error.message,
            "metadata": dict(error.metadata),
            "fields": [violation._asdict() for violation in error.fields],
        }
    }
    headers = {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}
    return web.json_response(body, status=http_status(error), headers=headers)


def http_status(error: TocsinError) -> int:
    """The status of an error. Many senders repeat a 5xx and no 4xx, so our own overload is 503."""
    if error.reason == ErrorReason.ERROR_REASON_OVERLOADED:
        return 503
    return HTTP_STATUS.get(error.code, 500)


def _is_our_fault(record: logging.LogRecord) -> bool:
    """False for what aiohttp logs as errors with a traceback when a client sends garbage or closes its connection."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (HttpProcessingError, web.RequestPayloadError, ConnectionError))


logging.getLogger("aiohttp.server").addFilter(_is_our_fault)


def _expecting(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> Any:
    """Answers an unknown `Expect` header, which no middleware sees. aiohttp repeats the header in its answer, and fails with a
    traceback when its bytes are no text.
    """

    async def handle_expected(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "100-continue").lower() not in ("", "100-continue"):
            return web.Response(status=417, text="417: Expect may be 100-continue and nothing else")
        return await handle(request)

    return handle_expected


class HttpServer:
    """An aiohttp application with a body limit, masked errors and a graceful stop."""

    def __init__(
        self, settings: ServiceSettings, *, metrics: Metrics, health: Health, admin: socket.socket | None = None
    ) -> None:
        """`admin`: a listening socket for operators in place of `admin_listen`, without TLS."""
        self._settings = settings
        self._admin_socket = admin
        self._metrics = metrics
        self._health = health
        self._runners: list[web.AppRunner] = []
        self._listening: list[asyncio.Server | Handshakes] = []
        self._leaving = False
        self._counters: dict[tuple[str, int], Counter] = {}
        """Of routes and statuses, of which there are few. To look one up costs five times as much as to count."""
        self._lines = FailureLines()
        self._proxies = settings.proxies
        self._limits = self._make_limits(most_connections(settings.http_max_connections, http=True))
        metrics.http_open.set_function(self._limits.open)
        self.app: Final = self._application()
        """For a service's own routes: `http.app.add_routes([...])` before start."""
        apart = bool(settings.admin_listen) or admin is not None
        self._admin = self._application() if apart else self.app
        # Operators must be able to connect when senders use all connections.
        self._admin_limits = self._make_limits(_ADMIN_CONNECTIONS) if apart else self._limits
        self._admin.add_routes((web.get("/metrics", self._get_metrics), web.get("/readyz", self._get_readyz)))
        for app in {self.app, self._admin}:
            app.add_routes((web.get("/healthz", self._get_healthz),))
        self.port = 0
        """The port it listens on, once started."""
        self.admin_port = 0
        """The port of /metrics and /readyz; the same one without `admin_listen`."""

    def _make_limits(self, connections: int) -> HttpLimits:
        settings = self._settings
        return HttpLimits(
            connections=connections,
            body_bytes=settings.http_max_body_bytes,
            header_seconds=settings.http_header_seconds,
            body_seconds=settings.http_body_seconds,
            proxies=self._proxies,
            metrics=self._metrics,
        )

    def _limits_of(self, app: web.Application) -> HttpLimits:
        return self._limits if app is self.app else self._admin_limits

    def add_routes(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        """A service's own routes. A handler that raises `TocsinError` answers `error_response`."""
        self.app.add_routes(routes)

    def add_operator_routes(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        """Routes beside /metrics and /readyz: with `admin_listen` senders cannot reach them."""
        self._admin.add_routes(routes)

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be bound."""
        self.port = self.admin_port = await self._listen(self.app, self._settings.http_listen, "http_listening")
        if self._admin_socket is not None:
            server = await asyncio.get_running_loop().create_server(
                self._admin_limits.protocol(await self._serving(self._admin)), sock=self._admin_socket
            )
            self._listening.append(server)
        elif self._settings.admin_listen:
            self.admin_port = await self._listen(self._admin, self._settings.admin_listen, "admin_listening")

    def leave(self) -> None:
        """From now on every answer closes its connection (`Connection: close`), so that the next request goes to another
        replica."""
        self._leaving = True

    async def stop(self) -> None:
        """No new requests; wait for those in flight, at most the shutdown grace."""
        for server in self._listening:
            for each in server.sockets:
                await sockets.accept_the_last(each.fileno(), shared=self._settings.listen_shared)
            server.close()
        self._listening.clear()
        # aiohttp closes connections whose clients have not sent a request yet.
        await self._limits.first_requests_came(_FIRST_REQUEST_SECONDS)
        runners, self._runners = self._runners, []
        await asyncio.gather(*(runner.cleanup() for runner in runners))

    def _application(self) -> web.Application:
        return web.Application(middlewares=(self._errors,), client_max_size=self._settings.http_max_request_bytes)

    async def _serving(self, app: web.Application) -> Any:
        """The protocol factory of an application."""
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=self._settings.shutdown_grace_seconds,
            handler_cancellation=False,
            keepalive_timeout=self._settings.http_idle_seconds,
            # Data that still arrive after a refusal are read for this long, so that the refusal reaches the client.
            lingering_time=_LINGERING_SECONDS,
            read_bufsize=_READ_BYTES,
            # The parser would answer an encoding that it does not know, and with a body also to HEAD: see http_encoding.
            auto_decompress=False,
        )
        await runner.setup()
        self._runners.append(runner)
        make: Any = runner.server
        make.request_handler = _expecting(make.request_handler)
        return make

    async def _listen(self, app: web.Application, address: str, event: str) -> int:
        make = await self._serving(app)
        tls = server_context(self._settings)
        host, _, port = address.rpartition(":")
        server = await self._accepting(self._limits_of(app), make, host.strip("[]"), int(port), tls)
        self._listening.append(server)
        listening = int(server.sockets[0].getsockname()[1])
        _log.info(event, address=f"{host}:{listening}")
        return listening

    async def _accepting(
        self, limits: HttpLimits, make: Any, host: str, port: int, tls: ssl.SSLContext | None
    ) -> asyncio.Server | Handshakes:
        settings, shared = self._settings, self._settings.listen_shared
        if tls is None:
            loop = asyncio.get_running_loop()
            return await loop.create_server(limits.protocol(make), host, port, reuse_port=shared, backlog=BACKLOG)
        found = await bound(host, port, shared=shared)
        return Handshakes(
            limits, limits.protocol(make, admitted=True), found, tls, seconds=settings.http_header_seconds
        )

    @web.middleware
    async def _errors(self, request: web.Request, handler: Any) -> web.StreamResponse:
        began = time.perf_counter()
        if self._proxies:
            caller = self._proxies.caller(request.remote or "", request.headers.getall(HEADER, ()))
            request = request.clone(remote=caller)
        resource = request.match_info.route.resource
        # The pattern, not the path, in logs and metrics: a path may hold a key, and is the caller's to choose.
        route = resource.canonical if resource is not None else "unknown"
        response: web.StreamResponse
        raised: web.HTTPException | None = None
        task = asyncio.current_task()
        if task is not None:
            task.set_name(route)  # the watchdog names it when it blocks the event loop
        try:
            with self._limits_of(request.app).request(request, request.client_max_size):
                response = await handler(request)
        except web.HTTPException as error:
            response = raised = error
        except Exception as error:
            response = self._refusal(request, route, error)
        if self._leaving:
            response.force_close()
        self._count(route, response.status)
        if tells_debug():
            _log.debug("http", route=route, status=response.status, seconds=round(time.perf_counter() - began, 6))
        if raised is not None:
            raise raised
        return response

    def _refusal(self, request: web.Request, route: str, error: Exception) -> web.Response:
        # In a function of its own: a frame that holds an error from below it is a cycle, and keeps all objects of these frames
        # alive.
        answer = masked(error)
        more = self._lines.take(source_of(request.remote or ""), time.monotonic())
        if more is not None:
            _log.info("http", route=route, status=answer.code.name, reason=answer.reason_name, **more)
        return error_response(answer)

    def _count(self, route: str, status: int) -> None:
        counter = self._counters.get((route, status))
        if counter is None:
            counter = self._counters[route, status] = self._metrics.http_total.labels(route, str(status))
        counter.inc()

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def _get_healthz(self, _request: web.Request) -> web.Response:
        """The process answers: restarting it would not help."""
        return web.json_response({"alive": True})

    async def _get_readyz(self, _request: web.Request) -> web.Response:
        """Whether requests should be sent here, and if not, why."""
        serving = self._health.serving
        return web.json_response({"ready": serving, "checks": self._health.report()}, status=200 if serving else 503)

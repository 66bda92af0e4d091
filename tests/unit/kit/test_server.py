"""The server around the pipeline: registration, health, reflection, TLS, stopping; and the client's channel."""

import asyncio
import contextlib
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.auth import JwtAuthenticator, Principal, TokenSource
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc import server as server_module
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.health import Health, HealthCheck
from tocsin_kit.rpc.server import Call, RpcServer, current_call
from tocsin_kit.rpc.tls import ClientFiles, client_credentials
from tocsin_kit.settings import ServiceSettings, read
from tocsin_testkit.busy import within

from tests.certificates import make_certificates
from tests.wired import KEYS

Check = health_pb2.HealthCheckRequest
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def internal(settings: ServiceSettings) -> TokenSource:
    return TokenSource(settings.signing_keys, "tester")


class Grant(JwtAuthenticator):
    """Lets the services' own token use the test's methods, which demand the scope echo:use."""

    async def authenticate(self, token: str) -> Principal | None:
        principal = await super().authenticate(token)
        return principal and Principal(principal.org_id, principal.subject, principal.scopes | {"echo:use"})


async def test_a_service_is_added_once(settings: ServiceSettings, echo: Any) -> None:
    server = RpcServer(settings, authenticators=[], metrics=Metrics())
    server.add(echo.Echo(), echo.add_to_server)
    with pytest.raises(ValueError, match="is added already"):
        server.add(echo.Echo(), echo.add_to_server)


async def test_a_servicer_without_a_generated_base_class_names_what_registers_it(
    settings: ServiceSettings, echo: Any
) -> None:
    server = RpcServer(settings, authenticators=[], metrics=Metrics())
    with pytest.raises(TypeError, match="Echo has no generated base class"):
        server.add(echo.Echo())


async def test_a_method_without_a_scope_cannot_be_served(settings: ServiceSettings, echo: Any) -> None:
    server = RpcServer(settings, authenticators=[], metrics=Metrics())
    with pytest.raises(ValueError, match=r"OpenService/Unary names no scope"):
        server.add(
            echo.Echo(),
            lambda servicer, target: echo.add_to_server(servicer, target, "kittest.v1.OpenService"),
        )


async def test_a_taken_port_is_an_error(serve: Any, echo: Any, settings: ServiceSettings) -> None:
    first = await serve(echo.Echo())
    taken = settings.model_copy(update={"grpc_listen": f"127.0.0.1:{first.port}"})
    with pytest.raises(RuntimeError):
        await serve(echo.Echo(), using=taken)


@pytest.mark.parametrize(("allowed", "taken"), [(1 << 18, False), (1 << 20, True)])
async def test_how_large_a_message_may_be(
    serve: Any, connect: Any, echo: Any, monkeypatch: pytest.MonkeyPatch, allowed: int, taken: bool
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://unused")
    monkeypatch.setenv("AUTH_SIGNING_KEYS", KEYS)
    monkeypatch.setenv("GRPC_MAX_MESSAGE_BYTES", str(allowed))
    client = connect(await serve(echo.Echo(), using=read(ServiceSettings)))
    items = [{"name": "x" * 1000}] * 400
    with contextlib.nullcontext() if taken else pytest.raises(grpc.aio.AioRpcError, match=f"takes {allowed}"):
        assert await client.call("Unary", echo.Request(text="hello", items=items)) == ["hello"]


async def test_health_follows_the_critical_checks(serve: Any, connect: Any, echo: Any) -> None:
    failing = {"store", "cache"}

    def check(name: str) -> Callable[[], Any]:
        async def run() -> None:
            if name in failing and name == "store":
                raise TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "the store is away")
            if name in failing:
                raise ConnectionError(f"{name} is away")

        return run

    metrics = Metrics()
    health = Health(
        [HealthCheck("store", check("store")), HealthCheck("cache", check("cache"), critical=False)], metrics
    )
    server = await serve(echo.Echo(), health_checks=health)
    stub: Any = health_pb2_grpc.HealthStub(connect(server).channel)

    async def state(service: str = "") -> int:
        return int((await stub.Check(Check(service=service))).status)

    watch = aiter(stub.Watch(Check(service=echo.SERVICE)))
    assert (await anext(watch)).status == NOT_SERVING
    assert health.report() == {"store": "unchecked", "cache": "unchecked"}
    await health.check_once()
    assert await state() == NOT_SERVING
    failing.discard("store")
    await health.check_once()
    assert [await state(), await state(echo.SERVICE)] == [SERVING, SERVING]
    assert (await anext(watch)).status == SERVING
    assert health.report() == {"store": "ok", "cache": "ConnectionError: cache is away"}
    assert metrics.registry.get_sample_value("tocsin_health", {"check": "cache"}) == 0
    failing.add("store")
    await health.check_once()
    assert await state() == NOT_SERVING
    assert health.report()["store"] == "the store is away", "words for an operator, without the class"
    failing.clear()
    await health.check_once()
    assert await state() == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await state("no.such.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_stopping_says_so_ends_watches_and_finishes_calls(
    serve: Any, connect: Any, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_TURNING_AWAY_STEP", 0.5)  # a busy machine may need it
    began, go = asyncio.Event(), asyncio.Event()

    async def act(text: str) -> str:
        began.set()
        await go.wait()
        return text

    server = await serve(echo.Echo(act))
    await server.health.check_once()
    client = connect(server)
    stub: Any = health_pb2_grpc.HealthStub(client.channel)
    watch = aiter(stub.Watch(Check()))
    assert (await anext(watch)).status == SERVING
    call = asyncio.create_task(client.call("Unary", echo.Request(text="last")))
    await began.wait()
    stopping = asyncio.create_task(server.stop(30))
    assert (await anext(watch)).status == NOT_SERVING
    for _ in range(3):
        # Not CANCELLED, as gRPC's own server says to what it has not begun: no client repeats that.
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await client.call("Unary", echo.Request(text="too late"))
        assert told.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "send it again" in str(told.value.details())
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    go.set()
    assert await call == ["last"]
    async with asyncio.timeout(5):
        await stopping


async def test_a_connection_ends_with_its_age_and_a_stream_some_time_later(
    serve: Any, connect: Any, echo: Any, settings: ServiceSettings
) -> None:
    class Peer(echo.Echo):  # type: ignore[misc]
        async def Unary(self, request: Any, context: Any) -> Any:
            return echo.Response(text=context.peer())

    class Messages:
        def __aiter__(self) -> "Messages":
            return self

        async def __anext__(self) -> Any:
            return await messages.get()

    # The stream is still there when a slow machine has seen the second connection.
    ages = {"grpc_max_connection_age_seconds": 0.5, "grpc_max_stream_seconds": 2.0}
    client = connect(await serve(Peer(), using=settings.model_copy(update=ages)))
    messages: asyncio.Queue[Any] = asyncio.Queue()
    stream = client.channel.stream_stream(
        f"/{echo.SERVICE}/BidiStream", echo.Request.SerializeToString, echo.Response.FromString
    )(Messages(), metadata=client.metadata)
    peers: set[str] = set()
    async with asyncio.timeout(30):
        while len(peers) < 2:
            peers.update(await client.call("Unary", echo.Request(), timeout=None))
            await asyncio.sleep(0.05)
        messages.put_nowait(echo.Request(text="still"))
        assert (await stream.read()).text == "still"
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()


async def test_reflection_can_be_read_by_the_real_grpcurl(
    serve: Any, echo: Any, settings: ServiceSettings, token: str
) -> None:
    grpcurl = Path(sysconfig.get_path("scripts")) / "grpcurl"
    if not grpcurl.exists():
        pytest.skip(f"no grpcurl for {sys.platform}")
    server = await serve(echo.Echo(str.upper))

    async def run(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            str(grpcurl), "-plaintext", *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await process.communicate()
        return output.decode()

    address = f"127.0.0.1:{server.port}"
    assert echo.SERVICE in await run(address, "list")
    authorization = f"authorization: Bearer {token}"
    answer = await run("-H", authorization, "-d", '{"text": "abc"}', address, f"{echo.SERVICE}/Unary")
    assert '"text": "ABC"' in answer
    hidden = await serve(echo.Echo(), using=settings.model_copy(update={"reflection": False}))
    assert echo.SERVICE not in await run(f"127.0.0.1:{hidden.port}", "list")


async def test_a_channel_brings_identity_trace_and_deadline(
    serve: Any, echo: Any, settings: ServiceSettings, internal: TokenSource
) -> None:
    seen: list[Call] = []
    left: list[float | None] = []

    def note(text: str) -> None:
        seen.append(current_call())
        left.append(current_call().remaining())

    grant = Grant(settings.signing_keys)
    server = await serve(echo.Echo(note), authenticators=[grant])
    await server.health.check_once()
    async with channel(f"127.0.0.1:{server.port}", service_name="echo", tokens=internal) as below:
        await echo.Client(below).call("Unary", echo.Request(), timeout=None)
        await echo.Client(below).call("BidiStream", echo.Request(), timeout=None)

        outer: list[Call] = []

        async def forward(text: str) -> str:
            outer.append(current_call())
            return str(await echo.Client(below).call("Unary", echo.Request(), timeout=None))

        above = await serve(echo.Echo(forward), authenticators=[grant])
        await above.health.check_once()
        async with channel(f"127.0.0.1:{above.port}", service_name="above", tokens=internal) as top:
            await echo.Client(top).call("Unary", echo.Request(), timeout=1.0)
    unary, stream, inner = seen
    assert unary.principal == Principal("*", "services/tester", frozenset({"internal", "echo:use"}))
    assert unary.acting_for("acme") == "acme"
    assert 0 < (left[0] or 0) < 2.5, "the usual 2 s; gRPC reads the clock once per poll, so some may be left over"
    assert stream.remaining() is None
    assert inner.trace_id == outer[0].trace_id != unary.trace_id
    assert (inner.deadline or 0) < (outer[0].deadline or 0)


async def test_a_channel_repeats_only_what_was_unavailable(
    serve: Any, echo: Any, settings: ServiceSettings, internal: TokenSource
) -> None:
    calls: dict[str, int] = {}

    def act(text: str) -> str:
        calls[text] = calls.get(text, 0) + 1
        if text == "away" and calls[text] < 3:
            raise TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "away")
        if text == "stopping" and calls[text] < 2:
            reason = ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE
            raise TocsinError(reason, "as gRPC says it", code=grpc.StatusCode.CANCELLED)
        if text == "busy":
            raise TocsinError(ErrorReason.ERROR_REASON_CONFLICT, "busy")
        return text

    server = await serve(echo.Echo(act), authenticators=[Grant(settings.signing_keys)])
    await server.health.check_once()
    async with channel(f"127.0.0.1:{server.port}", service_name="echo", tokens=internal) as below:
        client = echo.Client(below)
        assert await client.call("Unary", echo.Request(text="away")) == ["away"]
        assert await client.call("Unary", echo.Request(text="stopping")) == ["stopping"]
        with pytest.raises(grpc.aio.AioRpcError):
            await client.call("Unary", echo.Request(text="busy"))
    assert calls == {"away": 3, "stopping": 2, "busy": 1}


async def test_a_channel_avoids_replicas_that_do_not_serve(
    serve: Any, echo: Any, settings: ServiceSettings, internal: TokenSource
) -> None:
    grant = Grant(settings.signing_keys)
    servers = [await serve(echo.Echo(lambda text, name=name: name), authenticators=[grant]) for name in ("one", "two")]
    for server in servers:
        await server.health.check_once()
    target = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
    async with channel(target, service_name="echo", tokens=internal) as below:
        client = echo.Client(below)

        async def answers() -> set[str]:
            return {(await client.call("Unary", echo.Request()))[0] for _ in range(10)}

        async with asyncio.timeout(within(10)):
            while await answers() != {"one", "two"}:
                pass
            servers[0].health.shut_down()
            while await answers() != {"two"}:
                pass


async def test_a_target_that_is_away_is_service_unavailable(echo: Any, internal: TokenSource) -> None:
    async with channel("127.0.0.1:1", service_name="echo", tokens=internal) as below:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.Client(below).call("Unary", echo.Request(), timeout=0.3)
    error = from_rpc_error(caught.value, service="echo")
    assert error.reason == ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE
    assert error.metadata == {"service": "echo"}


async def test_mtls_lets_in_who_shows_a_certificate(
    serve: Any, echo: Any, settings: ServiceSettings, internal: TokenSource, tmp_path: Path
) -> None:
    made = make_certificates(tmp_path)
    files = {"cert": made.certificate, "key": made.key, "client_ca": made.authority, "server_ca": made.authority}
    secure = settings.model_copy(update={f"tls_{name}_file": str(path) for name, path in files.items()})
    server = await serve(echo.Echo(), using=secure, authenticators=[Grant(settings.signing_keys)])
    await server.health.check_once()
    target = f"127.0.0.1:{server.port}"

    async def call(credentials: ClientFiles | None) -> list[str]:
        async with channel(target, service_name="echo", tokens=internal, tls=credentials) as below:
            answer: list[str] = await echo.Client(below).call("Unary", echo.Request(text="hi"), timeout=2)
            return answer

    assert await call(client_credentials(secure)) == ["hi"]
    without_certificate = secure.model_copy(update={"tls_cert_file": "", "tls_key_file": ""})
    for credentials in (client_credentials(without_certificate), None):
        with pytest.raises(grpc.aio.AioRpcError):
            await call(credentials)


async def test_a_client_with_as_many_calls_at_once_as_a_tenant_may_have_is_answered(
    serve: Any, connect: Any, echo: Any
) -> None:
    """gRPC refuses what goes beyond GRPC_MAX_CONNECTION_CALLS of one connection, and counts a call for a moment after its end."""
    client = connect(await serve(echo.Echo()))
    for _ in range(2):
        answers = await asyncio.gather(
            *(client.call("Unary", echo.Request(text="x"), timeout=within(30)) for _ in range(1000))
        )
        assert answers == [["x"]] * 1000

"""What a stranger or one tenant can take of a server: never what everybody else needs."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tocsin_kit.auth import mint
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc import anonymous as anonymous_module
from tocsin_kit.rpc import server as server_module
from tocsin_kit.rpc.call_limits import AnonymousCall, AnonymousCalls, CallLimits
from tocsin_kit.settings import ServiceSettings
from tocsin_testkit.busy import within

from tests.abuse.echo_process import echo_server
from tests.abuse.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    BlockingHttp2,
    Http2,
    connected,
    frame,
    headers,
    unfinished,
)

FLOOD = 2000 if os.environ.get("ABUSE_SECONDS") else 300
"""Streams of one flood; `make abuse` opens as many as the limits of old let through."""
UNARY = "/kittest.v1.EchoService/Unary"
BIDI = "/kittest.v1.EchoService/BidiStream"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
Check = health_pb2.HealthCheckRequest


async def refused(call: Any) -> TocsinError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


@pytest.fixture
async def apart(echo: Any, token: str) -> AsyncIterator[Any]:
    """Clients with a connection of their own: gRPC's channels of one process share theirs otherwise."""
    channels: list[grpc.aio.Channel] = []

    def open_client(server: Any, *, using: str | None = None) -> Any:
        options = (("grpc.use_local_subchannel_pool", 1),)
        channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options))
        return echo.Client(channels[-1], token if using is None else using)

    yield open_client
    for channel in channels:
        await channel.close()


@contextlib.asynccontextmanager
async def streams(channel: grpc.aio.Channel, path: str, count: int, metadata: Any = None) -> AsyncIterator[list[Any]]:
    """`count` open streams of bytes, each with one message sent."""
    opened: list[Any] = [channel.stream_stream(path)(metadata=metadata) for _ in range(count)]
    for each in opened:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await each.write(b"")
    try:
        yield opened
    finally:
        for each in opened:
            each.cancel()


async def counted(opened: list[Any], alive: int) -> None:
    """Waits until just `alive` of the streams are still open."""
    async with asyncio.timeout(within(20)):
        while sum(not each.done() for each in opened) != alive:
            await asyncio.sleep(0.01)


async def test_streams_do_not_take_the_room_of_unary_calls(
    serve: Any, apart: Any, echo: Any, settings: ServiceSettings
) -> None:
    server = await serve(echo.Echo(), using=settings.model_copy(update={"grpc_max_streams": 100}))
    hog, other = apart(server), apart(server)
    async with streams(hog.channel, BIDI, FLOOD, hog.metadata) as opened:
        await counted(opened, 10)  # a tenth on one connection
        assert await hog.call("Unary", echo.Request(text="unary"), timeout=30) == ["unary"]
        async with streams(other.channel, BIDI, 30, other.metadata) as more:
            await counted(more, 10)  # a fifth of one tenant
        keys = settings.signing_keys
        neighbour = apart(server, using=mint(keys, org_id="b", subject="users/b", scopes={"echo:use"}, ttl=60))
        assert await neighbour.call("BidiStream", echo.Request(text="stream"), timeout=30) == ["stream"]
        codes = {await each.code() for each in opened if each.done()}
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes


async def test_a_tenant_takes_half_of_the_calls_and_the_services_find_room(
    serve: Any, apart: Any, echo: Any, settings: ServiceSettings
) -> None:
    keys, go, begun = settings.signing_keys, asyncio.Event(), 0

    async def act(text: str) -> str:
        nonlocal begun
        begun += 1
        await go.wait()
        return text

    metrics = Metrics()
    server = await serve(
        echo.Echo(act), using=settings.model_copy(update={"grpc_max_concurrent_rpcs": 10}), metrics=metrics
    )
    request = echo.Request(text="x")
    tokens = [mint(keys, org_id=org, subject="users/u", scopes={"echo:use"}, ttl=60) for org in ("a", "b")]
    tokens.append(mint(keys, org_id="*", subject="services/s", scopes={"echo:use", "internal"}, ttl=60))
    clients = [apart(server, using=token) for token in tokens]

    async def hold(client: Any, count: int) -> list[asyncio.Task[Any]]:
        already = begun
        held = [asyncio.create_task(client.call("Unary", request, timeout=30)) for _ in range(count)]
        async with asyncio.timeout(within(10)):
            while begun < already + count:
                await asyncio.sleep(0.001)
        return held

    held = await hold(clients[0], 5)
    error = await refused(clients[0].call("Unary", request))
    assert (error.reason_name, error.metadata["limit"], error.metadata["allowed"]) == ("OVERLOADED", "calls: one", "5")
    assert error.retry_after is not None
    held += await hold(clients[1], 4)
    assert (await refused(clients[1].call("Unary", request))).metadata["limit"] == "calls: all"
    assert metrics.registry.get_sample_value("tocsin_rpc_open", {"kind": "calls"}) == 9
    held += await hold(clients[2], 1)
    go.set()
    assert await asyncio.gather(*held) == [["x"]] * 10
    assert await clients[0].call("Unary", request) == ["x"]


@pytest.mark.parametrize("kind", ["watch", "reflection"])
async def test_who_floods_health_or_reflection_finds_their_end_and_others_room(
    serve: Any, apart: Any, echo: Any, kind: str
) -> None:
    server = await serve(echo.Echo())
    await server.health.check_once()
    hog, other = apart(server, using=""), apart(server)
    path = (
        "/grpc.health.v1.Health/Watch"
        if kind == "watch"
        else "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    async with streams(hog.channel, path, FLOOD) as opened:
        await counted(opened, 20)
        stub: Any = health_pb2_grpc.HealthStub(other.channel)
        assert (await stub.Check(Check(), timeout=30)).status == health_pb2.HealthCheckResponse.SERVING
        assert await anext(aiter(stub.Watch(Check(), timeout=30)))
        reflect: Any = reflection_pb2_grpc.ServerReflectionStub(other.channel)
        asked = reflect.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5
        )
        assert [each async for each in asked]
        assert await other.call("Unary", echo.Request(text="x"), timeout=30) == ["x"]


async def test_the_host_with_the_most_guests_makes_room() -> None:
    places, stack = AnonymousCalls("guests", 4, 2, Metrics()), contextlib.ExitStack()

    def admit(peer: str) -> AnonymousCall:
        return stack.enter_context(places.admit(peer))

    with stack:
        alone = admit("ipv4:10.0.0.9:1")
        many = [admit(f"ipv4:10.0.0.1:{port}") for port in (1, 1, 2)]
        with pytest.raises(TocsinError, match="this connection has 2"):
            admit("ipv4:10.0.0.1:1")
        newcomer = admit("ipv4:10.0.0.8:1")
        assert [call.gone.done() for call in (alone, *many, newcomer)] == [False, True, False, False, False]
        with pytest.raises(TocsinError, match="newer ones"):
            await many[0].wait(asyncio.sleep(3600), None)
        with pytest.raises(TimeoutError):
            await alone.wait(asyncio.sleep(3600), 0.001)
        assert await alone.wait(asyncio.sleep(0, "done"), 5) == "done"
    assert (places._of_host, places._of_peer, len(places._open)) == ({}, {}, 0)


async def test_guests_of_one_ipv6_network_are_one_host() -> None:
    places, stack = AnonymousCalls("guests", 4, 2, Metrics()), contextlib.ExitStack()
    with stack:
        calls = [
            stack.enter_context(places.admit(f"ipv6:%5B2001:db8:{peer}%5D:5000"))
            for peer in ("1::1", "1::2", "7::1", "7::1", "9::1")
        ]
        assert [call.gone.done() for call in calls] == [True, False, False, False, False]
    with stack:
        calls = [
            stack.enter_context(places.admit(f"ipv6:%5B2001:db8:{peer}%5D:5000"))
            for peer in ("7::1", "1::1", "1::2", "1::3", "9::1")
        ]
        assert [call.gone.done() for call in calls] == [False, True, False, False, False]


def test_rooms_are_empty_again() -> None:
    limits = CallLimits(10, 10, Metrics())
    for who in ("a", "a", "b", "*"):
        limits.calls.enter(who)
    for who in ("b", "a", "*", "a"):
        limits.calls.leave(who)
    assert (limits.calls._open, limits.calls._open_of) == (0, {})


async def test_a_stranger_who_reads_no_answer_is_answered_no_more(serve: Any, apart: Any, echo: Any) -> None:
    """gRPC keeps an answer until it was read or its connection ends: 2,000 calls of each of 10,000 connections were 270 GB."""
    server = await serve(echo.Echo())
    await server.health.check_once()
    async with connected(server.port, reads=False) as hog, asyncio.timeout(within(30)):
        calls = [await hog.ask(HEALTH_CHECK) for _ in range(anonymous_module._MOST_UNREAD)]
        assert hog.ended.isdisjoint(calls)
        await hog.wait_ended(await hog.ask(HEALTH_CHECK))
        stub: Any = health_pb2_grpc.HealthStub(apart(server, using="").channel)
        assert (await stub.Check(Check(), timeout=30)).status == health_pb2.HealthCheckResponse.SERVING
        hog.reset(calls[0])
        await until_open(hog, HEALTH_CHECK)


async def test_a_tenant_that_reads_no_answer_is_answered_no_more(
    serve: Any, apart: Any, echo: Any, settings: ServiceSettings, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_ANSWERS_FACTOR", 1)
    server = await serve(echo.Echo(), using=settings.model_copy(update={"grpc_max_message_bytes": 256 << 10}))
    metadata = [("authorization", f"Bearer {token}")]
    request = echo.Request(text="x").SerializeToString()
    async with connected(server.port, reads=False) as hog, asyncio.timeout(within(30)):
        # Half of 256 KiB: seven answers, each with the 16 KiB that a call takes.
        calls = [await hog.ask(UNARY, request, metadata) for _ in range(7)]
        assert hog.ended.isdisjoint(calls)
        await hog.wait_ended(await hog.ask(UNARY, request, metadata))
        again = await refused(apart(server).call("Unary", echo.Request(text="x")))
        assert (again.reason_name, again.metadata["limit"]) == ("OVERLOADED", "bytes of answers: one")
        other = mint(settings.signing_keys, org_id="b", subject="users/b", scopes={"echo:use"}, ttl=60)
        assert await apart(server, using=other).call("Unary", echo.Request(text="x")) == ["x"]
        hog.reset(calls[0])
        await until_open(hog, UNARY, request, metadata)


async def until_open(hog: Http2, path: str, data: bytes = b"", metadata: Any = ()) -> None:
    """Waits until a repeated call is answered: errors end at once, also when nothing is read."""
    while True:
        number = await hog.ask(path, data, metadata)
        if number not in hog.ended:  # an error is one frame of headers, which ends its stream
            return


async def test_an_unfinished_message_ends_after_a_time(
    serve: Any, echo: Any, settings: ServiceSettings, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anonymous_module, "READ_SECONDS", 0.1)
    server = await serve(echo.Echo(), using=settings.model_copy(update={"grpc_read_seconds": 0.1}))
    async with connected(server.port) as connection, asyncio.timeout(within(20)):
        for path, metadata in ((UNARY, [("authorization", f"Bearer {token}")]), (HEALTH_CHECK, [])):
            stream = await connection.open(path, metadata)
            await connection.send(stream, unfinished(1000))
            await connection.wait_ended(stream)
        assert not connection.closed.is_set()


async def test_unfinished_messages_of_strangers_take_no_memory(settings: ServiceSettings, token: str) -> None:
    """60 messages of 2 MB without a credential: each is refused by its headers, and none is taken in."""
    count, size = 60, 2_000_000
    with echo_server(settings) as (port, _, process):
        async with connected(port) as connection, asyncio.timeout(within(60)):
            first = await connection.open(UNARY)
            await connection.wait_ended(first)
            before = process.memory_info().rss
            sent = 0
            for _ in range(count):
                stream = await connection.open(UNARY, [("authorization", "Bearer nonsense")])
                sent += await connection.send(stream, unfinished(size))
                await connection.wait_ended(stream)
            grown = process.memory_info().rss - before
        assert sent < count * size / 10
        assert grown < count * size / 5
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            invoke: Any = channel.unary_unary(UNARY)
            call = invoke(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=30)
            assert await call == b""


@pytest.mark.parametrize(("allowed_ms", "survives"), [(20, True), (60_000, False)])
async def test_the_ping_interval_is_the_one_that_is_set(
    serve: Any, echo: Any, monkeypatch: pytest.MonkeyPatch, allowed_ms: int, survives: bool
) -> None:
    monkeypatch.setattr(server_module, "_LEAST_PING_INTERVAL_MS", allowed_ms)
    server = await serve(echo.Echo())
    async with connected(server.port) as connection, asyncio.timeout(within(20)):
        for wanted in range(1, 8):
            if connection.closed.is_set():
                break
            connection.ping()
            while connection.acknowledged_pings < wanted and not connection.closed.is_set():
                await asyncio.sleep(0.005)
            # From the answer on: a slow server takes the next ping no sooner than so long after this one.
            await asyncio.sleep(0.06)
        assert (connection.goodbye == b"") is survives
        assert survives or connection.goodbye == b"too_many_pings"


def test_clients_may_ping_every_five_seconds() -> None:
    assert server_module._LEAST_PING_INTERVAL_MS < 5000


async def test_a_connection_beyond_the_limit_is_closed(serve: Any, echo: Any, settings: ServiceSettings) -> None:
    server = await serve(echo.Echo(), using=settings.model_copy(update={"grpc_max_connections": 2}))
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(within(10)):
        for _ in range(2):
            connection = await stack.enter_async_context(connected(server.port))
            connection.ping()
            while not connection.acknowledged_pings:
                await asyncio.sleep(0.001)
        third = await stack.enter_async_context(connected(server.port))
        await third.closed.wait()
        assert not connection.closed.is_set()


@pytest.mark.parametrize("reset", [False, True], ids=["open", "reset"])
async def test_calls_that_strangers_left_waiting_do_not_end_the_calls_of_others(
    serve: Any, echo: Any, settings: ServiceSettings, token: str, reset: bool
) -> None:
    """gRPC refuses calls of any sender while a thousand calls of a method wait to be begun: with CANCELLED, which no client
    repeats. A reset stream waits like another one (CVE-2023-44487).
    """
    server = await serve(echo.Echo())
    each = settings.grpc_max_connection_calls - 1
    block, cancel = headers(UNARY), (8).to_bytes(4, "big")
    opened = b"".join(
        frame(HEADERS, END_HEADERS, number, block) + (frame(RST_STREAM, 0, number, cancel) if reset else b"")
        for number in range(1, 2 * each, 2)
    )
    # Without an iteration of the loop: the calls that gRPC has read when the victim's call comes are not begun.
    strangers = [BlockingHttp2(server.port) for _ in range(3200 // each + 1)]
    for stranger in strangers:
        stranger.send(opened)
    victim = BlockingHttp2(server.port)
    request = echo.Request(text="x").SerializeToString()
    victim.send(
        frame(HEADERS, END_HEADERS, 1, headers(UNARY, [("authorization", f"Bearer {token}")]))
        + frame(DATA, END_STREAM, 1, b"\0" + len(request).to_bytes(4, "big") + request)
    )
    async with asyncio.timeout(within(60)):
        while True:
            kind, flags, _ = await asyncio.to_thread(victim.take)
            assert kind != HEADERS or not flags & END_STREAM, "an error without an answer"
            if kind == DATA:
                break
    for connection in (*strangers, victim):
        connection.close()


async def test_a_client_that_does_not_acknowledge_the_settings_is_sent_away(
    serve: Any, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_SETTINGS_MS", 200)
    server = await serve(echo.Echo())
    silent = BlockingHttp2(server.port)
    # Its headers have no end, and gRPC keeps megabytes of them.
    silent.begin(frame(HEADERS, 0, 1, headers(UNARY)))
    while await asyncio.to_thread(silent.is_open):
        pass
    silent.close()


async def test_a_connection_has_as_many_calls_as_are_allowed(
    serve: Any, echo: Any, settings: ServiceSettings, token: str
) -> None:
    server = await serve(echo.Echo(), using=settings.model_copy(update={"grpc_max_connection_calls": 3}))
    async with connected(server.port) as connection, asyncio.timeout(within(10)):
        connection.ping()
        while not connection.acknowledged_pings:
            await asyncio.sleep(0.001)
        opened = [await connection.open(BIDI, [("authorization", f"Bearer {token}")]) for _ in range(5)]
        while len(connection.ended) < 2:
            await asyncio.sleep(0.001)
        assert connection.ended == set(opened[3:])
        assert not connection.closed.is_set()

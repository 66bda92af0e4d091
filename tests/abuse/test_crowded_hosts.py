"""One host cannot take the connections of others, and connections cannot take the files that a process needs for itself."""

import asyncio
import contextlib
import resource
import socket
from typing import Any

import grpc
import pytest
from tocsin_kit import open_files, sockets
from tocsin_kit.metrics import Metrics
from tocsin_kit.proxies import Proxies
from tocsin_kit.rpc.crowded_hosts import CrowdedHosts
from tocsin_kit.settings import ServiceSettings
from tocsin_testkit.busy import until, within

from tests.abuse.http2 import connected

UNARY = "/kittest.v1.EchoService/Unary"


def connections(server: Any) -> int:
    return sum(1 for _ in sockets.connections(server.port))


async def test_one_host_leaves_half_of_all_connections_to_others(
    serve: Any, echo: Any, settings: ServiceSettings, token: str
) -> None:
    """It opens a new one for each that is ended, as a client that repeats does."""
    server = await serve(echo.Echo(), using=settings.model_copy(update={"grpc_max_connections": 20}))
    stop = asyncio.Event()

    async def comes_again(host: str) -> None:
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            with socket.socket() as connection, contextlib.suppress(OSError):
                connection.setblocking(False)
                connection.bind((host, 0))
                await loop.sock_connect(connection, ("127.0.0.1", server.port))
                while await loop.sock_recv(connection, 1000):
                    pass
            await asyncio.sleep(0.5)

    bounding = asyncio.create_task(server.bound_hosts(stop))
    strangers = [asyncio.create_task(comes_again("127.0.0.2")) for _ in range(24)]
    await until(lambda: connections(server) >= 10)
    for _ in range(5):
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", (("grpc.use_local_subchannel_pool", 1),))
        async with channel, asyncio.timeout(within(10)):
            call: Any = channel.unary_unary(UNARY)
            await call(b"", metadata=(("authorization", f"Bearer {token}"),), wait_for_ready=True)
    stop.set()
    for each in strangers:
        each.cancel()
    await asyncio.gather(bounding, *strangers, return_exceptions=True)


async def test_connections_that_were_there_stay_when_their_host_opens_more(
    serve: Any, echo: Any, settings: ServiceSettings
) -> None:
    server = await serve(echo.Echo(), using=settings.model_copy(update={"grpc_max_connections": 8}))
    stop = asyncio.Event()
    bounding = asyncio.create_task(server.bound_hosts(stop))
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(within(20)):
        first = [await stack.enter_async_context(connected(server.port)) for _ in range(4)]
        await asyncio.sleep(within(0.3))
        more = [await stack.enter_async_context(connected(server.port)) for _ in range(3)]
        for each in more:
            await each.closed.wait()
        assert not any(each.closed.is_set() for each in first)
    stop.set()
    await bounding


async def test_connections_of_one_ipv6_network_are_those_of_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host has 2^64 addresses, and could have a connection from each of them."""
    ended = list[str]()
    monkeypatch.setattr(sockets, "all_open", lambda: [sockets.Opened(each, each) for each in range(12)])
    monkeypatch.setattr(
        sockets,
        "connection",
        lambda each, port: sockets.Connection(each, port, f"2001:db8:0:{each // 10}::{each}", 5000),
    )

    def end(connection: sockets.Connection) -> bool:
        ended.append(connection.host)
        return True

    monkeypatch.setattr(sockets, "end", end)
    await CrowdedHosts(7102, 4, proxies=Proxies(), metrics=Metrics()).look()
    assert ended == [f"2001:db8:0:0::{each}" for each in range(4, 10)]
    ended.clear()
    proxies = Proxies.parse(",".join(f"2001:db8:0:0::{each}" for each in range(6)))
    await CrowdedHosts(7102, 4, proxies=proxies, metrics=Metrics()).look()
    assert ended == [], "six of the ten are proxies, and four are left for their network"


def test_connections_are_bounded_by_the_files_that_a_process_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert (open_files.most_connections(10_000), open_files.most_connections(1000, http=True)) == (512, 128)
    assert open_files.most_connections(100) == 100
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert open_files.most_connections(10_000) == 10_000


def test_a_process_takes_all_files_that_it_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: told.append(limits))
    assert open_files.raise_limit() == 4096
    assert told == [(4096, 4096)]

    def refuses(_: int, limits: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuses)
    assert open_files.raise_limit() == 1024

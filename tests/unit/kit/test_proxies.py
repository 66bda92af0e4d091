"""Whom a call comes from when proxies stand in front of a service."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from pydantic import ValidationError
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.auth import Principal
from tocsin_kit.errors import from_rpc_error
from tocsin_kit.http import HttpServer
from tocsin_kit.keys.sources import read_ranges
from tocsin_kit.metrics import Metrics
from tocsin_kit.proxies import Proxies
from tocsin_kit.rpc.health import Health
from tocsin_kit.settings import ServiceSettings

BALANCER = "10.0.0.1"
TRUSTED = "10.0.0.0/8, 2001:db8:aa::/48"


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        # Only a trusted proxy is believed.
        ("192.0.2.9", ["203.0.113.7"], "192.0.2.9"),
        ("ipv4:192.0.2.9:5000", ["203.0.113.7"], "ipv4:192.0.2.9:5000"),
        (BALANCER, ["203.0.113.7"], "203.0.113.7"),
        ("ipv4:10.0.0.1:5000", ["203.0.113.7"], "203.0.113.7"),
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("ipv6:%5B2001:db8:aa::1%5D:5000", ["2001:db8::7"], "2001:db8::7"),
        # What the caller wrote itself stands before what the proxy has added.
        (BALANCER, ["10.1.1.1, 198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        (BALANCER, ["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        # Two trusted proxies in a row.
        (BALANCER, ["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        (BALANCER, ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # With the port of the caller, as some write it.
        (BALANCER, ["203.0.113.7:49152"], "203.0.113.7"),
        (BALANCER, ["[2001:db8::7]:49152"], "2001:db8::7"),
        (BALANCER, [" 2001:db8::7 "], "2001:db8::7"),
        # What cannot be read is not passed over: what stands before it may be anybody's.
        (BALANCER, ["203.0.113.7, unknown"], BALANCER),
        (BALANCER, ["203.0.113.7, unknown, 10.0.0.2"], "10.0.0.2"),
        (BALANCER, ["203.0.113.7,"], BALANCER),
        (BALANCER, [""], BALANCER),
        (BALANCER, [], BALANCER),
        (BALANCER, [", ".join(["198.51.100.1"] * 100_000 + ["10.0.0.2"] * 40)], "10.0.0.2"),
    ],
)
def test_the_last_address_that_no_trusted_proxy_has_counts(peer: str, forwarded: Sequence[str], caller: str) -> None:
    assert Proxies.parse(TRUSTED).caller(peer, forwarded) == caller
    assert Proxies().caller(peer, forwarded) == peer


@pytest.mark.parametrize("wrong", ["the balancer", "10.0.0.0/33", "10.0.0.1/8", "0.0.0.0/0", "::/0", "10.0.0.1,,"])
def test_what_is_no_address_of_a_proxy_is_refused_at_the_start(settings: ServiceSettings, wrong: str) -> None:
    with pytest.raises(ValidationError, match="TRUSTED_PROXIES"):
        ServiceSettings.model_validate(
            {
                "database_url": "postgresql://unused",
                "auth_signing_keys": settings.auth_signing_keys,
                "TRUSTED_PROXIES": wrong,
            }
        )


@pytest.mark.parametrize(("trusted", "caller"), [("", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.7")])
async def test_a_request_comes_from_whom_the_proxy_says(settings: ServiceSettings, trusted: str, caller: str) -> None:
    async def show(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.remote} {await request.text()} {request.match_info['what']}")

    using = settings.model_copy(update={"trusted_proxies": trusted})
    server = HttpServer(using, metrics=Metrics(), health=Health())
    server.add_routes([web.post("/{what}", show)])
    await server.start()
    try:
        headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
            session.post("/alerts", data=b"body", headers=headers) as response,
        ):
            assert await response.text() == f"{caller} body alerts"
    finally:
        await server.stop()


@pytest.mark.parametrize(("trusted", "connections"), [("", 2), ("127.0.0.1", 4)])
async def test_connections_of_a_proxy_are_those_of_many_hosts(
    settings: ServiceSettings, trusted: str, connections: int
) -> None:
    using = settings.model_copy(update={"trusted_proxies": trusted, "http_max_connections": 4})
    server = HttpServer(using, metrics=Metrics(), health=Health())
    await server.start()
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(4)]
    try:
        statuses = []
        for reader, writer in opened:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            statuses.append((await reader.readline()).split()[1])
        assert statuses.count(b"200") == connections
    finally:
        for _, writer in opened:
            writer.close()
        await server.stop()


class FromTheOffice:
    """An authenticator whose credential is good in one place only."""

    async def authenticate(self, token: str) -> Principal | None:
        return Principal("acme", "users/ana", frozenset({"echo:use"}), sources=read_ranges(["203.0.113.0/24"]))


@pytest.mark.parametrize(
    ("trusted", "forwarded", "allowed"),
    [
        ("", "203.0.113.7", False),
        ("127.0.0.1", "203.0.113.7", True),
        ("127.0.0.1", "203.0.113.7, 198.51.100.1", False),
        ("127.0.0.1", "", False),
    ],
)
async def test_a_call_comes_from_whom_the_proxy_says(
    serve: Any, connect: Any, echo: Any, settings: ServiceSettings, trusted: str, forwarded: str, allowed: bool
) -> None:
    using = settings.model_copy(update={"trusted_proxies": trusted})
    client = connect(await serve(echo.Echo(), using=using, authenticators=[FromTheOffice()]))
    metadata = (("authorization", "Bearer key"), *((("x-forwarded-for", forwarded),) if forwarded else ()))
    call = client.call("Unary", echo.Request(text="a"), metadata=metadata)
    if allowed:
        assert await call == ["a"]
    else:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert from_rpc_error(caught.value).reason == ErrorReason.ERROR_REASON_SOURCE_NOT_ALLOWED

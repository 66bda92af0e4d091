"""What a stranger can take of the HTTP listener: some connections for some seconds."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tocsin_kit.http import HttpServer
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.health import Health
from tocsin_kit.settings import ServiceSettings
from tocsin_testkit.busy import until, within

from tests.abuse.echo_process import echo_server
from tests.certificates import make_certificates

HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
OTHER_HOST = ("127.0.0.2", 0)
OWN_HOST = ("127.0.0.1", 0)
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


@pytest.fixture
async def listen(settings: ServiceSettings) -> AsyncIterator[Callable[..., Any]]:
    """Starts a server with other limits."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**limits: Any) -> HttpServer:
            using = settings.model_copy(update=limits)
            server = HttpServer(using, metrics=limits.pop("metrics", Metrics()), health=Health())
            server.add_routes([web.post("/echo", answer)])
            server.add_operator_routes([web.get("/operators", answer)])
            await server.start()
            stack.push_async_callback(server.stop)
            return server

        yield start


@pytest.fixture
def tls(tmp_path: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """Settings of a listener with a certificate, and what trusts it."""
    made = make_certificates(tmp_path)
    files = {"tls_cert_file": str(made.certificate), "tls_key_file": str(made.key)}
    return files, ssl.create_default_context(cafile=str(made.authority))


@contextlib.asynccontextmanager
async def connected(port: int, sending: bytes = b"", **options: Any) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    writer.write(sending)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What came until the server closed the connection."""
    async with asyncio.timeout(within(20)):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def works(port: int, tls: ssl.SSLContext | None = None, host: tuple[str, int] = OTHER_HOST) -> bool:
    connector = aiohttp.TCPConnector(local_addr=host)
    url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/echo"
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(url, data=b"x" * 10, ssl=tls or True, raise_for_status=True) as response,
    ):
        return await response.text() == "10"


async def works_soon(port: int) -> bool:
    """Asks up to three times: where a tenth of a second is all the time that a request has, one on a busy machine may be cut off
    like the stranger's. Any other answer counts at once, and so does a connection that is not accepted."""
    for _ in range(2):
        try:
            return await works(port)
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
            raise
        except aiohttp.ClientConnectionError:  # closed or reset, while writing or while reading
            continue
        except aiohttp.ClientResponseError as error:
            if error.status != web.HTTPRequestTimeout.status_code:
                raise
    return await works(port)


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"X: " + b"y" * 1000], ids=["nothing", "a part", "a long line"])
async def test_headers_that_do_not_come_end_the_connection(listen: Any, sent: bytes) -> None:
    server = await listen(http_header_seconds=0.1)
    async with connected(server.port, sent) as (reader, _):
        assert await everything(reader) == b""
    assert await works_soon(server.port)


async def test_a_body_that_does_not_come_is_answered_408(listen: Any) -> None:
    server = await listen(http_body_seconds=0.1)
    async with connected(server.port, HEAD + b"Connection: close\r\n\r\nsome") as (reader, _):
        assert (await everything(reader)).startswith(b"HTTP/1.1 408 ")
    assert await works_soon(server.port)


async def test_an_idle_connection_is_closed(listen: Any) -> None:
    server = await listen(http_idle_seconds=0.1)
    async with connected(server.port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as (reader, _):
        assert (await everything(reader)).startswith(b"HTTP/1.1 200 ")


async def test_a_host_takes_half_of_the_connections(listen: Any) -> None:
    server = await listen(http_max_connections=10)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(connected(server.port, HEAD))
        reader, _ = await stack.enter_async_context(connected(server.port, HEAD))
        assert (await everything(reader)).startswith(b"HTTP/1.1 503 ")
        assert await works(server.port)
    async with asyncio.timeout(within(10)):
        while server._limits._open:
            await asyncio.sleep(0.01)
    assert server._limits._waiting == {}


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a part of a greeting"])
async def test_connections_that_do_not_begin_tls_count_and_end(
    listen: Any, tls: tuple[dict[str, str], ssl.SSLContext], sent: bytes
) -> None:
    files, trusting = tls
    server = await listen(**files, http_max_connections=10, http_header_seconds=2.0)
    async with contextlib.AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connected(server.port, sent)) for _ in range(5)]
        await until(lambda: server._limits._open.total() == 5)
        sixth, _ = await stack.enter_async_context(connected(server.port, sent))
        assert await everything(sixth) == b""
        assert await works(server.port, trusting)
        for reader, _ in silent:
            assert await everything(reader) == b""
    await until(lambda: not server._limits._open)
    assert server._limits._waiting == {}
    assert await works(server.port, trusting, OWN_HOST)


async def test_bodies_under_way_have_a_budget(listen: Any) -> None:
    server = await listen(http_max_body_bytes=1000)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(connected(server.port, HEAD + b"\r\nsome"))
        async with asyncio.timeout(within(10)):
            while sum(server._limits._bytes.values()) < 500:
                await asyncio.sleep(0.001)
        reader, _ = await stack.enter_async_context(connected(server.port, HEAD + b"Connection: close\r\n\r\nsome"))
        refused = await everything(reader)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 2" in refused
        assert b"OVERLOADED" in refused
        assert await works(server.port)
    async with asyncio.timeout(within(10)):
        while server._limits._bytes:
            await asyncio.sleep(0.01)
    assert server._limits._all_bytes == 0


async def test_operators_find_their_listener_and_senders_do_not(listen: Any) -> None:
    server = await listen(admin_listen="127.0.0.1:0", http_max_connections=2)
    assert server.admin_port != server.port
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def status(port: int, path: str) -> int:
            async with session.get(f"http://127.0.0.1:{port}{path}", headers={"Connection": "close"}) as response:
                return response.status

        public = [await status(server.port, path) for path in ("/metrics", "/readyz", "/healthz", "/operators")]
        assert public == [404, 404, 200, 404]
        # The test's health has no checks and was never run: not ready, and told so.
        admin = [
            await status(server.admin_port, path) for path in ("/metrics", "/readyz", "/healthz", "/echo", "/operators")
        ]
        assert admin == [200, 503, 200, 404, 200]
        for _ in range(2):
            await stack.enter_async_context(connected(server.port, HEAD))
        assert await status(server.admin_port, "/metrics") == 200
    shared = await listen()
    assert shared.admin_port == shared.port


async def test_operators_listener_lets_silent_connections_go_and_keeps_others(listen: Any) -> None:
    server = await listen(admin_listen="127.0.0.1:0", http_header_seconds=0.5)
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with connected(server.admin_port, asked) as (reader, _), connected(server.admin_port, HEAD) as (silent, _):
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        assert server._admin_limits.open() == 2
        assert await everything(silent) == b""
        await until(lambda: server._admin_limits.open() == 1)
        assert server._admin_limits._waiting == {}


async def test_three_hundred_bodies_take_the_memory_of_the_budget(settings: ServiceSettings) -> None:
    count, size, budget = 300, 1_000_000, 20_000_000
    using = settings.model_copy(update={"http_max_body_bytes": budget, "shutdown_grace_seconds": 0.5})
    with echo_server(using) as (_, port, process):
        assert await works(port)
        before = process.memory_info().rss
        head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size
        async with contextlib.AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(connected(port, head)) for _ in range(count)]

            async def fill(writer: asyncio.StreamWriter) -> None:
                with contextlib.suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(within(2)):
                        writer.write(bytes(size - 1))
                        await writer.drain()

            await asyncio.gather(*(fill(writer) for _, writer in opened))
            grown = process.memory_info().rss - before
            assert await works(port)
        assert grown < count * size / 3

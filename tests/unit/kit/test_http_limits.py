"""What is read of HTTP connections is parsed in turns: a client without a credential must not hold up the event loop."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from tocsin_kit import http_limits
from tocsin_kit.errors import TocsinError
from tocsin_kit.http import HttpServer
from tocsin_kit.http_limits import HttpLimits
from tocsin_kit.metrics import Metrics
from tocsin_kit.proxies import Proxies
from tocsin_kit.rpc.health import Health
from tocsin_kit.settings import ServiceSettings
from tocsin_kit.time_slices import SLICE_SECONDS


class Transport:
    def __init__(self) -> None:
        self.reads = True

    def get_extra_info(self, _name: str) -> Any:
        return ("127.0.0.1", 1)

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


class Parser(asyncio.Protocol):
    """Takes as long as `seconds` of a clock for each piece."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        self._reading_paused = self._buffer_paused = False
        self._clock = clock
        self._seconds = seconds
        self.came = b""

    def data_received(self, data: bytes) -> None:
        self.came += data
        self._clock[0] += self._seconds


class Client:
    """A connection whose reading is done by hand."""

    def __init__(self, limits: HttpLimits, parser: Parser) -> None:
        self.parser, self.transport = parser, Transport()
        self.connection: Any = limits.protocol(lambda: parser)()
        self.connection.connection_made(cast(Any, self.transport))

    def reads(self, data: bytes) -> int:
        """How much of it was read at once."""
        buffer = self.connection.get_buffer(-1)
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        self.connection.buffer_updated(count)
        return count


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(http_limits, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


@pytest.fixture
def limits() -> HttpLimits:
    return HttpLimits(
        connections=10, body_bytes=1000, header_seconds=60, body_seconds=60, proxies=Proxies(), metrics=Metrics()
    )


async def test_what_takes_long_to_parse_is_read_on_in_another_turn(limits: HttpLimits, clock: list[float]) -> None:
    data = bytes(100_000)
    slow, other = (Client(limits, Parser(clock, SLICE_SECONDS)) for _ in range(2))
    assert slow.reads(data) == http_limits._READ
    assert not slow.transport.reads
    # Another one in the same turn, out of hundreds that a host may have.
    assert other.reads(data) == http_limits._READ_WHEN_BUSY
    assert not other.transport.reads
    await asyncio.sleep(0)
    assert (slow.transport.reads, other.transport.reads) == (True, True)
    assert other.reads(b"abc") == 3
    assert other.parser.came.endswith(b"abc")


async def test_what_is_parsed_quickly_is_read_on_at_once(limits: HttpLimits, clock: list[float]) -> None:
    quick = Client(limits, Parser(clock, SLICE_SECONDS / 4))
    assert [quick.reads(bytes(9000)) for _ in range(3)] == [http_limits._READ] * 3
    assert quick.transport.reads


async def test_reading_goes_on_no_sooner_than_aiohttp_wants(limits: HttpLimits, clock: list[float]) -> None:
    client = Client(limits, Parser(clock, SLICE_SECONDS))
    client.reads(b"x")
    client.parser._buffer_paused = True
    await asyncio.sleep(0)
    assert not client.transport.reads


async def test_a_body_that_is_read_in_many_turns_is_complete(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_limits, "SLICE_SECONDS", 0.0)
    data = bytes(number % 251 for number in range(60_000))

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def pieces() -> Any:
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    server = HttpServer(settings, metrics=Metrics(), health=Health())
    server.add_routes([web.post("/echo", echo)])
    await server.start()
    url = f"http://127.0.0.1:{server.port}/echo"
    async with aiohttp.ClientSession() as session:
        for body in (data, pieces()):
            async with session.post(url, data=body) as response:
                assert await response.read() == data
    await server.stop()


async def test_a_trusted_proxy_uses_nothing_of_its_networks_share(limits: HttpLimits) -> None:
    limits._proxies = Proxies.parse("2001:db8::7")
    assert [limits.admit("2001:db8::7") for _ in range(5)] == [True] * 5
    assert limits.admit("2001:db8::8")


async def test_the_addresses_of_one_ipv6_network_are_one_host(limits: HttpLimits) -> None:
    """A host has 2^64 of them, and could have a connection and a body from each."""
    assert [limits.admit(f"2001:db8::{each}") for each in range(6)] == [True] * 5 + [False]
    assert limits.admit("2001:db8:0:1::1")
    limits.dismiss("2001:db8::1")
    assert limits.admit("2001:db8::77")
    body: Any = SimpleNamespace(content_length=300)
    assert limits.take_body(body, "2001:db8::1", 1000) == 300
    with pytest.raises(TocsinError):
        limits.take_body(body, "2001:db8::2", 1000)
    assert limits.take_body(body, "2001:db8:0:1::2", 1000) == 300
    limits.give_back("2001:db8::9", 300)
    assert limits.take_body(body, "2001:db8::2", 1000) == 300

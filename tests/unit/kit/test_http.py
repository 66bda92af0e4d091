"""The HTTP listener as a client meets it."""

import asyncio
import io
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.http import HttpServer
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.health import Health
from tocsin_kit.settings import ServiceSettings
from tocsin_testkit.busy import within
from yarl import URL


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
async def client(settings: ServiceSettings, health: Health) -> AsyncIterator[aiohttp.ClientSession]:
    async def act(request: web.Request) -> web.Response:
        match request.match_info["what"]:
            case "invalid":
                raise invalid("a.b", "no")
            case "busy":
                raise TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "full", retry_after=3)
            case "defect":
                raise ZeroDivisionError("hunter2")
            case "slow":
                # As a credential that must be looked up before the body is read.
                await asyncio.sleep(0.05)
            case "redirect":
                raise web.HTTPFound("/elsewhere")
        return web.Response(text=await request.text())

    server = HttpServer(settings, metrics=Metrics(), health=health)
    server.add_routes([web.post("/act/{what}", act)])
    await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session
    await server.stop()


async def test_errors_are_json_with_reason_and_fields(client: aiohttp.ClientSession) -> None:
    async with client.post("/act/invalid") as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["reason"] == "INVALID_FIELD"
    assert error["fields"] == [{"field": "a.b", "description": "no"}]
    async with client.post("/act/busy") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "3")


async def test_a_defect_is_masked(client: aiohttp.ClientSession) -> None:
    async with client.post("/act/defect") as response:
        text = await response.text()
        assert response.status == 500
    assert "error_id" in text
    assert "hunter2" not in text
    assert "ZeroDivision" not in text


async def test_a_path_that_holds_a_key_is_in_no_log(client: aiohttp.ClientSession) -> None:
    with capture_logs() as logged:
        for path in ("busy", "secret-key"):
            async with client.post(f"/act/{path}"):
                pass
    assert {line["route"] for line in logged if line["event"] == "http"} == {"/act/{what}"}
    assert "secret-key" not in str(logged)


async def test_too_large_a_body_is_refused(client: aiohttp.ClientSession) -> None:
    async with client.post("/act/echo", data=io.BytesIO(b"x" * ((32 << 20) + 1))) as response:
        assert response.status == 413


async def test_other_answers_pass(client: aiohttp.ClientSession) -> None:
    async with client.post("/act/echo", data="hi") as response:
        assert await response.text() == "hi"
    async with client.post("/act/redirect", allow_redirects=False) as response:
        assert response.status == 302
    async with client.get("/nope") as response:
        assert response.status == 404


async def test_health_and_metrics(client: aiohttp.ClientSession, health: Health) -> None:
    async with client.get("/healthz") as response:
        assert response.status == 200
    async with client.get("/readyz") as response:
        assert (response.status, (await response.json())["ready"]) == (503, False)
    await health.check_once()
    async with client.get("/readyz") as response:
        assert response.status == 200
    for _ in range(2):  # unknown paths must not become labels
        async with client.get("/some/path/a/stranger/chose"):
            pass
    async with client.get("/metrics") as response:
        text = await response.text()
    assert 'tocsin_http_total{route="/readyz",status="200"} 1.0' in text
    assert 'tocsin_http_total{route="unknown",status="404"} 2.0' in text


async def _said(server: str, *parts: bytes) -> bytes:
    """All that is answered to a client that ends its side as soon as it has said this."""
    url = URL(server)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    writer.write_eof()
    async with asyncio.timeout(within(10)):
        said = await reader.read()
    writer.close()
    return said


async def test_a_client_that_sends_and_ends_its_side_is_answered(client: aiohttp.ClientSession) -> None:
    """As `printf … | nc` does."""
    head = b"POST /act/%s HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    url = str(client._base_url)
    for what, *parts in (
        (b"slow", head % b"slow" + b"hello"),
        (b"echo", head % b"echo" + b"hello"),
        (b"echo", head % b"echo", b"hello"),
    ):
        said = await _said(url, *parts)
        assert said.startswith(b"HTTP/1.1 200"), what
        assert said.endswith(b"hello")
    assert (await _said(url, head % b"echo" + b"hel")).startswith(b"HTTP/1.1 500")  # what its handler makes of it
    for nothing in (b"", b"POST /act"):
        assert await _said(url, nothing) == b""

"""A blocked loop is seen, measured, and told by the name of what blocked it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs
from tocsin_kit.http import HttpServer
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.health import Health
from tocsin_kit.settings import ServiceSettings
from tocsin_kit.watchdog import BLOCKED, Watchdog
from tocsin_testkit.busy import within


@pytest.fixture
async def watched() -> AsyncIterator[Metrics]:
    metrics, stop = Metrics(), asyncio.Event()
    task = asyncio.create_task(Watchdog(metrics).run(stop))
    yield metrics
    stop.set()
    await task


def block(*_: object) -> str:
    """Longer than is worth a line, with room for a busy machine."""
    time.sleep(4 * BLOCKED)
    return "done"


async def told(lines: Any, blocking: Callable[[], Awaitable[None]], running: str) -> Any:
    """Blocks until it is told of, and never by another name. Other work of this process may block in the same beat, and is told of
    instead."""
    async with asyncio.timeout(within(20)):
        while True:
            await blocking()
            await asyncio.sleep(BLOCKED)  # a beat
            ours = [line for line in lines if line["event"] == "loop_blocked" and line["line"].endswith(" block")]
            assert {line["running"] for line in ours} <= {running}
            if ours:
                return ours[0]


async def test_the_rpc_is_named(watched: Metrics, serve: Any, connect: Any, echo: Any) -> None:
    client = connect(await serve(echo.Echo(block)))

    async def call() -> None:
        await client.call("Unary", echo.Request(text="x"))

    with capture_logs() as lines:
        line = await told(lines, call, f"{echo.SERVICE}/Unary")
    assert line["seconds"] > BLOCKED
    assert "test_watchdog.py" in line["line"]
    labels = {"running": line["running"]}
    assert (watched.registry.get_sample_value("tocsin_loop_blocked_seconds_total", labels) or 0) > BLOCKED


async def test_the_route_is_named(watched: Metrics, settings: ServiceSettings) -> None:
    async def act(request: web.Request) -> web.Response:
        return web.Response(text=block())

    server = HttpServer(settings, metrics=Metrics(), health=Health())
    server.add_routes([web.get("/act/{what}", act)])
    await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:

        async def call() -> None:
            async with session.get("/act/now") as answer:
                assert await answer.text() == "done"

        with capture_logs() as lines:
            await told(lines, call, "/act/{what}")
    await server.stop()


async def test_a_loop_that_turns_is_not_told_of(watched: Metrics) -> None:
    with capture_logs() as lines:
        async with asyncio.timeout(10):
            while (watched.registry.get_sample_value("tocsin_loop_lag_seconds_count") or 0) < 3:
                await asyncio.sleep(0.01)
    assert [line for line in lines if line["event"] == "loop_blocked" and line["seconds"] < BLOCKED] == []

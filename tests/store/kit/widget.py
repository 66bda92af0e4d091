"""A small service of the kit, for the tests of a service's life: `python -m tests.store.kit.widget serve | migrate | check`."""

import asyncio
import gc
from pathlib import Path
from typing import ClassVar

from aiohttp import web
from tocsin_kit.lifecycle import Runtime, Service, main, wait_or_stop
from tocsin_kit.logging import get_logger
from tocsin_kit.settings import ServiceSettings, service_settings


class Settings(ServiceSettings):
    model_config = service_settings("WIDGET_")
    renamed: ClassVar = {"LOG_LOUDNESS": "log_level"}


async def build(runtime: Runtime[Settings]) -> Service:
    log = get_logger("widget")

    async def work(stop: asyncio.Event) -> None:
        await wait_or_stop(stop, 3600)
        log.info("work_stopped", frozen=gc.get_freeze_count(), collects=gc.isenabled())

    async def hand_over(stop: asyncio.Event) -> None:
        await wait_or_stop(stop, 3600)
        log.info("hand_over_stopped")

    async def slow(request: web.Request) -> web.Response:
        log.info("slow_began")
        await runtime.stop.wait()
        await asyncio.sleep(float(request.query["seconds"]))
        log.info("slow_ended")
        return web.Response(text="finished")

    async def take(request: web.Request) -> web.Response:
        return web.Response(text=await request.text())

    async def closed() -> None:
        log.info("closed")

    runtime.loops.add("work", work)
    runtime.loops.add("hand-over", hand_over, everywhere=True)
    runtime.http.add_routes([web.get("/slow", slow), web.post("/take", take)])
    log.info("built", serves=runtime.serves, works=runtime.works)
    return Service(close=(closed,))


if __name__ == "__main__":
    main("widget", Settings, build, Path(__file__).with_name("migrations"))

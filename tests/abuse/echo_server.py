"""The kit's server with the kit's test service in a process of its own, whose memory can be watched."""

import asyncio
import sys

import uvloop
from aiohttp import web
from tocsin_kit import logging
from tocsin_kit.auth import JwtAuthenticator
from tocsin_kit.http import HttpServer
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.server import RpcServer
from tocsin_kit.settings import ServiceSettings

from tests.unit.kit import conftest as echo


async def answer(request: web.Request) -> web.Response:
    """How long the body was."""
    return web.Response(text=str(len(await request.read())))


async def main(settings: ServiceSettings) -> None:
    """Serves until the other side of standard input is closed."""
    server = RpcServer(settings, authenticators=[JwtAuthenticator(settings.signing_keys)], metrics=Metrics())
    server.add(echo.Echo(), echo.add_to_server)
    await server.health.check_once()
    await server.start()
    http = HttpServer(settings, metrics=Metrics(), health=server.health)
    http.add_routes([web.post("/echo", answer)])
    await http.start()
    print(server.port, http.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await http.stop()
    await server.stop(0)


if __name__ == "__main__":
    logging.configure(level="ERROR")
    uvloop.run(main(ServiceSettings.model_validate_json(sys.argv[1])))

"""The kit's server with the kit's test service in a process of its own, whose memory can be watched."""

import asyncio
import sys
from typing import Any

import grpc
import uvloop
from aiohttp import web
from tocsin_kit import logging
from tocsin_kit.auth import JwtAuthenticator
from tocsin_kit.http import HttpServer
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.server import RpcServer
from tocsin_kit.settings import ServiceSettings

from tests.unit.kit import conftest as echo

ROWS, ROW_BYTES = 20, 50_000
ROW_SECONDS = 0.01
"""What the database takes."""


class Lists:
    """Lists that look as if each row were read by itself."""

    async def List(self, request: Any, context: Any) -> Any:
        """A page of 1 MB."""
        answer = echo.ListResponse()
        for _ in range(ROWS):
            await asyncio.sleep(ROW_SECONDS)
            answer.items.add(name="x" * ROW_BYTES)
        return answer


def add_lists(servicer: Any, server: Any) -> None:
    """What protoc would have generated."""
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.List, echo.Request.FromString, echo.ListResponse.SerializeToString
    )
    server.add_registered_method_handlers("kittest.v1.ListService", {"List": handler})


async def answer(request: web.Request) -> web.Response:
    """How long the body was."""
    return web.Response(text=str(len(await request.read())))


async def main(settings: ServiceSettings) -> None:
    """Serves until the other side of standard input is closed."""
    server = RpcServer(settings, authenticators=[JwtAuthenticator(settings.signing_keys)], metrics=Metrics())
    server.add(echo.Echo(), echo.add_to_server)
    server.add(Lists(), add_lists)
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

"""A server that does nothing but write the same bytes to all of its streams: what telling a thousand watchers costs anyhow.

`python -m tests.bench.watching_floor` prints its port, and writes what it is sent by Tell to each stream of Watch.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

WATCH, TELL = "/floor.Floor/Watch", "/floor.Floor/Tell"


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self._waiting: set[asyncio.Queue[bytes]] = set()

    def service(self, details: Any) -> Any:
        """Messages stay bytes."""
        if details.method == WATCH:
            return grpc.unary_stream_rpc_method_handler(self._watch)
        return grpc.unary_unary_rpc_method_handler(self._tell)

    async def _watch(self, _: bytes, context: Any) -> AsyncIterator[bytes]:
        mine: asyncio.Queue[bytes] = asyncio.Queue()
        self._waiting.add(mine)
        yield b"open"
        while True:
            yield await mine.get()

    async def _tell(self, message: bytes, context: Any) -> bytes:
        for each in self._waiting:
            each.put_nowait(message)
        return b""


async def main() -> None:
    """Until killed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())

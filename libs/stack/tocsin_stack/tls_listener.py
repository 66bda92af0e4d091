"""TLS in front of an address that speaks plain text, for senders that take only https URLs."""

import asyncio
from typing import Final

from tocsin_stack.certificates import Certificates
from tocsin_stack.errors import StackError
from tocsin_stack.ports import HOST

_PIECE: Final = 64 << 10
_HANDSHAKE_SECONDS: Final = 10.0


class TlsListener:
    """Passes on what comes by TLS to the address, and its answers back. It has no time limits: the service limits its callers."""

    def __init__(self, port: int, files: Certificates, address: str) -> None:
        self.url: Final = f"https://{HOST}:{port}"
        self.files: Final = files
        self._port: Final = port
        self._address: Final = address
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises StackError when the port cannot be taken."""
        try:
            self._server = await asyncio.start_server(
                self._accept, HOST, self._port, ssl=self.files.context, ssl_handshake_timeout=_HANDSHAKE_SECONDS
            )
        except OSError as error:
            raise StackError(f"cannot listen on {HOST}:{self._port}: {error.strerror}") from error

    async def stop(self) -> None:
        """`close`, and wait until all has ended."""
        self.close()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def close(self) -> None:
        """Refuse new connections and end the open ones. By then the service has ended, and has answered what it took."""
        if self._server is not None:
            self._server.close()
        for each in self._connections:
            each.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not as asyncio does for a coroutine: Python 3.11 logs an error for each of those that is cancelled.
        task = asyncio.get_running_loop().create_task(self._hand_on(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._exchange(reader, writer)
        except OSError:
            pass  # one of the two has gone, or the service is not there: the other one is told by the end of its connection
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._address.rpartition(":")
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        asking = asyncio.ensure_future(_copy(reader, inner_writer))
        try:
            await _copy(inner_reader, writer)
            writer.close()
            await writer.wait_closed()
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            inner_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, whatever ends it, and pass the end on if the other side can be told of it."""
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    finally:
        if writer.can_write_eof():
            writer.write_eof()

"""The network between a replica in this process and PostgreSQL, which a test cuts for one replica alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

_HOST: Final = "127.0.0.1"


class Road:
    """Carries bytes both ways. `url` leads over it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.port is not None
        self._url = parts
        self._target = parts.port
        self._open = True
        self._ends: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """PostgreSQL's URL over this road."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user, _, _ = self._url.netloc.rpartition("@")
        return self._url._replace(netloc=f"{user}@{_HOST}:{port}").geturl()

    def cut(self) -> None:
        """Every connection is reset, and each new one is until `mend`."""
        self._open = False
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        """New connections arrive again."""
        self._open = True

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        if not self._open:
            writer.transport.abort()
            return
        self._ends.add(writer)  # before the next wait, so that `cut` knows of it
        there_reader, there_writer = await asyncio.open_connection(_HOST, self._target)
        ends = {writer, there_writer}
        self._ends.add(there_writer)
        if writer.transport.is_closing():
            there_writer.transport.abort()
        ways = [asyncio.create_task(_carry(*way)) for way in ((reader, there_writer), (there_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.transport.abort()
            self._ends -= ends
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def road(url: str) -> AsyncIterator[Road]:
    """One that is open."""
    road = Road(url)
    road._server = await asyncio.start_server(road._connected, _HOST, 0)
    try:
        yield road
    finally:
        road._server.close()
        road.cut()
        if road._carrying:
            await asyncio.wait(road._carrying)

"""The network to one server, such as PostgreSQL, which a test cuts for those alone who use this road."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final
from urllib.parse import urlsplit

_HOST: Final = "127.0.0.1"


class Road:
    """Carries bytes both ways. `url` and `address` lead over it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.port is not None
        self._url = parts
        self._target = parts.port
        self._open = True
        self._loses_answers = False
        self._ends: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The server's URL over this road."""
        user, _, _ = self._url.netloc.rpartition("@")
        return self._url._replace(netloc=f"{user}@{self.address}").geturl()

    @property
    def address(self) -> str:
        """Host and port."""
        assert self._server is not None
        return f"{_HOST}:{self._server.sockets[0].getsockname()[1]}"

    def lose_answers(self) -> None:
        """What the server says is lost until `cut` and `mend`, and what it is told arrives."""
        self._loses_answers = True

    def cut(self) -> None:
        """Every connection is reset, and each new one is until `mend`."""
        self._open = False
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        """New connections arrive again, and answers return."""
        self._open, self._loses_answers = True, False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        if not self._open:
            writer.transport.abort()
            return
        self._ends.add(writer)  # before the next wait, so that `cut` knows of it
        try:
            there_reader, there_writer = await asyncio.open_connection(_HOST, self._target)
        except OSError:  # the server is not there
            self._ends.discard(writer)
            writer.transport.abort()
            return
        ends = {writer, there_writer}
        self._ends.add(there_writer)
        if writer.transport.is_closing():
            there_writer.transport.abort()
        ways = [
            asyncio.create_task(_carry(reader, there_writer)),
            asyncio.create_task(_carry(there_reader, writer, loses=lambda: self._loses_answers)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.transport.abort()
            self._ends -= ends
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loses: Callable[[], bool] = lambda: False
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            if not loses():
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

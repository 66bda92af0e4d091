"""Servers on bare sockets that a channel talks to: they can break off anywhere, which no proper server does."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Final, Literal

Ending = Literal["closes", "resets", "says 421"]
ENDINGS: Final[tuple[Ending, ...]] = ("closes", "resets", "says 421")


class Line:
    """One connection, as its server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, until: bytes) -> bytes:
        """What came, up to and with `until`."""
        return await self._reader.readuntil(until)

    async def read_exactly(self, length: int) -> bytes:
        return await self._reader.readexactly(length)

    async def say(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    def end(self, ending: Ending) -> None:
        if ending == "resets":
            self._writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
            return
        if ending == "says 421":
            self._writer.write(b"421 4.3.2 shutting down\r\n")
        self._writer.close()


@contextlib.asynccontextmanager
async def listening(serve: Callable[[Line], Awaitable[None]]) -> AsyncIterator[int]:
    """Runs `serve` for each connection to the port that is given."""
    running: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(Line(reader, writer))
        writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def read_request(line: Line) -> bytes:
    """An HTTP request: its body. `head` of the line before it is dropped."""
    head = await line.read(b"\r\n\r\n")
    length = next(
        int(each.split(b":")[1]) for each in head.split(b"\r\n") if each.lower().startswith(b"content-length")
    )
    return await line.read_exactly(length)


MAIL_STAGES: Final = ("MAIL", "RCPT", "DATA", "content")


async def take_mails(
    line: Line, before: Callable[[str], Awaitable[bool]], taken: list[bytes], *, pipelining: bool = False
) -> None:
    """An SMTP server. `before(stage)` runs once the stage's command was read; False ends the session without an answer.
    Mails whose content was read whole are added to `taken`. `pipelining`: it says that commands may come together."""
    await line.say(b"220 raw ESMTP\r\n")
    while True:
        command = await line.read(b"\r\n")
        word = command[:4].upper().decode()
        if word == "EHLO" and pipelining:
            await line.say(b"250-raw\r\n250 PIPELINING\r\n")
            continue
        if word in MAIL_STAGES and not await before(word):
            return
        if word == "DATA":
            await line.say(b"354 go on\r\n")
            content = await line.read(b"\r\n.\r\n")
            taken.append(content)
            if not await before("content"):
                return
        await line.say(b"250 ok\r\n")

"""A mail server as a process of its own, so that what it costs is no part of what is measured beside it.

It speaks what SMTP (RFC 5321) needs to hand in a mail, and PIPELINING (RFC 2920): what comes together is answered together.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

_TAKEN: Final = b"250 ok\r\n"
_ANSWERS: Final = {
    b"EHLO": b"250-bench\r\n250 PIPELINING\r\n",
    b"HELO": _TAKEN,
    b"MAIL": _TAKEN,
    b"RCPT": _TAKEN,
    b"NOOP": _TAKEN,
    b"RSET": _TAKEN,
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}
_PATIENCE: Final = 900


class Arrived(NamedTuple):
    """What has come so far."""

    mails: int
    addresses: int
    """Different ones."""
    size: int
    """Of the last mail, in bytes."""
    time: float
    """By `time.monotonic`, which all processes of a machine share: when the last of those asked for came."""


class Mailbox:
    """Starts the server, and asks it."""

    async def start(self) -> None:
        """`port` is known then."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.mailbox"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.port = int(await self._line())

    async def stop(self) -> None:
        """It ends with its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def until(self, count: int) -> Arrived:
        """When so many have come. One question at a time."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % count)
        async with asyncio.timeout(_PATIENCE):
            mails, addresses, size, at = (await self._line()).split()
        return Arrived(int(mails), int(addresses), int(size), float(at))

    async def now(self) -> Arrived:
        """What has come by now."""
        return await self.until(0)

    def processor_seconds(self) -> float:
        """Of the server, since it began (proc(5): fields 14 and 15 of stat)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def _line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode()


class _Server:
    """Keeps the mails in memory."""

    def __init__(self) -> None:
        self.mails: list[tuple[bytes, bytes]] = []
        """Address and content."""
        self._wanted = 0
        self._reached = asyncio.Event()

    def take(self, address: bytes, content: bytes) -> None:
        self.mails.append((address, content))
        if len(self.mails) == self._wanted:
            self._reached.set()

    async def answer(self, questions: asyncio.StreamReader) -> None:
        """A line with a number, by which the answer is told once so many are there, until the input ends."""
        while line := await questions.readline():
            self._wanted = int(line)
            self._reached.clear()
            if len(self.mails) < self._wanted:
                await self._reached.wait()
            at, size = time.monotonic(), len(self.mails[-1][1]) if self.mails else 0
            print(len(self.mails), len({address for address, _ in self.mails}), size, at, flush=True)


class _Session(asyncio.Protocol):
    def __init__(self, server: _Server) -> None:
        self._server = server
        self._read = b""
        self._in_mail = False
        self._address = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._close = transport.close
        self._write: Callable[[bytes], None] = transport.write  # type: ignore[attr-defined]
        self._write(b"220 bench\r\n")

    def data_received(self, data: bytes) -> None:
        self._read += data
        answers = b""
        while True:
            head, found, rest = self._read.partition(b"\r\n.\r\n" if self._in_mail else b"\r\n")
            if not found:
                break
            self._read = rest
            if self._in_mail:
                self._server.take(self._address, head)
                self._in_mail = False
                answers += _TAKEN
            else:
                answers += self._command(head)
        if answers:
            self._write(answers)

    def _command(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"RCPT":
            self._address = line
        elif verb == b"QUIT":
            asyncio.get_running_loop().call_soon(self._close)
        self._in_mail = verb == b"DATA"
        return _ANSWERS.get(verb, b"500 no such command\r\n")


async def main() -> None:
    loop, server, questions = asyncio.get_running_loop(), _Server(), asyncio.StreamReader()
    listening = await loop.create_server(lambda: _Session(server), "127.0.0.1", 0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await server.answer(questions)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())

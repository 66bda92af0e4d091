"""A client of HTTP/2 frames (RFC 9113), to do what gRPC's own client never does: unfinished messages, pings at will."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Final

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME: Final = 16_384
_WINDOW: Final = 65_535


class Http2:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next = 1
        self._windows = {0: _WINDOW}
        self._moved = asyncio.Condition()
        self.answered: set[int] = set()
        """Streams of which the server has sent headers: those of an answer before its content, or of an error."""
        self.ended: set[int] = set()
        """Streams that the server has ended."""
        self.goodbye = b""
        """What the server's GOAWAY said, such as `too_many_pings`."""
        self.closed = asyncio.Event()
        self.acknowledged_pings = 0

    async def open(self, path: str, metadata: Sequence[tuple[str, str]] = ()) -> int:
        """The number of a new stream whose headers are sent."""
        number, self._next = self._next, self._next + 2
        self._windows[number] = _WINDOW
        self._send(HEADERS, END_HEADERS, number, headers(path, metadata))
        await self._writer.drain()
        return number

    async def send(self, number: int, data: bytes) -> int:
        """Sends what the server's windows let it send; how much that was once the stream or connection has ended."""
        sent = 0
        while sent < len(data):
            async with self._moved:
                await self._moved.wait_for(
                    lambda: self._room(number) > 0 or number in self.ended or self.closed.is_set()
                )
            if number in self.ended or self.closed.is_set():
                break
            part = data[sent : sent + min(_FRAME, self._room(number))]
            self._windows[0] -= len(part)
            self._windows[number] -= len(part)
            sent += len(part)
            self._send(DATA, 0, number, part)
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()
        return sent

    def reset(self, number: int) -> None:
        """Gives a stream up (CANCEL)."""
        self._send(RST_STREAM, 0, number, struct.pack(">I", 8))

    def ping(self) -> None:
        """Asks for a sign of life."""
        self._send(PING, 0, 0, bytes(8))

    async def wait_answered(self, number: int) -> None:
        """Returns once the server has sent the stream's headers, and so any content that the window lets through."""
        async with self._moved:
            await self._moved.wait_for(lambda: number in self.answered or self.closed.is_set())

    async def wait_ended(self, number: int) -> None:
        """Returns once the server has ended the stream."""
        async with self._moved:
            await self._moved.wait_for(lambda: number in self.ended or self.closed.is_set())

    async def run(self) -> None:
        """Takes in what the server sends."""
        try:
            while True:
                head = await self._reader.readexactly(9)
                length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                number = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
                await self._take(kind, flags, number, await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed.set()
            async with self._moved:
                self._moved.notify_all()

    async def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._send(SETTINGS, ACK, 0, b"")
        elif kind == PING:
            if flags & ACK:
                self.acknowledged_pings += 1
            else:
                self._send(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            self.goodbye = payload[8:]
        elif kind == WINDOW_UPDATE:
            self._windows[number] = self._windows.get(number, _WINDOW) + struct.unpack(">I", payload)[0]
        if kind == HEADERS:
            self.answered.add(number)
        if kind == RST_STREAM or (kind in (HEADERS, DATA) and flags & END_STREAM):
            self.ended.add(number)
        async with self._moved:
            self._moved.notify_all()

    def _room(self, number: int) -> int:
        return min(self._windows[0], self._windows[number])

    def _send(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self._writer.write(frame(kind, flags, number, payload))

    async def ask(self, path: str, data: bytes = b"", metadata: Sequence[tuple[str, str]] = ()) -> int:
        """The number of a stream on which a whole call was sent, and answered."""
        number = await self.open(path, metadata)
        await self.send(number, b"\x00" + struct.pack(">I", len(data)) + data)
        self._send(DATA, END_STREAM, number, b"")
        await self.wait_answered(number)
        return number

    def greet(self, *, reads: bool = True) -> None:
        """The client's preface. Without `reads` no stream may send content (SETTINGS_INITIAL_WINDOW_SIZE)."""
        self._writer.write(_PREFACE)
        self._send(SETTINGS, 0, 0, b"" if reads else struct.pack(">HI", 4, 0))


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    """One frame as it is sent."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", number) + payload


def headers(path: str, metadata: Sequence[tuple[str, str]] = ()) -> bytes:
    """The header block of a call."""
    named = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    named += [("te", "trailers"), ("content-type", "application/grpc"), *metadata]
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in named)


class BlockingHttp2:
    """A connection that is used without the event loop, so that nothing that runs in it begins a call meanwhile."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.sendall(_PREFACE + frame(SETTINGS, 0, 0))
        self._came = b""

    def send(self, frames: bytes) -> None:
        """Frames of any form. Returns once gRPC has read all of them: it answers the ping behind them.

        Acknowledges the server's settings, which came before that answer: else it closes the connection after five seconds.
        """
        self.begin(frames + frame(PING, 0, 0, bytes(8)))
        while (came := self.take())[0] != PING:
            if came[0] == SETTINGS and not came[1] & ACK:
                self.begin(frame(SETTINGS, ACK, 0))

    def begin(self, frames: bytes) -> None:
        """As `send`, but whether gRPC has read them is not known."""
        self._socket.sendall(frames)

    def is_open(self) -> bool:
        """Takes the next frame; False once the server has closed the connection."""
        try:
            self.take()
        except ConnectionError:
            return False
        return True

    def take(self) -> tuple[int, int, bytes]:
        """Kind, flags and content of the next frame. Raises ConnectionError once the server has closed the connection."""
        while len(self._came) < 9 or len(self._came) < (end := 9 + int.from_bytes(self._came[:3], "big")):
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the server has closed the connection")
            self._came += data
        found = self._came[3], self._came[4], self._came[9:end]
        self._came = self._came[end:]
        return found

    def close(self) -> None:
        """At once."""
        self._socket.close()


def _text(text: str) -> bytes:
    """An HPACK string literal (RFC 7541 §5.2), not compressed."""
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, length = len(data) - 127, b"\x7f"
    while rest > 127:
        length += bytes((rest & 127 | 128,))
        rest >>= 7
    return length + bytes((rest,)) + data


@contextlib.asynccontextmanager
async def connected(port: int, *, reads: bool = True) -> AsyncIterator[Http2]:
    """A connection to a server on this machine; closed afterwards."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = Http2(reader, writer)
    connection.greet(reads=reads)
    running = asyncio.create_task(connection.run())
    try:
        yield connection
    finally:
        running.cancel()
        writer.close()


def unfinished(size: int) -> bytes:
    """All but the last byte of a gRPC message of `size` bytes."""
    return b"\x00" + struct.pack(">I", size) + bytes(size - 1)

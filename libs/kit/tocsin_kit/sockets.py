"""The sockets of one listening port in this process, for servers that hide theirs.

gRPC cannot stop listening without stopping its server, and a server that stops answers CANCELLED to calls that are on
their way. So the listening socket is taken away from it.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from tocsin_kit.loops import until

_DESCRIPTORS: Final = ("/proc/self/fd", "/dev/fd")
_UNACCEPTED: Final = struct.Struct("24xI")
"""`tcpi_unacked` of Linux' `tcp_info`: for a listening socket, how many connections wait to be accepted."""
_SO_ATTACH_FILTER: Final = 26
_INSTRUCTION: Final = struct.Struct("HBBI")
_DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the byte of the TCP header that holds the flags
    (0x54, 0, 0, 0x12),  # only SYN and ACK of it
    (0x15, 0, 1, 0x02),  # a SYN alone?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # anything else passes
)
"""A classic BPF program (socket(7), SO_ATTACH_FILTER)."""
_HANDSHAKE_SECONDS: Final = 0.1
"""For connections whose handshake is under way."""
_ACCEPT_SECONDS: Final = 1.0
_ACCEPT_STEP: Final = 0.001


def listening() -> set[int]:
    """The file descriptors of all TCP sockets that listen."""
    return {number for number, _, listens in _tcp() if listens}


def port_of(descriptor: int) -> int:
    """The local port of a socket. Raises OSError when it is none."""
    found = socket.socket(fileno=descriptor)
    try:
        return int(found.getsockname()[1])
    finally:
        found.detach()


class Connection(NamedTuple):
    """One that this process has accepted."""

    descriptor: int
    to: int
    """The port to which it was made."""
    host: str
    """The address of the other end."""
    port: int
    """Of the other end."""


class Opened(NamedTuple):
    """One file or socket of this process. Its descriptor may be that of another one later; both numbers together are not."""

    descriptor: int
    inode: int


def open_descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(_open_descriptors())


def all_open() -> Iterator[Opened]:
    """All files and sockets of this process."""
    for number in _open_descriptors():
        with contextlib.suppress(OSError):  # closed meanwhile
            yield Opened(number, os.fstat(number).st_ino)


def connection(descriptor: int, port: int) -> Connection | None:
    """The connection to `port` that this is; None if it is anything else."""
    if (peer := _peer(descriptor, port)) is None:
        return None
    return Connection(descriptor, port, *peer)


def connections(port: int) -> Iterator[Connection]:
    """Those to `port` that this process has accepted and not closed."""
    for opened in all_open():
        if (found := connection(opened.descriptor, port)) is not None:
            yield found


def end(connection: Connection) -> bool:
    """Shut it down, so that its owner sees its end and closes it; returns whether it was still there."""
    if _peer(connection.descriptor, connection.to) != (connection.host, connection.port):
        return False  # closed meanwhile; the descriptor may be another file by now
    found = socket.socket(fileno=connection.descriptor)
    try:
        found.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False
    finally:
        found.detach()
    return True


def _peer(descriptor: int, port: int) -> tuple[str, int] | None:
    """Address and port of the other end of a connection to `port`; None if it is none."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.getsockname()[1] != port:
            return None
        host, of_peer, *_ = found.getpeername()
    except OSError:
        return None  # it listens, or was closed meanwhile
    finally:
        found.detach()
    return str(host), int(of_peer)


async def accept_the_last(descriptor: int, *, shared: bool) -> None:
    """Wait until no connection waits in the queue of a listening socket, at most a second: it is reset when that closes.

    `shared`: another process listens on the address as well. Then no more come into the queue: what asks for a connection
    from here on is not answered, and the client's kernel asks again after a second (RFC 6298), when it is the other's.
    Does nothing where the system does not tell how many wait.
    """
    if sys.platform != "linux":
        return
    if shared:
        _drop_requests(descriptor)
        await asyncio.sleep(_HANDSHAKE_SECONDS)
    await until(lambda: not _waiting(descriptor), _ACCEPT_SECONDS, step=_ACCEPT_STEP)


def _drop_requests(descriptor: int) -> None:
    program = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in _DROP_SYN))
    found = socket.socket(fileno=descriptor)
    try:
        filter_ = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
        found.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
    finally:
        found.detach()


def _waiting(descriptor: int) -> int:
    found = socket.socket(fileno=descriptor)
    try:
        (waiting,) = _UNACCEPTED.unpack(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACCEPTED.size))
        return int(waiting)
    finally:
        found.detach()


def close_beneath(descriptor: int) -> None:
    """Close a listening socket whose owner goes on holding the descriptor: it keeps one on which nothing ever happens.

    Closing the descriptor itself would let the owner close the next file that gets its number.
    """
    with socket.socket() as nothing:
        os.dup2(nothing.fileno(), descriptor, inheritable=False)


def _tcp() -> Iterator[tuple[int, int, bool]]:
    """Descriptor, local port, and whether it listens, of every TCP socket."""
    for number in _open_descriptors():
        try:
            found = socket.socket(fileno=number)
        except OSError:
            continue  # no socket, or closed meanwhile
        try:
            if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
                listens = bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
                yield number, int(found.getsockname()[1]), listens
        except OSError:
            continue
        finally:
            found.detach()


def _open_descriptors() -> list[int]:
    for folder in _DESCRIPTORS:
        if os.path.isdir(folder):
            return [int(name) for name in os.listdir(folder) if name.isdecimal()]
    return []

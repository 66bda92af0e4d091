"""The sockets of one listening port in this process, for servers that hide theirs.

gRPC cannot stop listening without stopping its server, and a server that stops answers CANCELLED to calls that are on
their way. So the listening socket is taken away from it.
"""

import asyncio
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final

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


def connections(port: int) -> int:
    """How many connections to `port` this process has accepted and not closed."""
    return sum(local == port and not listens for _, local, listens in _tcp())


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

"""Ports on the loopback interface: free ones, and clear words about taken ones."""

import asyncio
import errno
import random
import socket
import sys
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from tocsin_stack.errors import StackError

HOST: Final = "127.0.0.1"

# Below the range the kernels hand out to outgoing connections (Linux 32768, macOS 49152): a port of ours that is
# free while its server is down could otherwise be taken by a client's own socket, or a client that keeps retrying
# could even connect to itself.
_RANGE: Final = range(20000, 32000)
_GOING_DOWN: Final = 20.0
"""Seconds that services without a launcher get to end their calls."""
_handed_out: dict[int, int] = {}


class Wanted(NamedTuple):
    """A fixed port, what it is for and the environment variable that moves it."""

    port: int
    purpose: str
    variable: str


def free_port() -> int:
    """A port nothing listens on now, and which no process that lives has been handed out before."""
    for port in random.sample(_RANGE, len(_RANGE)):
        if port not in _handed_out and not is_taken(port) and (mark := _mark(port)) is not None:
            _handed_out[port] = mark
            return port
    raise StackError(f"no free port between {_RANGE.start} and {_RANGE.stop - 1} on {HOST}")


def _mark(port: int) -> int | None:
    """Tells other processes that the port is ours, also while its server is down; None if it is another's.

    A name in Linux's abstract namespace (unix(7)), which ends with this process. Elsewhere nothing is told.
    """
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if sys.platform == "linux":
        try:
            mark.bind(f"\0tocsin-port-{port}")
        except OSError:
            mark.close()
            return None
    return mark.detach()  # open until the process ends


def is_taken(port: int) -> bool:
    """Whether something listens on the port. Connections of an earlier server that linger in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise StackError(f"cannot use {HOST}:{port}: {error.strerror}") from error
        return False


async def until_free(wanted: Iterable[Wanted]) -> None:
    """Wait, at most `_GOING_DOWN` seconds, for services whose launcher was killed: they end by themselves, and hold no lock."""
    ports = [want.port for want in wanted]
    deadline = time.monotonic() + _GOING_DOWN
    while any(map(is_taken, ports)):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(0.02)


def require_free(wanted: Iterable[Wanted]) -> None:
    """Refuse to start while any of the fixed ports is taken, naming all of them at once.

    Raises:
        StackError: with a line per taken port and the variable that moves it.
    """
    taken = [want for want in wanted if is_taken(want.port)]
    if taken:
        lines = [
            f"  {HOST}:{want.port} for {want.purpose} is taken; stop what holds it, or set {want.variable}"
            for want in taken
        ]
        raise StackError("cannot start:\n" + "\n".join(lines))

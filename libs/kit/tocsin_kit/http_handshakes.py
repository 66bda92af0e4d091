"""A listener with TLS whose connections count from their first byte: asyncio reports one only after its handshake.

Until then it would be an uncounted file descriptor, and one host could use all descriptors of the process.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from tocsin_kit.http_limits import HttpLimits
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)
BACKLOG: Final = 1024
_PAUSE_SECONDS: Final = 1.0
"""Pause after a connection that could not be accepted, as in asyncio: the process has no file descriptor left."""


async def bound(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """Listening sockets of all addresses of a host; empty: of this one. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made = list[socket.socket]()
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            listener = socket.socket(family, socket.SOCK_STREAM)
            made.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
    except OSError:
        for each in made:
            each.close()
        raise
    return made


class Handshakes:
    """Accepts connections of listening sockets, as `asyncio.Server` does for others."""

    def __init__(
        self,
        limits: HttpLimits,
        make: Callable[[], asyncio.BaseProtocol],
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext,
        *,
        seconds: float,
    ) -> None:
        """`make`: the protocol of a connection that `limits` has admitted. `seconds`: for a handshake."""
        self.sockets: Final = sockets
        self._limits = limits
        self._make = make
        self._tls = tls
        self._seconds = seconds
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting = [asyncio.create_task(self._accept(each)) for each in sockets]

    def close(self) -> None:
        """Accept no more connections. Handshakes that are under way continue."""
        for each in self._accepting:
            each.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        # Closed where it is waited for: until that has ended, the event loop watches its descriptor.
        with listener:
            while True:
                try:
                    connection, peer = await asyncio.get_running_loop().sock_accept(listener)
                except OSError as error:
                    _log.error("accept_failed", error=repr(error))
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                host = str(peer[0])
                if self._limits.admit(host):
                    task = asyncio.create_task(self._begin(connection, host))
                    self._handshakes.add(task)
                    task.add_done_callback(self._handshakes.discard)
                else:
                    connection.close()

    async def _begin(self, connection: socket.socket, host: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make, connection, ssl=self._tls, ssl_handshake_timeout=self._seconds
            )
        except OSError:
            self._limits.dismiss(host)  # the data were no TLS, or did not arrive in time

"""When bytes reached this machine, however late a busy test reads them."""

import asyncio
import socket
import struct
import sys
import time
from typing import Final

_LAST_DATA: Final = struct.Struct("52xI")
"""Linux, `struct tcp_info`: `tcpi_last_data_recv`, the milliseconds since the kernel took the last bytes. It counts in ticks of its
clock (jiffies): 1, 4 or 10 ms, by how it was built."""


def last_bytes(transport: asyncio.BaseTransport | None) -> float:
    """`time.monotonic()` of the moment at which the kernel took the last bytes of a connection, to a tick of its clock: 4 ms
    mostly, up to 10.

    Call it before the sender may send more. Now, if the kernel cannot say.
    """
    now = time.monotonic()
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is None or sys.platform != "linux":
        return now
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size)
    except OSError:  # the sender is gone
        return now
    [milliseconds] = _LAST_DATA.unpack(told)
    return now - float(milliseconds) / 1000

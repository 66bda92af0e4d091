"""A receiver of the testkit notes when a message came, however late it reads it."""

import socket
import threading
import time
from urllib.parse import urlsplit

from tocsin_testkit.hooks import HookServer
from tocsin_testkit.inbox import Inbox

BODY = b'{"type": "test", "subject": "x"}'
BLOCKED = 0.3


async def test_a_request_that_is_read_late_came_when_it_was_sent() -> None:
    inbox = Inbox()
    hooks = HookServer(inbox)
    await hooks.start()
    try:
        target = urlsplit(hooks.url("ana"))
        with socket.create_connection((target.hostname, target.port)) as connection:
            head = f"POST /ana HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
            sent = time.monotonic()
            connection.sendall(head + BODY)
            threading.Event().wait(BLOCKED)  # this process has no time to read
            blocked = time.monotonic()
            message = await inbox.wait_for(lambda each: each.address == "ana", "the message")
    finally:
        await hooks.stop()
    assert sent - 0.02 <= message.at < blocked - BLOCKED / 2

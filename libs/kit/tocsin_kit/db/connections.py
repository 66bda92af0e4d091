"""A small pool of asyncpg connections that knows an outage when it sees one.

asyncpg's own pool proxies every call, starts a task per acquire and sends a reset query per release; a transaction here
uses nothing but SET LOCAL, so none of it is needed, and half of a short transaction's time is saved. While the server is
away nobody dials but one task with backoff and jitter: callers wait a moment for it (`_PATIENCE`), which covers a restart,
and then hear that the database is away instead of queueing.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable

import asyncpg
import structlog
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.errors import TocsinError

type_Connection = asyncpg.Connection
Connection = asyncpg.Connection

_log = structlog.get_logger(__name__)

_PATIENCE = 0.5
"""Seconds a caller waits for a server that is away. Below a client's usual deadline of 2 s."""
_QUEUE_TIMEOUT = 5.0
"""Seconds a caller waits for a connection of a busy pool."""
_WAITERS_PER_CONNECTION = 200
"""More callers than this per connection cannot be served within `_QUEUE_TIMEOUT`; they are told so at once."""
_BACKOFF_CAP = 1.0

"""A notify in a process of its own, for tests that stop or kill one."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from typing import IO

from tests import preloaded
from tests.preloaded import Forked
from tests.store.notify.support import KEYS, World


@contextlib.asynccontextmanager
async def process(world: World, module: str, *arguments: str, **environment: str) -> AsyncIterator[Forked]:
    """`python -m MODULE ARGUMENTS` beside the world, killed at the end. Its output is the test's."""
    env = {
        **os.environ,
        "NOTIFY_DATABASE_URL": world.database_url,
        "REDIS_URL": world.redis_url,
        "AUTH_SIGNING_KEYS": KEYS,
        "NOTIFY_ALLOW_PRIVATE_WEBHOOKS": "true",
        "LOG_LEVEL": "ERROR",
        **environment,
    }
    child = preloaded.fork(module, arguments, env, signal.SIGKILL)
    assert child is not None
    assert child.stdout is not None
    told = asyncio.create_task(asyncio.to_thread(_tell, child.stdout))
    try:
        yield child
    finally:
        child.kill()
        await asyncio.to_thread(child.wait)
        await told


def _tell(output: IO[bytes]) -> None:
    with output:
        shutil.copyfileobj(output, sys.stderr.buffer)

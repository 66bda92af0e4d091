"""A pool that connects in the background says when its first connection is there."""

import asyncio
from typing import Any

from structlog.testing import capture_logs
from tocsin_kit.db.connections import Connections


class _Session:
    def is_closed(self) -> bool:
        return False

    async def close(self, timeout: float) -> None:
        pass


async def test_it_waits_for_the_first_connection_and_no_longer_than_it_is_told() -> None:
    there = asyncio.Event()

    async def dial() -> Any:
        await there.wait()
        return _Session()

    connections = Connections(dial, name="test", size=1)
    connections.start()
    assert not await connections.connected(0.01)
    there.set()
    assert await connections.connected(30)
    connections.release(await connections.acquire())
    assert await connections.connected(0), "it is there"
    await connections.close()


async def test_why_nothing_connects_is_said_once_and_again_when_it_is_another_reason() -> None:
    reasons = ["permission denied for database", "permission denied for database", "the database system is starting up"]

    async def dial() -> Any:
        if reasons:
            raise OSError(reasons.pop(0))
        return _Session()

    connections = Connections(dial, name="test", size=1)
    with capture_logs() as lines:
        connections.start()
        assert await connections.connected(30)
    said = [line["error"] for line in lines if line["log_level"] == "warning"]
    assert said == ["OSError: permission denied for database", "OSError: the database system is starting up"]
    await connections.close()

"""A pool that connects in the background says when its first connection is there."""

import asyncio
from typing import Any

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

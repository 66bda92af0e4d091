"""What gRPC refuses before our code sees it."""

import asyncio
from typing import Any

from tocsin_testkit.busy import within

from tests.abuse.http2 import connected, unfinished

UNARY = "/kittest.v1.EchoService/Unary"
TOO_LARGE = 5_000_000
HEAD = 100
"""Bytes of it that are sent; gRPC refuses it by the length that stands in front."""


async def test_a_hopelessly_large_message_is_refused_at_once(serve: Any, echo: Any, token: str) -> None:
    """gRPC would keep its refusal for up to a second, and drops it when the age of the connection ends in that second."""
    server = await serve(echo.Echo())
    metadata = [("authorization", f"Bearer {token}")]
    others = 0
    async with connected(server.port) as connection, asyncio.timeout(within(30)):
        for _ in range(5):
            large = await connection.open(UNARY, metadata)
            await connection.send(large, unfinished(TOO_LARGE)[:HEAD])
            while large not in connection.ended:
                await connection.ask(UNARY, b"", metadata)
                others += 1
        assert not connection.closed.is_set()
    assert others < 50, "calls that came later and were answered before it"

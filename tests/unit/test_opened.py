"""A connection that is left open is blamed on the test that opened it."""

import asyncio

import pytest


async def test_the_text_of_a_connection_names_the_test_that_opened_it(request: pytest.FixtureRequest) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    text = repr(writer.transport)
    writer.close()
    server.close()
    assert "StreamReaderProtocol" in text
    assert request.node.nodeid in text

"""Each URL that is accepted for a contact method can be called, as it was written."""

import asyncio
import socket
import string

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin_kit.public_addresses import literal
from tocsin_notify.channels.urls import BadUrl, read_url
from tocsin_notify.channels.webhook import WebhookChannel
from tocsin_notify.domain.attempt import Sent

from tests.store.notify.raw import Line, listening, read_request
from tests.store.notify.support import ALLOWED
from tests.store.notify.test_webhook_channel import delivery

TARGETS = [
    *("/a%2Fb", "/%40me", "/a%2fb%2Fc", "/a//b", "/a/../b/./c", "/%7Euser/~user", "/a+b%20c", "/%", "/100%/x%zz"),
    *("/p;v=1,2", "/?a=1&a=2&b", "/?q=%3D%26+%2B", "/s?X-Amz-Signature=ab%2Bcd%3D%3D&se=2026-01-01T00%3A00%3A00Z"),
    *("/?url=https://x/?y=z", "/hooks/T0/B0/x'(y)!*", "/a?x[]=1&y={", "/:443/@x", "/a?sig=a/b+c=="),
]
CALLED = {"/a?x[]=1&y={": "/a?x[]=1&y=%7B"}  # no URI may hold a brace


@pytest.mark.parametrize("scheme", ["http", "HTTP", "hTtP"])
async def test_a_url_is_called_as_it_was_written(scheme: str) -> None:
    called: list[str] = []

    async def serve(line: Line) -> None:
        while True:
            called.append((await line.read(b" HTTP/1.1\r\n")).split(b" ")[1].decode())
            await read_request(line)
            await line.say(b"HTTP/1.1 204 No Content\r\n\r\n")

    channel = WebhookChannel(timeout=10, allow_private=True, concurrency=10)
    async with listening(serve) as port:
        for target in TARGETS:
            assert await channel.send(delivery(f"{scheme}://127.0.0.1:{port}{target}"), ALLOWED) == Sent()
    await channel.close()
    assert called == [CALLED.get(target, target) for target in TARGETS]


_PIECES = st.sampled_from(
    [*".:@/?#[]%\\-_", "..", "%2F", "127", "0x7f", "ü", "。", "xn--", "a" * 63, "1" * 6, "\x00", " "]
)
_TEXT = st.lists(st.one_of(_PIECES, st.text(string.ascii_letters + string.digits, min_size=1, max_size=4)), max_size=8)


class _Resolver(AbstractResolver):
    """Every name leads to one local server."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        host.encode("idna")  # as the system's resolver does
        return [ResolveResult(hostname=host, host="127.0.0.1", port=self._port, family=family, proto=6, flags=0)]

    async def close(self) -> None:
        """Nothing is held."""


@given(authorities=st.lists(_TEXT.map("".join), min_size=40, max_size=40), rest=_TEXT.map("".join))
@settings(max_examples=15)
def test_each_url_that_is_accepted_can_be_called(authorities: list[str], rest: str) -> None:
    asyncio.run(_call_what_is_taken([f"http://{authority}/{rest}" for authority in authorities]))


async def _call_what_is_taken(texts: list[str]) -> None:
    async def serve(line: Line) -> None:
        await line.read(b"\r\n\r\n")
        await line.say(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        line.end("closes")

    async with listening(serve) as port:
        connector = aiohttp.TCPConnector(resolver=_Resolver(port))
        async with aiohttp.ClientSession(connector=connector) as session:
            for text in texts:
                try:
                    url = read_url(text, allow_private=True)
                except BadUrl:
                    continue
                if literal(url.raw_host or "") is not None:
                    continue  # an address is called without the resolver
                async with session.post(url) as response:
                    assert response.status == 204

"""What stand-ins for providers over HTTP share: where they listen, how they fail, and how they call back."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

import aiohttp
from aiohttp import web

from tocsin_testkit.inbox import Inbox


class Provider(ABC):
    """Listens on a free loopback port.

    `refuse` maps addresses to the answers that requests for them get, one after the other, before they are taken. `hang`
    holds addresses whose requests are taken and not answered before `answers` is called, `reset` those whose connection is
    cut instead of an answer.
    `reach` maps the beginnings of public URLs to where they really lead.
    """

    def __init__(self, inbox: Inbox | None = None) -> None:
        self.inbox = inbox or Inbox()
        self.refuse: dict[str, list[web.Response]] = {}
        self.hang: set[str] = set()
        self.reset: set[str] = set()
        self.reach: dict[str, str] = {}
        self.requests = 0
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._release = asyncio.Event()

    @abstractmethod
    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """What it serves."""

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self._session = aiohttp.ClientSession()

    async def stop(self) -> None:
        """Stop listening."""
        self._release.set()
        await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> None:
        """Answer what hangs."""
        self._release.set()

    async def calls_back(
        self, method: str, url: str, *, data: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Call a public URL of the product: the HTTP status and the text of the answer. Redirects are not followed."""
        real = next(
            (real + url.removeprefix(public) for public, real in self.reach.items() if url.startswith(public)), url
        )
        async with self._session.request(method, real, data=data, headers=headers, allow_redirects=False) as response:
            return response.status, await response.text()

    def refusal(self, address: str) -> web.Response | None:
        """What the request gets instead of being taken."""
        waiting = self.refuse.get(address)
        return waiting.pop(0) if waiting else None

    async def fail(self, request: web.Request, address: str) -> None:
        """After a request was taken: hang or cut, where a test wants that."""
        if address in self.hang:
            await self._release.wait()
        if address in self.reset and request.transport is not None:
            request.transport.abort()

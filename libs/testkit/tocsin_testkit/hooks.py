"""A real HTTP server that webhooks are sent to."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from aiohttp import web

from tocsin_testkit.arrival import last_bytes
from tocsin_testkit.inbox import Inbox
from tocsin_testkit.received import Received


class HookServer:
    """Listens on a free loopback port; every path is one user's webhook.

    `answers[path]` holds statuses (with headers) to give, one per request in the order of arrival, before the usual 200;
    `hang` holds paths that get no answer until they are taken out again, and `held[path]` counts the requests that came to
    one meanwhile.
    `on_request` is told of every request when it arrives and may wait; it returns the status to answer with, or None to
    cut the connection.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._runner: web.AppRunner | None = None
        self.answers: dict[str, list[tuple[int, dict[str, str]]]] = {}
        self.hang: dict[str, asyncio.Event] = {}
        self.held: Counter[str] = Counter()
        self.refused: list[tuple[str, float]] = []
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.on_request: Callable[[web.Request, Received], Awaitable[int | None]] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        for event in self.hang.values():
            event.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def url(self, path: str) -> str:
        """The address of one user's webhook."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def will_answer(self, path: str, statuses: Iterable[int | tuple[int, dict[str, str]]]) -> None:
        """Give these answers first, then 200."""
        self.answers[path] = [(status, {}) if isinstance(status, int) else status for status in statuses]

    async def _take(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        arrived = last_bytes(request.transport)
        body = await request.read()
        if path in self.hang:
            self.held[path] += 1
        # In turn, or a request that arrives when the wait ends could take the answer that was meant for the held one.
        async with self._turns[path]:
            if path in self.hang:
                await self.hang[path].wait()
            answer = self.answers[path].pop(0) if self.answers.get(path) else None
        if answer is not None:
            status, headers = answer
            self.refused.append((path, arrived))
            if status >= 300:
                return web.Response(status=status, headers=headers)
        message = parse(path, body, tuple(request.headers.items()), arrived)
        verdict = 200 if self.on_request is None else await self.on_request(request, message)
        if verdict is None and request.transport is not None:
            request.transport.abort()
        if verdict != 200:
            return web.Response(status=verdict or 500)
        await self._inbox.put(message)
        return web.Response(text="taken")


def parse(path: str, body: bytes, headers: tuple[tuple[str, str], ...], arrived: float) -> Received:
    """What a webhook says: of a person's contact method, or of a tenant's subscription."""
    data = json.loads(body)
    said = {name.lower(): value for name, value in headers}
    incident = data.get("incident") or data.get("data", {}).get("incident") or {}
    planned = data.get("planned_time")
    return Received(
        address=path,
        channel="webhook",
        kind=data["type"],
        subject=data.get("subject") or data["data"]["message"],
        incident=incident.get("name", ""),
        level=data.get("level", incident.get("level", 0)) or 0,
        code=data.get("code") or "",
        key=said.get("tocsin-delivery") or said.get("webhook-id", ""),
        at=arrived,
        planned_time=datetime.fromisoformat(planned) if planned else None,
        headers=headers,
        body=body,
    )

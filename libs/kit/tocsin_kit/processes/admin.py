"""The operators' listener of a service with several processes: /metrics and /readyz of all of them, other pages of one of them."""

import asyncio
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from aiohttp import web
from prometheus_client.exposition import generate_latest

from tocsin_kit.logging import get_logger
from tocsin_kit.metrics import CONTENT_TYPE
from tocsin_kit.processes.figures import together
from tocsin_kit.processes.parent import Processes
from tocsin_kit.rpc.tls import server_context
from tocsin_kit.settings import ServiceSettings

_log = get_logger(__name__)
_SECONDS: Final = 1.0
_PAGE_SECONDS: Final = 10.0
_UNREACHED: Final = (aiohttp.ClientError, TimeoutError)
_HELD_BACK: Final = frozenset(
    {"connection", "transfer-encoding", "content-length", "content-encoding", "host", "keep-alive"}
)
"""Headers of one connection, or of an encoding that is undone here."""


def is_ready(answers: Mapping[int, bool | None]) -> bool:
    """Whether callers should use this service. `answers`: of each running process whether it is ready; None: it does not listen
    yet.

    The kernel gives connections to every process that listens, so another process cannot replace one that cannot serve.
    """
    return True in answers.values() and False not in answers.values()


class AdminSite:
    """The operators' listener of the parent."""

    def __init__(self, settings: ServiceSettings, processes: Processes) -> None:
        self._settings = settings
        self._processes = processes
        self._listening: set[int] = set()
        """Process ids of processes that have answered."""
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be bound."""
        settings = self._settings
        timeout = aiohttp.ClientTimeout(total=_PAGE_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=True)
        app = web.Application()
        app.add_routes(
            (
                web.get("/healthz", self._get_healthz),
                web.get("/readyz", self._get_readyz),
                web.get("/metrics", self._get_metrics),
                web.route("*", "/{path:.*}", self._forward),
            )
        )
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None)
        await self._runner.setup()
        host, _, port = settings.admin_listen.rpartition(":")
        site = web.TCPSite(
            self._runner,
            host.strip("[]"),
            int(port),
            ssl_context=server_context(settings),
            reuse_port=settings.listen_shared,
        )
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        _log.info("admin_listening", address=f"{host}:{self.port}")

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _ask(self, path: str) -> dict[int, tuple[int, str] | None]:
        """The answer of each process. None: nothing."""
        running = self._processes.running
        found = await asyncio.gather(*(self._ask_one(url + path) for _, url in running.values()))
        self._listening &= {pid for pid, _ in running.values()}
        self._listening |= {pid for (pid, _), answer in zip(running.values(), found, strict=True) if answer is not None}
        return dict(zip(running, found, strict=True))

    async def _ask_one(self, url: str) -> tuple[int, str] | None:
        assert self._session is not None
        try:
            async with asyncio.timeout(_SECONDS), self._session.get(url) as response:
                return response.status, await response.text()
        except _UNREACHED:
            return None

    async def _get_healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _get_readyz(self, _request: web.Request) -> web.Response:
        responses = await self._ask("/readyz")
        running = self._processes.running
        answers: dict[int, bool | None] = {}
        for number, answer in responses.items():
            if answer is not None:
                answers[number] = answer[0] == HTTPStatus.OK
            elif number in running:
                # One that has listened before and does not answer is stopped, and callers wait for it.
                answers[number] = False if running[number][0] in self._listening else None
        ready = is_ready(answers)
        reports = {str(number): answer and json.loads(answer[1]) for number, answer in responses.items()}
        body = {"ready": ready, "processes": reports}
        return web.json_response(body, status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        responses = await self._ask("/metrics")
        texts = {str(number): answer[1] for number, answer in responses.items() if answer is not None}
        own = generate_latest(self._processes.registry).decode()
        return web.Response(body=(own + together(texts)).encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        """A page that any process can show, such as notify's board."""
        assert self._session is not None
        for _, url in self._processes.running.values():
            try:
                return await self._forwarded(self._session, url, request)
            except _UNREACHED:
                continue
        raise web.HTTPServiceUnavailable

    async def _forwarded(self, session: aiohttp.ClientSession, url: str, request: web.Request) -> web.Response:
        body = await request.read()
        asked = session.request(
            request.method, url + request.raw_path, headers=_passed(request.headers), data=body, allow_redirects=False
        )
        async with asked as response:
            return web.Response(status=response.status, body=await response.read(), headers=_passed(response.headers))


def _passed(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HELD_BACK}


async def run_processes(settings: ServiceSettings, processes: Processes, signals: Callable[..., None]) -> int:
    """The whole life of the parent. `signals(stop, kill)` installs what stops it."""
    site = AdminSite(settings, processes)
    signals(processes.stop, processes.kill)
    await site.start()
    try:
        return await processes.run()
    finally:
        await site.close()

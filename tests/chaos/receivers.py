"""The paged people, seen from outside: notes each webhook request when it arrives, and can misbehave."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from aiohttp import web
from tocsin_testkit.received import Received
from tocsin_testkit.world import World

from tests.chaos.history import Call, History

Behaviour = Literal["answer", "refuse", "cut", "hang", "slow"]
SLOW_SECONDS = 1.0
STALL_SECONDS = 0.05


class Receivers:
    """Every webhook and mailbox of a world. What they get is in `history.calls` after `collect`."""

    def __init__(self, world: World, history: History) -> None:
        self._world = world
        self._history = history
        self._behaviour: Behaviour = "answer"
        self._over = asyncio.Event()
        self._collected = len(world.inbox.messages)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Note what arrives, and when this process itself stood still."""
        self._world.hooks.on_request = self._witness
        probe = asyncio.create_task(self._note_stalls())
        try:
            yield
        finally:
            probe.cancel()
            self._world.hooks.on_request = None

    @asynccontextmanager
    async def behaving(self, behaviour: Behaviour) -> AsyncIterator[None]:
        """All webhooks refuse (503), cut the connection, hang, or take a second."""
        self._behaviour, self._over = behaviour, asyncio.Event()
        try:
            yield
        finally:
            self._behaviour = "answer"
            self._over.set()

    def collect(self) -> None:
        """Add the mails that have come since the last time."""
        new = self._world.inbox.messages[self._collected :]
        self._collected += len(new)
        self._history.calls += [
            Call(each.address, each.incident, each.level or 1, each.key, each.at, each.at)
            for each in new
            if each.channel == "email" and each.is_page
        ]

    async def _witness(self, request: web.Request, message: Received) -> int | None:
        call = None
        if message.is_page:
            call = Call(message.address, message.incident, message.level, message.key, message.at)
            self._history.calls.append(call)
        match self._behaviour:
            case "refuse":
                return 503
            case "cut":
                return None
            case "hang":
                await self._over.wait()
            case "slow":
                await asyncio.sleep(SLOW_SECONDS)
            case "answer":
                pass
        if request.transport is None or request.transport.is_closing():
            return 503  # the receiver is away
        if call is not None:
            call.answered = time.monotonic()
        return 200

    async def _note_stalls(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            if now - before > STALL_SECONDS:
                self._history.stalls.append((before, now))
            before = now

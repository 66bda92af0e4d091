"""What repeats inside one attempt asks the gate first: a kept connection that dies is no way past an acknowledge."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from tocsin_notify.app.delivery import permits

from tests.store.notify.raw import ENDINGS, MAIL_STAGES, Ending, Line, listening, read_request, take_mails
from tests.store.notify.support import World, job, new_org, until


@dataclass
class Provider:
    """Takes the first message; with the second it waits at `stage`, and ends the connection once it is told to."""

    stage: str
    ending: Ending
    requests: list[str] = field(default_factory=list)
    """Each stage that was reached, of every connection."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    messages: int = 0
    connections: int = 0
    mails: list[bytes] = field(default_factory=list)
    pipelining: bool = False
    """Its mail server takes commands together."""

    async def waits(self, line: Line, stage: str) -> bool:
        """True when the message goes on."""
        self.requests.append(stage)
        if stage == self.stage:
            self.messages += 1
            if self.messages == 2:
                self.reached.set()
                await self.ends.wait()
                line.end(self.ending)
                return False
        return True

    async def webhooks(self, line: Line) -> None:
        self.connections += 1
        while True:
            await read_request(line)
            if not await self.waits(line, "POST"):
                return
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def mail(self, line: Line) -> None:
        await take_mails(line, lambda stage: self.waits(line, stage), self.mails, pipelining=self.pipelining)


CASES: list[tuple[str, str, Ending]] = [("webhook", "POST", ending) for ending in ENDINGS if ending != "says 421"]
CASES += [("email", stage, ending) for stage in MAIL_STAGES for ending in ENDINGS]
CASES += [("email, commands together", stage, "closes") for stage in MAIL_STAGES]
CASES += [("email, commands together", stage, "says 421") for stage in ("MAIL", "RCPT")]


@asynccontextmanager
async def second_page_under_way(
    world: World, channel: str, stage: str, ending: Ending
) -> AsyncIterator[tuple[Provider, Callable[[], Awaitable[Any]]]]:
    """Over a connection that was used before; and a cancel of its incident."""
    provider = Provider(stage, ending, pipelining="together" in channel)
    org, incident = new_org(), uuid.uuid4()
    async with listening(provider.webhooks if channel == "webhook" else provider.mail) as port:
        # However slow the machine, an attempt does not end by its own timeout while the provider is held.
        patience = {"attempt_timeout_seconds": 100.0, "lease_seconds": 120.0}
        settings: dict[str, Any] = {"backoff_base_seconds": 3000.0, "backoff_cap_seconds": 3000.0, **patience}
        if channel.startswith("email"):
            await world.method(org, email="ana@example.com")
            settings["SMTP_PORT"] = port
        else:
            await world.method(org, webhook="ana")
            await world.admin.execute("UPDATE contact_methods SET address = $1", f"http://127.0.0.1:{port}/ana")
        async with world.replica(**settings) as notify:
            await notify.submit(job(org))
            await until(lambda: first_is_sent(world))
            await notify.submit(job(org, incident))
            await provider.reached.wait()
            yield provider, lambda: notify.cancel(org, incident)


async def first_is_sent(world: World) -> bool:
    return await world.states() == ["sent"]


async def settled(world: World) -> None:
    async def over() -> bool:
        return "sending" not in await world.states()

    await until(over)


@pytest.mark.parametrize(("channel", "stage", "ending"), CASES)
async def test_after_an_acknowledge_nothing_is_repeated(world: World, channel: str, stage: str, ending: Ending) -> None:
    async with second_page_under_way(world, channel, stage, ending) as (provider, cancel):
        await cancel()
        before = list(provider.requests)
        provider.ends.set()
        await settled(world)
        assert provider.requests == before, "a second call after the acknowledge was confirmed"
        assert await world.states() == ["sent", "cancelled"]


@pytest.mark.parametrize(("channel", "stage", "ending"), CASES)
async def test_without_one_it_is_repeated_at_once_and_costs_no_attempt(
    world: World, channel: str, stage: str, ending: Ending
) -> None:
    async with second_page_under_way(world, channel, stage, ending) as (provider, _):
        provider.ends.set()
        await settled(world)
        assert await world.states() == ["sent", "sent"]
        assert await world.admin.fetchval("SELECT max(attempts) FROM notifications") == 1


async def test_a_late_call_keeps_its_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its provider answers while the passage of the gate that let it begin has not ended."""
    monkeypatch.setattr(permits, "FRESH_SECONDS", 0.0)
    async with second_page_under_way(world, "webhook", "POST", "resets") as (provider, _):
        assert provider.connections == 1
        provider.ends.set()
        await settled(world)
        assert await world.states() == ["sent", "sent"], "an idle connection that ends says nothing about the receiver"

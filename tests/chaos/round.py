"""One round: alerts keep coming, one fault after the other happens, everything is recorded and then checked."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
from tocsin.ingest.v1 import alert_pb2

from tests.chaos.cables import Cables
from tests.chaos.checker import check, count
from tests.chaos.faults import Faults, Kind
from tests.chaos.fleet import Fleet
from tests.chaos.history import Alert, History
from tests.chaos.load import LEVEL_SECONDS, Load, Story
from tests.chaos.pairs import paired
from tests.chaos.receivers import Receivers

SETTLING = 60.0
"""Seconds after the last alert within which everything must have rung; it ends sooner when nothing is missing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard."""

    seconds: float
    seed: int
    per_second: float = 10
    pause: float = 14
    """Seconds between two faults: the time in which recovery is measured, and some calm."""
    longest: float = 10
    """Seconds for which one fault is held at most."""
    quiet: float = 20
    """Seconds of watching after the last page, for unexpected calls."""
    only: str = ""
    """Faults whose name contains this, or one of these, separated by `|`."""
    pairs: bool = False
    """Two of them at a time."""
    but: tuple[str, ...] = ()
    """Not those whose name contains one of these."""


async def run(
    fleet: Fleet, plan: Plan, say: Callable[[str], None] = lambda _: None, cables: Cables | None = None
) -> History:
    """Let it happen. The fleet is whole again afterwards. Without cables nothing is cut off from PostgreSQL."""
    dice = random.Random(plan.seed)
    history = History()
    receivers = Receivers(fleet, history)
    faults = Faults(fleet, receivers, history, dice, cables)
    loads = [
        await RecordedLoad.prepare(
            fleet.tenant(), seed=dice.getrandbits(24), per_second=plan.per_second / 2, email=email
        )
        for email in (False, True)
    ]
    for load in loads:
        load.records(history)
    try:
        async with receivers.watching():
            async with AsyncExitStack() as under_way:
                for load in loads:
                    await under_way.enter_async_context(load.under_way())
                await _go_through(faults, plan, dice, say)
            await fleet.heal()
            await _settle(history, receivers, plan)
    finally:
        await fleet.heal()
    for load in loads:
        for message in fleet.inbox.messages:
            if load.tenant.owns(message):
                load.tenant.expected(message)
    return history


async def _go_through(faults: Faults, plan: Plan, dice: random.Random, say: Callable[[str], None]) -> None:
    """Each kind once in a random order, then each once more, until the time is over."""
    end = time.monotonic() + plan.seconds
    wanted = [
        each
        for each in faults.kinds()
        if any(word in each.name for word in plan.only.split("|")) and not any(word in each.name for word in plan.but)
    ]
    left: list[Kind] = []
    while time.monotonic() < end:
        if not left:
            left = paired(wanted, dice) if plan.pairs else wanted.copy()
            dice.shuffle(left)
        kind = left.pop()
        await asyncio.sleep(plan.pause / 2)
        if kind.restores:
            await faults.copy_database(kind.restores)
        await asyncio.sleep(plan.pause / 2)
        say(f"{max(0.0, end - time.monotonic()):5.0f} s left, load {os.getloadavg()[0]:.1f}: {kind.name}")
        await faults.happens(kind, plan.longest)
    await asyncio.sleep(plan.pause)


async def _settle(history: History, receivers: Receivers, plan: Plan) -> None:
    deadline = time.monotonic() + SETTLING
    receivers.collect()
    while time.monotonic() < deadline and count(check(history))["lost"]:
        await asyncio.sleep(0.5)
        receivers.collect()
    await asyncio.sleep(plan.quiet)
    receivers.collect()


class RecordedLoad(Load):
    """The same load, which notes instead of judging."""

    history: History

    def records(self, history: History) -> None:
        """From now on everything is noted here."""
        self.history = history
        self.refusals = _Refusals(history)

    async def _live(self, story: Story) -> None:
        others: set[str] = set()
        try:
            await self._act(story, others)
        except grpc.aio.AioRpcError as error:  # it was told so for half a minute, or told something final
            self.refusals.append(f"gave up after {error.code().name}")
        receivers = (self.ana.addresses[0], self.ben.addresses[0])
        ending = "" if story.ending == "ignored" else story.ending
        accepted, timeout = story.accepted, float(LEVEL_SECONDS)
        if story.incident:
            self.history.alerts.append(Alert(story.incident, accepted, receivers, timeout, ending, story.stopped))
        # A database that was restored does not know the key any more, so the same problem is another incident.
        self.history.alerts += [Alert(each, accepted, receivers, timeout, "over") for each in others - {story.incident}]

    async def _act(self, story: Story, incidents: set[str]) -> None:
        answer = await self._sends(story, alert_pb2.ALERT_ACTION_TRIGGER)
        story.incident, story.accepted = answer.incident, time.monotonic()
        for _ in range(story.duplicates):
            incidents.add((await self._sends(story, alert_pb2.ALERT_ACTION_TRIGGER)).incident)
        if story.ending == "ignored":
            return
        await asyncio.sleep(story.pause)
        if story.ending == "over":
            await self._sends(story, alert_pb2.ALERT_ACTION_RESOLVE)
        else:
            await self._responds(story)
            story.stopped = time.monotonic()


class _Refusals(list[str]):
    """Notes each refusal in the history when it is told."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def append(self, code: str) -> None:
        super().append(code)
        self._history.refusals[code] = self._history.refusals.get(code, 0) + 1

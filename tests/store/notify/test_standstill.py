"""A process that is stopped anywhere in the gate's transaction delays no acknowledge, and calls no one afterwards."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_testkit.busy import within

from tests.store.notify.forked import process
from tests.store.notify.stands_still import PLACES
from tests.store.notify.support import Notify, World, job, new_org, until

SOON = 5.0
"""Seconds in which an acknowledge has to be confirmed; notify's own part of it."""
SHORT = {"after the claim", "while the claim's result comes", "after the commit", "in a repeat"}
"""The places of the short round: before the commit, with a result that is not read, after the commit, and in a repeat."""
MORE_THAN_SOCKETS_HOLD = 20_000_000


@contextlib.asynccontextmanager
async def standing_still(world: World, place: str) -> AsyncIterator["Victim"]:
    async with process(world, "tests.store.notify.stands_still", place, "serve") as forked:
        victim = Victim(forked.pid)
        await until(victim.stands_still)
        yield victim


class Victim:
    def __init__(self, pid: int) -> None:
        self._pid = pid

    def stands_still(self) -> bool:
        return Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def goes_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)


async def confirmed(door: Notify, org: str, incident: uuid.UUID) -> None:
    """As escalation does: again while the answer is that a sender is still in the gap."""
    while True:
        try:
            await door.cancel(org, incident)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            continue
        return


@pytest.mark.parametrize(
    "place", [pytest.param(place, marks=[] if place in SHORT else pytest.mark.long) for place in PLACES]
)
async def test_an_acknowledge_is_confirmed_soon_and_stays_true(world: World, place: str) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    await world.method(org, "users/ben", webhook="ben")
    async with world.replica(works=False) as door:
        await door.submit(job(org, incident))
        if place == "while the claim's result comes":
            large = NotificationJob(incident=f"incidents/{incident}", title="x" * MORE_THAN_SOCKETS_HOLD)
            await world.admin.execute("UPDATE pages SET job = $1", large.SerializeToString())
        async with standing_still(world, place) as victim:
            began = time.monotonic()
            await confirmed(door, org, incident)
            assert time.monotonic() - began < within(SOON)
            before = world.arrived("ana")
            victim.goes_on()
            await door.submit(job(org, user="users/ben"))
            await world.inbox.wait_for(lambda m: m.address == "ben", "a page of another incident, by the same process")

            async def over() -> bool:
                return await world.states("user_id = 'users/ana'") == ["sent" if before else "cancelled"]

            await until(over)
    assert world.arrived("ana") == before, "a call began after the acknowledge was confirmed"

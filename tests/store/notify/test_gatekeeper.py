"""A session that stands still and holds up a cancel is ended, and no cancel is confirmed while it may still answer."""

import asyncio
import os
import signal
import time
import uuid

import asyncpg
import pytest
from structlog.testing import capture_logs
from tocsin_notify.store.delivery import gatekeeper
from tocsin_notify.store.delivery.gate import PROOF_SECONDS, incident_key
from tocsin_notify.store.delivery.gatekeeper import ENDING
from tocsin_testkit.busy import within

from tests.store.notify.support import Notify, World, insists, new_org, until, waits_for_a_lock


async def test_a_cancel_is_not_confirmed_while_a_session_that_held_one_up_is_being_ended(
    world: World, notify: Notify
) -> None:
    """The process of that session may still begin a call, although its locks are free."""
    org = new_org()
    await world.admin.execute("SELECT pg_advisory_lock($1)", ENDING)
    try:
        cancelling = asyncio.create_task(notify.cancel(org, uuid.uuid4()))
        await until(lambda: waits_for_a_lock(world))
        assert not cancelling.done()
    finally:
        await world.admin.execute("SELECT pg_advisory_unlock($1)", ENDING)
    await cancelling


async def test_a_cancel_is_not_confirmed_until_a_second_after_the_session_that_held_it_up_is_gone(world: World) -> None:
    """A server that is slow to end a session may still have answered its process, which may then begin a call."""
    org, incident = new_org(), uuid.uuid4()
    stuck = await asyncpg.connect(world.database_url)
    await stuck.execute("SELECT pg_advisory_lock_shared($1)", incident_key(org, incident))
    backend = stuck.get_server_pid()
    async with world.replica(works=False) as door:
        cancelling = asyncio.create_task(insists(lambda: door.cancel(org, incident)))
        os.kill(backend, signal.SIGSTOP)
        try:
            await until(lambda: _sessions_are_being_ended(world))
            seen = asyncio.create_task(until(lambda: _none_is_being_ended(world)))
            done, _ = await asyncio.wait([seen, cancelling], timeout=1.5, return_when=asyncio.FIRST_COMPLETED)
            seen.cancel()
            assert not done, "the session was given up before it was gone"
        finally:
            goes_on = time.monotonic()
            os.kill(backend, signal.SIGCONT)
        await cancelling
        assert time.monotonic() - goes_on >= PROOF_SECONDS
    await until(stuck.is_closed)


async def test_a_session_that_does_not_end_holds_up_only_its_own_incidents(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatekeeper, "_END_SECONDS", 0.3)
    org, incident = new_org(), uuid.uuid4()
    stuck = await asyncpg.connect(world.database_url)
    await stuck.execute("SELECT pg_advisory_lock_shared($1)", incident_key(org, incident))
    async with world.replica(works=False) as door:
        os.kill(stuck.get_server_pid(), signal.SIGSTOP)
        try:
            with capture_logs() as lines:
                cancelling = asyncio.create_task(insists(lambda: door.cancel(org, incident)))
                await until(lambda: any(line["event"] == "standing_sessions_left" for line in lines))
                for _ in range(3):
                    await door.cancel(org, uuid.uuid4())
                    await asyncio.sleep(0.3)  # a look of the gatekeeper
                assert not cancelling.done()
            assert [line["event"] for line in lines].count("standing_sessions_left") == 1, "it is left alone"
        finally:
            os.kill(stuck.get_server_pid(), signal.SIGCONT)
        await cancelling


async def _sessions_are_being_ended(world: World) -> bool:
    return bool(
        await world.admin.fetchval(
            """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (classid::bigint << 32) | objid::bigint = $1""",
            ENDING,
        )
    )


async def _none_is_being_ended(world: World) -> bool:
    return not await _sessions_are_being_ended(world)


@pytest.mark.parametrize("holder", ["a claim", "another cancel"])
async def test_a_session_that_holds_up_a_cancel_is_ended_with_any_lock_it_holds(world: World, holder: str) -> None:
    """A session that stands still with the lock of the incident, or with its fence."""
    org, incident = new_org(), uuid.uuid4()
    stuck = await asyncpg.connect(world.database_url, server_settings={"tocsin.org_id": "*"})
    if holder == "a claim":
        await stuck.execute("SELECT pg_advisory_lock_shared($1)", incident_key(org, incident))
    else:
        await stuck.execute("BEGIN")
        await stuck.execute(
            "INSERT INTO cancel_fences (org_id, incident, generation, reason) VALUES ($1, $2, 1, '')", org, incident
        )
    async with world.replica(works=False) as one, world.replica(works=False) as two:
        began = time.monotonic()
        await asyncio.gather(*(each.cancel(org, incident) for each in (one, two, one)))
        assert time.monotonic() - began < within(5.0)
    assert stuck.is_closed()

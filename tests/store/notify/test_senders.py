"""What a process had under way when it died is taken over at once; what a living one has under way is left alone."""

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Final, NoReturn
from uuid import UUID

import pytest
from tocsin_kit.db.failures import unavailable
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_notify.app.delivery.vanished import Vanished
from tocsin_notify.store.delivery import notifications, senders
from tocsin_notify.store.delivery.senders import LOOKS, YOUNG_SECONDS, Presence
from tocsin_testkit.databases import dialed

from tests.store.notify.support import World, job, new_org, until

LONG_LEASE: Final = """
UPDATE notifications SET state = 'sending', due_time = NULL, lease_until = app_now() + interval '1 hour', attempts = 1, tries = 1
"""


@pytest.fixture
async def database(world: World) -> AsyncIterator[Database]:
    database = await dialed(world.database_url, name="test")
    yield database
    await database.close()


@pytest.fixture
async def presence(world: World) -> AsyncIterator[Presence]:
    presence = await Presence.open(world.database_url, name="test")
    await until(lambda: presence.sender)
    yield presence
    await presence.close()


class Looks:
    """Another replica that looks."""

    def __init__(self, world: World, database: Database, presence: Presence) -> None:
        self._world = world
        self.presence = presence
        self.died = dict[UUID, datetime]()
        self.look = Vanished(database, presence, self._died)

    def _died(self, ended: Mapping[UUID, datetime]) -> None:
        self.died |= ended

    async def ended_after(self, looks: int) -> bool:
        """Whether it has ended the lease by then."""
        for _ in range(looks):
            await self.look()
        return bool(await self._world.admin.fetchval("SELECT lease_until <= app_now() FROM notifications"))


@pytest.fixture
async def looks(world: World, database: Database) -> AsyncIterator[Looks]:
    presence = await Presence.open(world.database_url, name="looker")
    await until(lambda: presence.sender)
    presence._since = time.monotonic() - 3600  # for so long PostgreSQL has been there
    yield Looks(world, database, presence)
    await presence.close()


async def under_way(world: World, sender: int | None, *, age: float = 5.0) -> None:
    """A call that `sender` began some seconds ago."""
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(works=False) as door:
        await door.submit(job(org, uuid.uuid4()))
    await world.admin.execute(LONG_LEASE)
    await world.admin.execute(
        """INSERT INTO attempts (org_id, notification_id, number, sender, start_time)
           SELECT org_id, id, 1, $1, app_now() - make_interval(secs => $2) FROM notifications""",
        sender,
        age,
    )


async def test_a_dead_process_loses_its_calls_after_a_few_looks(world: World, looks: Looks, presence: Presence) -> None:
    await under_way(world, presence.key)
    assert not await looks.ended_after(3 * LOOKS), "it lives"
    await presence.close()
    await until(lambda: is_free(world, presence.key))
    assert not await looks.ended_after(LOOKS - 1), "it may have lost its session only"
    assert await looks.ended_after(1)
    leases = await world.admin.fetch("SELECT id, lease_until FROM notifications")
    assert looks.died == {row["id"]: row["lease_until"] for row in leases}


async def test_after_a_restart_of_postgresql_a_free_lock_proves_something_once_it_was_held_again(
    world: World, looks: Looks, presence: Presence
) -> None:
    looks.presence._since = time.monotonic()
    await under_way(world, 42)
    assert not await looks.ended_after(3 * LOOKS), "it may be slower to come back"
    await world.admin.execute("SELECT pg_advisory_lock(42)")
    assert not await looks.ended_after(1)
    await world.admin.execute("SELECT pg_advisory_unlock(42)")
    assert await looks.ended_after(LOOKS)


async def test_a_server_whose_clock_was_set_back_has_been_there_at_least_since_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise every lease that is over would be doubted until its clock is where it was."""
    monkeypatch.setattr(senders, "_UPTIME", "SELECT -3600.0::float8")
    presence = await Presence.open(world.database_url, name="test")
    await until(lambda: presence.since is not None)
    assert presence.since is not None
    assert presence.since <= time.monotonic()
    await presence.close()


async def test_on_a_server_where_it_does_not_hold_its_own_lock_no_sender_is_judged(world: World, looks: Looks) -> None:
    """Another server took over, and the session with the lock has not noticed yet."""
    await under_way(world, 42)
    looks.presence.key += 1  # type: ignore[misc]
    assert not await looks.ended_after(3 * LOOKS)


async def test_an_attempt_names_its_process_only_on_the_server_where_that_holds_its_lock(
    world: World, database: Database, presence: Presence
) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(works=False) as door:
        await door.submit(job(org))
    [id] = [row["id"] for row in await world.admin.fetch("SELECT id FROM notifications")]
    for sender, named in ((presence.key, presence.key), (presence.key + 1, None), (None, None)):
        await world.admin.execute(
            "DELETE FROM attempts; UPDATE notifications SET state = 'pending', due_time = app_now(), lease_until = NULL"
        )
        async with database.system() as tx:
            assert len(await notifications.claim(tx, [id], max_tries=5, lease=15.0, sender=sender)) == 1
        assert await world.admin.fetchval("SELECT sender FROM attempts") == named


async def test_one_that_comes_back_in_between_keeps_them(world: World, looks: Looks) -> None:
    await under_way(world, 42)
    for _ in range(2):
        assert not await looks.ended_after(LOOKS - 1)
        await world.admin.execute("SELECT pg_advisory_lock(42)")
        assert not await looks.ended_after(1), "the count begins anew"
        await world.admin.execute("SELECT pg_advisory_unlock(42)")


async def test_a_session_that_was_ended_is_replaced(world: World, presence: Presence) -> None:
    """Under the same key, so that what is under way is protected again."""
    for _ in range(2):
        before = await holder(world, presence.key)
        assert await world.admin.fetchval("SELECT pg_terminate_backend($1)", before)

        async def held_again(before: int | None = before) -> bool:
            return await holder(world, presence.key) not in (None, before) and presence.sender == presence.key

        await until(held_again)


async def test_an_attempt_whose_call_may_not_have_begun_yet_is_left_alone(world: World, looks: Looks) -> None:
    await under_way(world, 42, age=-60.0)
    assert not await looks.ended_after(3 * LOOKS)
    await world.admin.execute("UPDATE attempts SET start_time = app_now() - make_interval(secs => $1)", YOUNG_SECONDS)
    assert await looks.ended_after(1)


async def test_attempts_without_a_sender_wait_for_their_lease(world: World, looks: Looks) -> None:
    """Those of a process that did not hold its lock, or of a version before this one."""
    await under_way(world, None)
    assert not await looks.ended_after(3 * LOOKS)


async def test_looks_that_fail_count_nothing(
    world: World, looks: Looks, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While PostgreSQL is away no process holds a lock."""
    await under_way(world, 42)
    assert not await looks.ended_after(LOOKS - 1)
    with monkeypatch.context() as away:
        away.setattr(database, "system", is_away)
        with pytest.raises(TocsinError):
            await looks.look()
    assert not await looks.ended_after(LOOKS - 1)
    assert await looks.ended_after(1)


def is_away() -> NoReturn:
    raise unavailable("the database cannot be reached; nothing was done")


async def holder(world: World, key: int) -> int | None:
    """The session that holds a sender's lock."""
    held = """SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
                AND (classid::bigint << 32 | objid::bigint) = $1"""
    pid: int | None = await world.admin.fetchval(held, key)
    return pid


async def is_free(world: World, key: int) -> bool:
    async with world.admin.transaction():
        return bool(await world.admin.fetchval("SELECT pg_try_advisory_xact_lock_shared($1)", key))

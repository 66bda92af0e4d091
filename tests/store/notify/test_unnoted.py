"""A page that was sent, and whose outcome could not be written down yet, is not sent again by a replica that is back earlier."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import pytest
from tocsin_kit import wall_clock
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_notify.app.delivery import take_over
from tocsin_notify.app.delivery.take_over import TakeOver
from tocsin_notify.app.delivery.vanished import Vanished
from tocsin_notify.store.delivery import candidates
from tocsin_notify.store.delivery.candidates import Candidate
from tocsin_notify.store.delivery.senders import LOOKS, Presence
from tocsin_testkit.clock import clock_reads
from tocsin_testkit.databases import dialed

from tests.store.notify.support import Notify, World, job, new_org, until
from tests.store.road import Road, road

LONG: Final[dict[str, Any]] = {"attempt_timeout_seconds": 120.0, "lease_seconds": 600.0}
OLD: Final = "UPDATE attempts SET start_time = app_now() - interval '1 minute'"
"""Its call has begun for certain."""
END_ALL: Final = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user
"""
WITHOUT_WRITING: Final = """
CREATE SEQUENCE claims;
CREATE SEQUENCE notes;
GRANT USAGE ON claims, notes TO PUBLIC;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nextval(CASE TG_OP WHEN 'INSERT' THEN 'claims' ELSE 'notes' END::regclass);
  RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$;
"""
REFUSED: Final = "CREATE TRIGGER refused BEFORE {what} ON attempts FOR EACH ROW EXECUTE FUNCTION refuse()"
"""`what`: UPDATE is a note, INSERT a claim."""
TRIED: Final = "SELECT is_called FROM {what}"
OVER: Final = "UPDATE notifications SET lease_until = app_now() - interval '1 second' WHERE state = 'sending'"


@asynccontextmanager
async def replica(world: World, way: Road) -> AsyncIterator[Notify]:
    """One that reaches PostgreSQL over `way`."""
    direct = world.database_url
    world.database_url = way.url
    try:
        started = world.replica(**LONG)
        async with started as replica:
            world.database_url = direct
            yield replica
    finally:
        world.database_url = direct


@asynccontextmanager
async def called(world: World, owner: Notify) -> AsyncIterator[asyncio.Event]:
    """`owner` calls a provider, which has taken the page and answers when the event is set."""
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.hang["ana"] = answer = asyncio.Event()
    await owner.submit(job(org))
    await until(lambda: world.hooks.held["ana"])
    await world.admin.execute(OLD)
    yield answer


async def is_sent_once(world: World) -> None:
    """The first attempt is noted, and there is no other."""

    async def sent() -> bool:
        return await world.states() == ["sent"]

    await until(sent)
    assert world.arrived("ana") == 1
    attempts = await world.admin.fetch("SELECT number, outcome FROM attempts ORDER BY number")
    assert [tuple(attempt) for attempt in attempts] == [(1, "sent")]


@pytest.fixture
async def database(world: World) -> AsyncIterator[Database]:
    database = await dialed(world.database_url, name="test")
    yield database
    await database.close()


async def test_after_a_restart_of_postgresql_a_process_that_is_slow_to_come_back_does_not_count_as_dead(
    world: World, database: Database
) -> None:
    async with road(world.database_url) as way, replica(world, way) as owner, called(world, owner) as answer:
        looker = await Presence.open(world.database_url, name="looker")
        await until(lambda: looker.since is not None)
        before = looker.since
        look = Vanished(database, looker, lambda died: None)
        await look()
        way.cut()
        await world.admin.execute(END_ALL)
        answer.set()
        await until(lambda: looker.since not in (None, before))
        done = 0
        while done < 3 * LOOKS:
            with suppress(TocsinError):  # as long as the sessions of the test's own pool are not back
                await look()
                done += 1
        assert await world.admin.fetchval("SELECT bool_and(lease_until > app_now()) FROM notifications")
        way.mend()
        await is_sent_once(world)
        await looker.close()


async def test_a_lease_that_ran_out_while_postgresql_was_away_is_not_over_for_who_is_back_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        take_over, "RECOVERY_SECONDS", 3600.0
    )  # no matter how slow the machine is, it has just come back
    async with AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(road(world.database_url)) for _ in range(2)]
        owner, _ = [await stack.enter_async_context(replica(world, way)) for way in ways]
        answer = await stack.enter_async_context(called(world, owner))
        for way in ways:
            way.cut()
        answer.set()
        now = await world.admin.fetchval("SELECT now()::text")
        await world.admin.execute(
            clock_reads(f"timestamptz '{now}'")
        )  # what is prolonged lasts, no matter how slow the test is
        await world.admin.execute(OVER)
        ways[1].mend()
        await until(lambda: world.admin.fetchval("SELECT lease_until > app_now() FROM notifications"))
        assert world.arrived("ana") == 1
        ways[0].mend()
        await is_sent_once(world)


async def test_a_lease_that_ran_out_while_nothing_could_be_written_is_not_over_for_who_can_write_first(
    world: World,
) -> None:
    async with road(world.database_url) as way, replica(world, way) as owner, called(world, owner) as answer:
        await world.admin.execute(WITHOUT_WRITING + REFUSED.format(what="INSERT OR UPDATE"))
        answer.set()
        await until(lambda: world.admin.fetchval(TRIED.format(what="notes")))
        async with world.replica(**LONG):
            await world.admin.execute(OVER)
            await until(lambda: world.admin.fetchval(TRIED.format(what="claims")))
            way.cut()
            now = await world.admin.fetchval("SELECT now()::text")
            await world.admin.execute(clock_reads(f"timestamptz '{now}'"))
            await until(lambda: world.admin.fetchval("SELECT lease_until > app_now() FROM notifications"))
            await world.admin.execute("DROP TRIGGER refused ON attempts")
            assert world.arrived("ana") == 1
            way.mend()
            await is_sent_once(world)


class Clock:
    """The monotonic clock of a process that has been there for an hour."""

    def __init__(self) -> None:
        self._ahead = 3600.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def pass_a_look(self) -> None:
        """Until the next look of each process is over."""
        self._ahead += take_over._APART_SECONDS


@asynccontextmanager
async def lookers(world: World, database: Database, count: int) -> AsyncIterator[tuple[Clock, list[TakeOver]]]:
    """Processes that have been there for long."""
    presence = await Presence.open(world.database_url, name="looker")
    await until(lambda: presence.since is not None)
    clock = Clock()
    yield (
        clock,
        [TakeOver(database, presence, lambda _: False, lease=600.0, clock=clock) for _ in range(count)],
    )
    await presence.close()


async def leases(world: World) -> dict[UUID, datetime]:
    """When each one ended."""
    return {
        row["id"]: row["lease_until"] for row in await world.admin.fetch("SELECT id, lease_until FROM notifications")
    }


LOCKS: Final = ["SELECT FROM notifications FOR UPDATE", "UPDATE notifications SET state_reason = 'looked into'"]


@pytest.mark.parametrize("lock", LOCKS)
async def test_a_lease_that_ran_out_while_another_transaction_held_its_row_is_not_over_for_who_looks_first(
    world: World, database: Database, lock: str
) -> None:
    """An operator's statement, or a migration's, holds the row. Its owner has the answer, and may be slower than another one."""
    async with (
        road(world.database_url) as way,
        replica(world, way) as owner,
        called(world, owner) as answer,
        lookers(world, database, 1) as (clock, [long_there]),
    ):
        way.cut()
        for _ in range(3):
            await world.admin.execute(OVER)
            async with database.system() as tx:
                await tx.execute(lock)
                for _ in range(2):
                    assert await long_there.find() == []
                    clock.pass_a_look()
            assert await long_there.find() == [], "its owner gets time to write"
            assert await world.admin.fetchval("SELECT bool_and(lease_until > app_now()) FROM notifications")
        await world.admin.execute(OVER)
        async with database.system() as tx:
            await tx.execute(lock)
            assert await long_there.find() == []
        assert await long_there.find() == []
        clock.pass_a_look()
        assert len(await long_there.find()) == 1, "a few times only: the owner may be dead"
        way.mend()
        answer.set()
        await is_sent_once(world)


async def test_who_looks_for_the_first_time_after_a_lock_leaves_time_to_those_who_saw_it(
    world: World, database: Database
) -> None:
    """It found the row over and free, and sent the page a second time."""
    async with one_expired(world), lookers(world, database, 2) as (clock, [early, late]):
        async with database.system() as tx:
            await tx.fetch("SELECT FROM notifications FOR UPDATE")
            assert await early.find() == []
        assert await late.find() == []
        assert await early.find() == []
        assert await world.admin.fetchval("SELECT lease_until > app_now() FROM notifications"), "the owner has time"
        clock.pass_a_look()
        await world.admin.execute(OVER)
        assert await late.find() == [], "this lease is another one"
        clock.pass_a_look()
        assert len(await late.find()) == 1


async def test_after_a_look_that_failed_rows_wait_again(world: World, database: Database) -> None:
    """A table was locked: its rows were not free although no look found them locked."""
    async with one_expired(world), lookers(world, database, 1) as (clock, [looker]):
        assert await looker.find() == []
        clock.pass_a_look()
        async with database.system() as tx:
            await tx.execute("LOCK TABLE notifications IN EXCLUSIVE MODE")
            with pytest.raises(TocsinError, match="another call holds"):
                await looker.find()
        assert await looker.find() == []
        clock.pass_a_look()
        assert len(await looker.find()) == 1


async def test_processes_that_look_at_once_do_not_take_each_other_for_one_that_holds_the_rows(
    world: World, database: Database
) -> None:
    """Each gave the sender more time, again and again: the pages of a dead one came late."""
    async with one_expired(world):
        [id] = [row["id"] for row in await world.admin.fetch("SELECT id FROM notifications")]
        async with database.system() as one, database.system() as other:
            assert (await candidates.unlocked(one, [id])).keys() == {id}
            assert (await candidates.unlocked(other, [id])).keys() == {id}


async def test_the_pages_of_a_process_that_is_known_to_be_dead_do_not_wait(world: World, database: Database) -> None:
    async with one_expired(world), lookers(world, database, 1) as (_, [looker]):
        looker.died(await leases(world))
        assert len(await looker.find()) == 1


async def test_a_lock_does_not_make_the_pages_of_a_dead_process_wait(world: World, database: Database) -> None:
    """One look that met the lock forgot that the sender was dead, and gave it five seconds."""
    async with one_expired(world), lookers(world, database, 1) as (_, [looker]):
        looker.died(await leases(world))
        async with database.system() as tx:
            await tx.execute(LOCKS[0])
            assert await looker.find() == []
        assert len(await looker.find()) == 1


async def test_after_a_dead_process_another_one_that_calls_gets_its_time(world: World, database: Database) -> None:
    """It took the page of the dead one over; then its row was locked, and the call was made again at once."""
    async with one_expired(world), lookers(world, database, 1) as (clock, [looker]):
        looker.died(await leases(world))
        await world.admin.execute(OVER)  # of the lease that the other one had
        assert await looker.find() == []
        clock.pass_a_look()
        assert len(await looker.find()) == 1


async def test_what_a_process_could_not_write_down_yet_it_does_not_call_again(
    world: World, notify: Notify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims succeed, and what calls came to cannot be written: each lease that runs out would ring once more."""
    monkeypatch.setattr(take_over, "_APART_SECONDS", 0.0)
    looks = []
    find = TakeOver.find

    async def recorded(self: TakeOver) -> list[Candidate]:
        looks.append(await find(self))
        return looks[-1]

    monkeypatch.setattr(TakeOver, "find", recorded)
    async with called(world, notify) as answer:
        await world.admin.execute(WITHOUT_WRITING + REFUSED.format(what="UPDATE"))
        answer.set()
        await until(lambda: world.admin.fetchval(TRIED.format(what="notes")))
        await world.admin.execute(OVER)
        await until(lambda: len(looks) == 3)
        assert looks == [[]] * 3
        await world.admin.execute("DROP TRIGGER refused ON attempts")
        await is_sent_once(world)


@asynccontextmanager
async def one_expired(world: World) -> AsyncIterator[tuple[Presence, float]]:
    """A page that was being sent, and whose lease is over; another process, and since when it is there."""
    await world.method(org := new_org(), webhook="ana")
    async with world.replica(works=False) as door:
        await door.submit(job(org))
    await world.admin.execute(
        "UPDATE notifications SET state = 'sending', due_time = NULL, lease_until = now(), attempts = 1, tries = 1"
    )
    presence = await Presence.open(world.database_url, name="test")
    await until(lambda: presence.since is not None)
    assert presence.since is not None
    yield presence, presence.since
    await presence.close()


async def test_a_clock_that_is_set_ahead_ends_no_lease(
    world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner may be calling: each call of an hour would ring once more."""
    monkeypatch.setattr(take_over, "_APART_SECONDS", 0.0)
    async with one_expired(world) as (presence, since):
        taking = TakeOver(database, presence, lambda _: False, lease=15.0, clock=lambda: since + 60)
        await database.ping()
        monkeypatch.setattr(wall_clock, "_set_at", float("-inf"))
        monkeypatch.setattr(wall_clock, "_ahead", wall_clock._ahead - 3600)  # PostgreSQL's is an hour ahead of that now
        assert await taking.find() == []
        assert await world.admin.fetchval("SELECT lease_until > app_now() + interval '10 s' FROM notifications")
        await world.admin.execute(OVER)
        monkeypatch.setattr(wall_clock, "_set_at", float("-inf"))
        assert len(await taking.find()) == 1, "long ago"


async def test_with_a_database_that_goes_and_comes_time_is_given_a_few_times_only(
    world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page rather rings twice than never."""
    monkeypatch.setattr(take_over, "_APART_SECONDS", 0.0)
    async with one_expired(world) as (presence, since):
        just_now = since + 0.1
        taking = TakeOver(database, presence, lambda _: False, lease=15.0, clock=lambda: just_now)
        for _ in range(3):
            assert await taking.find() == []
            assert await world.admin.fetchval("SELECT lease_until > app_now() FROM notifications")
            taking.failed()
            await world.admin.execute(OVER)
        assert len(await taking.find()) == 1
        taking.taken(1)
        await world.admin.execute(OVER)
        assert await taking.find() == [], "the next outage is another one"

"""Watching incidents: each change once, even if streams or transactions end, wait or begin in between."""

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from tocsin_escalation.app.incidents.advance import advance
from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.app.watching.watch_incidents import Batch, Cursor, Feeds, WatchFilter
from tocsin_escalation.domain.events import Acknowledged, Noted
from tocsin_escalation.store.incidents.changes import horizon
from tocsin_kit.auth import Principal
from tocsin_kit.credentials import Credentials
from tocsin_kit.errors import TocsinError
from tocsin_kit.keys.revocations import Revocation
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.live_streams import LiveStreams
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch
from tocsin_testkit.databases import dialed
from tocsin_testkit.prepared import Prepared

from tests.store.escalation.recorders import ORG, Desk

ANA = Principal(ORG, "users/ana", frozenset({"incidents:read"}), token_id="t1", issued=1.0)
ANYTHING = WatchFilter()
Stream = AsyncGenerator[Batch, None]


class Replica:
    """One replica's readers."""

    def __init__(self, desk: Desk, *, page: int = 200, most_waiting: int = 1000) -> None:
        self.stop = asyncio.Event()
        self.credentials = Credentials(rate=1, burst=1, metrics=Metrics(CollectorRegistry()))
        self.streams = LiveStreams(self.credentials, self.stop)
        self.feeds = Feeds(desk.db, self.streams, most_waiting=most_waiting, page=page)
        desk.effects = replace(desk.effects, watching=self.feeds)

    def watch(self, cursor: Cursor | None = None, wanted: WatchFilter = ANYTHING, caller: Principal = ANA) -> Stream:
        return self.feeds.watch(caller, wanted, cursor)


async def some(stream: Stream, count: int) -> list[Batch]:
    """Messages until they hold so many changes."""
    found: list[Batch] = []
    async with asyncio.timeout(30):
        while sum(len(each.changes) for each in found) < count:
            found.append(await anext(stream))
    return found


def ids(batches: list[Batch]) -> list[int]:
    return [change.row.entry.id for batch in batches for change in batch.changes]


async def notes(desk: Desk, incident: UUID, *texts: str) -> None:
    for text in texts:
        await desk.take(incident, Noted("users/ana", text))


async def test_from_each_cursor_each_later_change_comes_once_also_at_another_replica(desk: Desk) -> None:
    here, there = Replica(desk, page=2), Replica(desk, page=3)
    desk.effects = replace(desk.effects, watching=here.feeds)
    async with aclosing(here.watch()) as live:
        begin = await anext(live)
        incident = await desk.opens()
        await desk.take(incident, Acknowledged("users/ana"))
        await notes(desk, incident, "one", "two", "three")
        seen = [begin, *await some(live, 6)]
    told = ids(seen)
    assert len(told) == len(set(told)) == 6
    for place, batch in enumerate(seen):
        rest = ids(seen[place + 1 :])
        async with aclosing(there.watch(batch.cursor)) as again:
            assert ids(await some(again, len(rest))) == rest
            live_now = await anext(again)
            assert not live_now.changes
    assert len(here.feeds) == len(there.feeds) == len(here.streams) == 0, "nothing is kept of streams that ended"


async def test_a_change_with_a_smaller_number_that_commits_later_is_not_passed(desk: Desk, url: str) -> None:
    replica = Replica(desk)
    first, second = await desk.opens(), await desk.opens()
    async with aclosing(replica.watch()) as live:
        await anext(live)
        async with desk.db.transaction(ORG) as tx:
            await advance(tx, [Step(first, Noted("users/ana", "slow"))], desk.effects)
            await notes(desk, second, "quick")
            replica.feeds.changed([ORG])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await anext(live)
    async with aclosing(replica.watch()) as live:
        began = await anext(live)
        async with desk.db.transaction(ORG) as tx:
            await advance(tx, [Step(first, Noted("users/ana", "slow again"))], desk.effects)
            await notes(desk, second, "quick again")
        found = await some(live, 2)
    texts = [change.row.entry.message for batch in found for change in batch.changes]
    assert texts == ["slow again", "quick again"]
    async with aclosing(replica.watch(began.cursor)) as again:
        assert ids(await some(again, 2)) == ids(found)


async def test_a_slow_reader_is_told_to_come_back_and_then_has_it_all(desk: Desk) -> None:
    replica = Replica(desk, most_waiting=3)
    incident = await desk.opens()
    async with aclosing(replica.watch()) as slow:
        begin = await anext(slow)
        await notes(desk, incident, "1")
        [first] = await some(slow, 1)
        for number in range(6):
            await notes(desk, incident, str(number))
            await replica.feeds.look()
            await reached(desk, replica)
        with pytest.raises(TocsinError) as raised:
            async with asyncio.timeout(30):
                await anext(slow)
    assert raised.value.reason_name == "WATCH_TOO_SLOW"
    async with aclosing(replica.watch(first.cursor)) as again:
        rest = ids(await some(again, 6))
    async with aclosing(replica.watch(begin.cursor)) as again:
        assert ids(await some(again, 7)) == ids([first]) + rest


async def reached(desk: Desk, replica: Replica) -> None:
    """The tenant's reader has handed out all there is: one that asks now is told of nothing newer."""
    async with aclosing(replica.watch()) as other:
        await anext(other)


@pytest.mark.parametrize("ended", ["revoked", "expired", "stopped"])
async def test_a_stream_ends_with_its_credential_and_with_its_process(desk: Desk, ended: str) -> None:
    replica = Replica(desk)
    caller = replace(ANA, expires=time.time() - 1) if ended == "expired" else ANA
    async with aclosing(replica.watch(caller=caller)) as live:
        await anext(live)
        if ended == "revoked":
            replica.credentials.revocations.add(Revocation(ORG, "t1", "", 0.0, math.inf))
        if ended == "stopped":
            replica.stop.set()
        replica.streams.look()
        with pytest.raises(TocsinError) as raised:
            async with asyncio.timeout(30):
                await anext(live)
    reasons = {"revoked": "CREDENTIAL_INVALID", "expired": "CREDENTIAL_EXPIRED", "stopped": "SERVICE_UNAVAILABLE"}
    assert raised.value.reason_name == reasons[ended]


async def test_another_tenant_sees_nothing(desk: Desk) -> None:
    replica = Replica(desk)
    other = replace(ANA, org_id="globex")
    async with aclosing(replica.watch(caller=other)) as theirs, aclosing(replica.watch()) as mine:
        begin = await anext(theirs)
        await anext(mine)
        await desk.opens()
        await some(mine, 2)
        await replica.feeds.look()
        async with aclosing(replica.watch(begin.cursor, caller=other)) as again:
            assert not (await anext(again)).changes
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(theirs)


async def test_a_quiet_stream_beats_and_its_cursor_stays_young(desk: Desk) -> None:
    replica = Replica(desk)
    async with aclosing(replica.watch()) as live:
        old = await anext(live)
        await desk.passes(days=2)
        await replica.feeds.look()
        next(iter(replica.streams._open)).beat()
        async with asyncio.timeout(30):
            beat = await anext(live)
        assert not beat.changes
        assert beat.cursor.time - old.cursor.time > timedelta(days=1)
    incident = await desk.opens()
    async with aclosing(replica.watch(beat.cursor)) as again:
        [first, *_] = await some(again, 2)
        assert {change.incident.run.incident_id for change in first.changes} == {incident}
    await refused(replica, old.cursor)


async def refused(replica: Replica, cursor: Cursor) -> None:
    async with aclosing(replica.watch(cursor)) as again:
        with pytest.raises(TocsinError) as raised:
            await anext(again)
    assert raised.value.reason_name == "CURSOR_TOO_OLD"


async def test_a_cursor_of_another_life_of_the_database_is_refused(desk: Desk) -> None:
    replica = Replica(desk)
    async with aclosing(replica.watch()) as live:
        cursor = (await anext(live)).cursor
    await refused(replica, replace(cursor, epoch="1.1"))
    await refused(replica, replace(cursor, position=cursor.position._replace(transaction=1 << 40)))


async def test_a_standby_that_took_over_is_another_life_from_its_first_moment(prepared: Prepared) -> None:
    """Not from its first checkpoint on, minutes later: by then its numbers are as high as those that were lost."""
    with scratch() as folder:
        await prepared.copy_to(folder)
        server = Postgres(folder / "postgres", fsync=False)
        (folder / "postgres" / "cluster" / "standby.signal").touch()
        await server.start()
        try:
            admin = await asyncpg.connect(server.admin_url)
            checkpointer = await admin.fetchval("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
            os.kill(checkpointer, signal.SIGSTOP)
            assert await admin.fetchval("SELECT pg_promote(true, 30)")
            await admin.close()
            db = await dialed(server.url("tocsin_escalation", "tocsin_escalation"), name="standby")
            async with db.system() as tx:
                epoch = (await horizon(tx)).epoch
            await db.close()
        finally:
            os.kill(checkpointer, signal.SIGCONT)
            await server.stop()
    assert epoch.rpartition(".")[2] == "2"


@pytest.mark.parametrize("refused_function", ["pg_walfile_name(pg_lsn)", "pg_control_system()"])
async def test_streams_go_on_where_the_server_does_not_tell_its_timeline(
    desk: Desk, postgres: Postgres, url: str, refused_function: str
) -> None:
    """As managed servers do. A server that was started anew is another life then."""
    admin = await asyncpg.connect(postgres.url(url.rpartition("/")[2]))
    await admin.execute(f"REVOKE EXECUTE ON FUNCTION {refused_function} FROM PUBLIC")
    try:
        replica = Replica(desk)
        incident = await desk.opens()
        async with aclosing(replica.watch()) as live:
            cursor = (await anext(live)).cursor
            await notes(desk, incident, "now")
            found = await some(live, 1)
        assert [change.row.entry.message for change in found[-1].changes] == ["now"]
        async with aclosing(replica.watch(cursor)) as again:
            assert len((await some(again, 1))[-1].changes) == 1
        await refused(replica, replace(cursor, epoch="1.1"))
    finally:
        await admin.execute(f"GRANT EXECUTE ON FUNCTION {refused_function} TO PUBLIC")
        await admin.close()


async def test_entries_that_were_restored_from_another_server_are_no_changes(desk: Desk, url: str) -> None:
    replica = Replica(desk)
    incident = await desk.opens()
    async with aclosing(replica.watch()) as live:
        await anext(live)
        connection = await asyncpg.connect(url)
        await connection.execute("SET tocsin.org_id = '*'")
        await connection.execute("UPDATE timeline SET transaction = 1::bigint << 40")
        await connection.close()
        await replica.feeds.look()
        await notes(desk, incident, "now")
        found = await some(live, 1)
    assert [change.row.entry.message for change in found[-1].changes] == ["now"]


async def test_filters_look_at_the_incident_after_the_change(desk: Desk) -> None:
    replica = Replica(desk)
    async with aclosing(replica.watch()) as live:
        begin = await anext(live)
        incident, other = await desk.opens(), await desk.opens(severity=3)  # type: ignore[arg-type]
        await desk.take(incident, Acknowledged("users/ana"))
        everything = await some(live, 5)
    kinds = [(change.row.incident_id, change.row.entry.kind) for batch in everything for change in batch.changes]

    async def only(wanted: WatchFilter, count: int) -> list[tuple[UUID, str]]:
        async with aclosing(replica.watch(begin.cursor, wanted)) as again:
            found = await some(again, count)
            assert not (await anext(again)).changes
        return [(change.row.incident_id, change.row.entry.kind) for batch in found for change in batch.changes]

    assert await only(WatchFilter(states=frozenset({"acknowledged"})), 1) == [(incident, "acknowledged")]
    assert await only(WatchFilter(severities=frozenset({3})), 2) == [each for each in kinds if each[0] == other]
    assert await only(WatchFilter(incidents=frozenset({other})), 2) == [each for each in kinds if each[0] == other]
    assert await only(WatchFilter(policy="night", assignee="ana"), 5) == kinds
    for nothing in (
        WatchFilter(policy="day"),
        WatchFilter(team="ops"),
        WatchFilter(assignee="ben"),
        WatchFilter(labels=frozenset({("a", "b")})),
        WatchFilter(incidents=frozenset({uuid4()})),
    ):
        assert await only(nothing, 0) == []


async def test_every_watcher_of_a_filter_gets_the_same_object(desk: Desk) -> None:
    """A thousand watchers cost one reading, one look at the filter and one message."""
    replica = Replica(desk)
    streams = [replica.watch(wanted=WatchFilter(policy="night")) for _ in range(20)]
    for stream in streams:
        await anext(stream)
    await desk.opens()
    found = [(await some(stream, 2))[-1] for stream in streams]
    assert len({id(batch) for batch in found}) == 1
    for stream in streams:
        await stream.aclose()
    assert len(replica.feeds) == len(replica.streams) == 0

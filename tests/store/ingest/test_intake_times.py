"""Silence of a sender and silence that Tocsin made itself are told apart, alike for quiet incidents and for heartbeats."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_ingest.app.alerts.intake_times import GAP, IntakeTimes
from tocsin_ingest.app.incidents.resolve_quiet import QuietIncidents
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.app.integrations.heartbeats import Heartbeats
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts import intakes
from tocsin_ingest.store.integrations import heartbeats, integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_ingest.store.retention import STATEMENTS, delete_old
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError

from tests.store.ingest.committing import commit, committer, rows
from tests.store.ingest.support import clock_of, new_org
from tests.unit.ingest.model import message

AFTER = timedelta(minutes=15)
LIMITED = TocsinError(ErrorReason.ERROR_REASON_RATE_LIMITED, "too fast")
KINDS = pytest.mark.parametrize("kind", ["quiet", "heartbeat"])


class House:
    """A replica that works and replicas that serve, apart from each other."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = clock_of(database)
        self.elapsed = 0.0
        self.able = True
        self.one, self.other = self.serving(), self.serving()
        metrics = IngestMetrics(CollectorRegistry())
        self.quiet = QuietIncidents(database, metrics, lambda: None)
        self.alive = Heartbeats(database, Directory(database, metrics), metrics, lambda: None)

    def serving(self) -> IntakeTimes:
        return IntakeTimes(self.database, lambda: self.able, lambda: self.elapsed)

    async def tenant(self, kind: str) -> str:
        """With the integration `prom` that is silent from now on: with an open incident, or a heartbeat that is awaited."""
        org, await_beats = new_org(), kind == "heartbeat"

        async def work(tx: Tx) -> None:
            await integrations.insert(
                tx, "prom", IntegrationConfig("Prometheus", "", b"", (), None if await_beats else AFTER)
            )
            if await_beats:
                await heartbeats.expect(tx, "prom", AFTER)

        await self.database.run(org, work)
        if not await_beats:
            await commit(committer(self.database), org, [message("disk", org=org)])
        return org

    async def passes(self, minutes: float, *serving: IntakeTimes) -> None:
        """`serving`: those that do so at the end of that time."""
        await self.clock.forward(timedelta(minutes=minutes))
        for each in serving:
            await each.round()

    async def concluded(self, org: str) -> bool:
        """Whether the replica that works takes the sender for silent."""
        await self.quiet.round()
        await self.alive.round()
        [counted] = await rows(
            self.database,
            org,
            """SELECT (SELECT count(*) FROM incidents WHERE resolved_by IS NOT NULL)
              + (SELECT count(*) FROM integrations WHERE heartbeat_missing) AS silent""",
        )
        return bool(counted["silent"])


@pytest.fixture
async def house(database: Database) -> House:
    house = House(database)
    await house.one.round()
    return house


@KINDS
async def test_silence_counts_while_alerts_can_be_taken(house: House, kind: str) -> None:
    org = await house.tenant(kind)
    await house.passes(14, house.one)
    assert not await house.concluded(org)
    await house.passes(2, house.one)
    assert await house.concluded(org)


@KINDS
@pytest.mark.parametrize("restarted", [False, True])
async def test_nothing_is_concluded_while_no_replica_serves_nor_from_that_time_afterwards(
    house: House, kind: str, restarted: bool
) -> None:
    org = await house.tenant(kind)
    await house.passes(20)
    assert not await house.concluded(org), "a replica that only works cannot tell"
    house.elapsed += 20 * 60
    back = house.serving() if restarted else house.one
    await back.round()
    assert not await house.concluded(org)
    await house.passes(14, back)
    assert not await house.concluded(org)
    await house.passes(2, back)
    assert await house.concluded(org)


@KINDS
async def test_a_replica_that_cannot_take_alerts_does_not_count_as_one_that_serves(house: House, kind: str) -> None:
    org = await house.tenant(kind)
    house.able = False
    await house.passes(20, house.one)
    assert not await house.concluded(org)


@KINDS
async def test_one_replica_that_serves_is_enough(house: House, kind: str) -> None:
    org = await house.tenant(kind)
    await house.other.round()
    for _ in range(4):
        await house.passes(4, house.other)
    house.elapsed += 16 * 60
    await house.one.round()
    await house.serving().round()
    assert await house.concluded(org), "another one served while this one stood still"


async def test_less_than_a_minute_is_no_outage(house: House) -> None:
    org = await house.tenant("quiet")
    await house.passes(15, house.one)
    await house.passes(0.9)
    house.elapsed += 54
    await house.serving().round()
    assert await house.concluded(org)


@KINDS
@pytest.mark.parametrize("integration", ["prom", None])
async def test_after_a_refusal_it_takes_as_long_again(house: House, kind: str, integration: str | None) -> None:
    """None: the call was refused before it was known of which integration it is."""
    org = await house.tenant(kind)
    await house.passes(10)
    house.other.refused(org, integration, LIMITED)
    await house.other.round()
    await house.one.round()
    for _ in range(2):
        await house.passes(7, house.one)
        assert not await house.concluded(org)
    await house.passes(2, house.one)
    assert await house.concluded(org)


@KINDS
async def test_what_others_are_refused_and_what_no_limit_refused_changes_nothing(house: House, kind: str) -> None:
    org = await house.tenant(kind)
    await house.passes(10)
    house.one.refused(org, "other", LIMITED)
    house.one.refused(new_org(), "prom", LIMITED)
    house.one.refused(org, "prom", TocsinError(ErrorReason.ERROR_REASON_INVALID_FIELD, "wrong"))
    await house.passes(6, house.one)
    assert await house.concluded(org)


@KINDS
async def test_a_database_from_a_backup_says_nothing_about_the_time_since_then(house: House, kind: str) -> None:
    org = await house.tenant(kind)
    backup = "UPDATE intakes SET renew_time = renew_time - interval '3 hours'"
    for minutes, concluded in ((16, False), (14, False), (2, True)):
        await house.clock.forward(timedelta(minutes=minutes))
        if minutes == 16:
            await house.database.run(None, lambda tx: tx.execute(backup))
        await house.one.round()
        assert await house.concluded(org) is concluded


@KINDS
async def test_two_replicas_that_write_across_each_other_leave_no_gap(house: House, kind: str) -> None:
    org = await house.tenant(kind)
    await house.passes(16)
    async with house.database.system() as slow:
        assert await slow.now()
        await house.one.round()
        await intakes.renew(slow, GAP, paused=False, last=None)
    await house.one.round()
    assert await house.concluded(org)


async def test_a_clock_that_has_gone_back_hides_no_outage(house: House) -> None:
    async with house.database.system() as tx:
        await tx.execute("UPDATE intakes SET renew_time = renew_time + interval '1 hour' WHERE org_id = '*'")
    await house.one.round()
    await house.passes(2)
    async with house.database.system() as tx:
        assert await intakes.since(tx, GAP) is None


async def test_the_heartbeat_shows_the_time_that_counts(house: House) -> None:
    org = await house.tenant("heartbeat")
    await house.passes(10)
    house.one.refused(org, "prom", LIMITED)
    await house.one.round()
    await house.passes(6, house.one)
    assert not await house.concluded(org)
    [row] = await rows(house.database, org, "SELECT heartbeat_due_time - app_now() AS left FROM integrations")
    assert timedelta(minutes=8) < row["left"] <= timedelta(minutes=9)


async def test_refusals_cost_a_row_for_each_integration_and_none_is_lost_with_a_failed_write(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = new_org()
    for number in range(1000):
        house.one.refused(org, f"i{number % 3}", LIMITED)
    refuse: Callable[..., Awaitable[None]] = intakes.refuse

    async def fails(tx: Tx, refused: Mapping[tuple[str, str], tuple[int, str]]) -> None:
        await refuse(tx, refused)
        raise TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "gone")

    with monkeypatch.context() as patched:
        patched.setattr(intakes, "refuse", fails)
        with pytest.raises(TocsinError):
            await house.one.round()
    assert await rows(house.database, org, "SELECT FROM intakes") == []
    await house.one.round()
    found = "SELECT integration_id, refused, since FROM intakes ORDER BY integration_id"
    before = await rows(house.database, org, found)
    assert [(row["integration_id"], row["refused"]) for row in before] == [("i0", 334), ("i1", 333), ("i2", 333)]
    await house.passes(1, house.one)
    assert await rows(house.database, org, found) == before, "once told, they are written once"


async def test_old_refusals_go_and_the_row_of_the_service_stays(house: House) -> None:
    house.one.refused(new_org(), "prom", LIMITED)
    await house.one.round()
    [statement] = [each for each in STATEMENTS if "intakes" in each]
    for days, gone in ((31, 0), (2, 1)):
        await house.clock.forward(timedelta(days=days))
        async with house.database.system() as tx:
            assert await delete_old(tx, 100, statement=statement, kept=timedelta(days=1)) == gone
    async with house.database.system() as tx:
        assert await intakes.since(tx, timedelta(days=40)) is not None

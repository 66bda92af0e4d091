"""Groups with a window on a real PostgreSQL: by its clock and over all replicas, and what is in the rows after that."""

import asyncio
from collections import Counter
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from tocsin.ingest.v1.alert_pb2 import AlertOutcome
from tocsin.ingest.v1.integration_service_pb2 import Integration, RoutingRule
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_kit.db.pool import Database
from tocsin_testkit.clock import MovableClock

from tests.store.ingest.committing import check
from tests.store.ingest.silenced import Replica, opened, rows

OPENED = AlertOutcome.ALERT_OUTCOME_OPENED
JOINED = AlertOutcome.ALERT_OUTCOME_GROUPED
REPEATED = AlertOutcome.ALERT_OUTCOME_DEDUPLICATED


def stored(*, seconds: int = 0, pause: int = 0) -> bytes:
    """One group, with a window of so long; 0: without one."""
    rule = RoutingRule(group_by=["env"], policy="policies/p")
    if seconds:
        rule.group_window.CopyFrom(Duration(seconds=seconds))
    if pause:
        rule.pause.CopyFrom(Duration(seconds=pause))
    return Integration(routing_rules=[rule]).SerializeToString()


async def grouping(database: Database, org: str, rules: bytes) -> None:
    """The integration `prom`."""
    async with database.transaction(org) as tx:
        await integrations.insert(tx, "prom", IntegrationConfig("Prometheus", "", rules, ()))


async def incidents(database: Database, org: str) -> list[tuple[str, int, bool]]:
    """Of each, the oldest first: its state, how many alerts fire in it, and whether alerts of its group may join it."""
    found = await rows(
        database, org, "SELECT state, firing_count, group_key <> id AS may_join FROM incidents ORDER BY create_time"
    )
    return [tuple(row) for row in found]


async def test_alerts_at_all_replicas_join_by_the_clock_of_the_database(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await grouping(database, org, stored(seconds=3600))
    other = Replica(database, org)
    first = await replica.sends("a", "prom")
    assert first.outcome == OPENED
    for key in ("b", "c"):
        await clock.forward(timedelta(minutes=40))
        joined = await other.sends(key, "prom")
        assert (joined.outcome, joined.incident) == (JOINED, first.incident)
    await clock.forward(timedelta(minutes=40))
    assert (await replica.sends("a", "prom")).outcome == REPEATED, "which lets the window not begin anew"
    await clock.forward(timedelta(minutes=20))
    assert await incidents(database, org) == [("open", 3, True)]
    # All at once, at all replicas: one of them opens the next one.
    replicas = [replica, other, Replica(database, org)]
    answers = await asyncio.gather(*(replicas[number % 3].sends(f"k{number}", "prom") for number in range(9)))
    assert Counter(each.outcome for each in answers) == {OPENED: 1, JOINED: 8}
    [second] = {each.incident for each in answers}
    assert await incidents(database, org) == [("open", 3, False), ("open", 9, True)]
    assert len(await opened(database, org)) == 2
    again = await other.sends("b", "prom")
    assert (again.outcome, again.incident) == (REPEATED, first.incident)
    for key in ("a", "b", "c"):
        over = await replica.sends(key, "prom", action=3)
        assert over.incident == first.incident
    assert over.incident_resolved
    assert (await replica.sends("a", "prom")).incident == second, "its next firing"
    assert await incidents(database, org) == [("resolved", 0, False), ("open", 10, True)]
    await check(database, org)


async def test_several_older_incidents_of_a_group_are_open_side_by_side(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await grouping(database, org, stored(seconds=60))
    for key in ("a", "b", "c"):
        assert (await replica.sends(key, "prom")).outcome == OPENED
        await clock.forward(timedelta(minutes=1))
    assert await incidents(database, org) == [("open", 1, False), ("open", 1, False), ("open", 1, True)]
    assert (await replica.sends("c", "prom", action=3)).incident_resolved
    assert (await replica.sends("d", "prom")).outcome == OPENED, "none of the older ones is joined again"
    await check(database, org)


async def test_a_rule_that_gets_a_window_or_loses_it_counts_from_the_last_join(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await grouping(database, org, stored())

    async def becomes(rules: bytes) -> None:
        async with database.transaction(org) as tx:
            await tx.execute(
                "UPDATE integrations SET routing_rules = $2, version = version + 1 WHERE org_id = $1", org, rules
            )

    first = await replica.sends("a", "prom")
    await clock.forward(timedelta(hours=30))
    assert (await replica.sends("b", "prom")).incident == first.incident
    await becomes(stored(seconds=3600))
    await clock.forward(timedelta(minutes=40))
    assert (await replica.sends("c", "prom")).incident == first.incident
    await clock.forward(timedelta(minutes=60))
    second = await replica.sends("d", "prom")
    assert second.outcome == OPENED
    await becomes(stored())
    await clock.forward(timedelta(hours=30))
    assert (await replica.sends("e", "prom")).incident == second.incident


async def test_what_is_paused_after_the_window_joins_what_others_opened_or_opens_itself(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await grouping(database, org, stored(seconds=3600, pause=1800))
    for key in ("a", "b"):
        assert (await replica.sends(key, "prom")).outcome == AlertOutcome.ALERT_OUTCOME_PAUSED
    await clock.forward(timedelta(minutes=30))
    await replica.look.round()
    assert await incidents(database, org) == [("open", 2, True)]
    assert (await replica.sends("c", "prom")).outcome == JOINED, "at once, though its rule pauses"
    await clock.forward(timedelta(minutes=60))
    assert (await replica.sends("d", "prom")).outcome == AlertOutcome.ALERT_OUTCOME_PAUSED
    assert await incidents(database, org) == [("open", 3, True)], "until another one opens it is the group's"
    await clock.forward(timedelta(minutes=30))
    await replica.look.round()
    assert await incidents(database, org) == [("open", 3, False), ("open", 1, True)]
    await check(database, org)

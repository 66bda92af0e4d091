"""Thresholds on a real PostgreSQL: counted over all replicas, in few rows, and what waited joins the incident."""

import asyncio
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from tocsin.ingest.v1.alert_pb2 import AlertOutcome
from tocsin.ingest.v1.integration_service_pb2 import Integration, RoutingRule, TriggerThreshold
from tocsin_ingest.domain.thresholds import SLOTS
from tocsin_ingest.rpc.mapping import alert_of
from tocsin_ingest.store.alerts import alerts
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_ingest.store.retention import STATEMENTS, delete_old
from tocsin_kit.db.pool import Database
from tocsin_testkit.clock import MovableClock

from tests.store.ingest.silenced import Replica, opened, rows

BELOW = AlertOutcome.ALERT_OUTCOME_BELOW_THRESHOLD


async def counting(database: Database, org: str, count: int, *, seconds: int = 600) -> None:
    """The integration `prom`: one group, which opens with so many triggers."""
    rule = RoutingRule(group_by=["env"], threshold=TriggerThreshold(count=count, window=Duration(seconds=seconds)))
    stored = Integration(routing_rules=[rule]).SerializeToString()
    async with database.transaction(org) as tx:
        await integrations.insert(tx, "prom", IntegrationConfig("Prometheus", "policies/p", stored, ()))


async def left(database: Database, org: str) -> tuple[int, int, int]:
    found = [
        len(await rows(database, org, f"SELECT FROM {table}"))
        for table in ("alert_thresholds", "group_triggers", "alert_pauses")
    ]
    return found[0], found[1], found[2]


async def test_triggers_at_all_replicas_count_and_what_waited_joins_the_incident(
    replica: Replica, database: Database, org: str
) -> None:
    await counting(database, org, 20)
    replicas = [replica, *(Replica(database, org) for _ in range(2))]
    sent = [replicas[number % 3].sends(f"k{number % 7}", "prom", {"disk": "x" * 2000}) for number in range(19)]
    answers = await asyncio.gather(*sent)
    assert {each.outcome for each in answers} == {BELOW}
    assert sorted(each.threshold.triggers for each in answers) == list(range(1, 20))
    await replica.sends("k5", "prom", action=3)
    assert (await opened(database, org), (await left(database, org))[0]) == ([], 6)
    assert (await replicas[1].sends("k6", "prom")).outcome == AlertOutcome.ALERT_OUTCOME_OPENED
    assert (await left(database, org))[:2] == (0, 0)
    await asyncio.gather(*(each.look.round() for each in replicas))
    assert await opened(database, org) == ["k6 is wrong"]
    assert await left(database, org) == (0, 0, 0)
    [incident] = await rows(database, org, "SELECT firing_count FROM incidents")
    assert incident["firing_count"] == 6


async def test_an_alert_says_how_many_triggers_are_in_the_window_now_and_rows_stay_few(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await counting(database, org, 1000, seconds=100)
    for _ in range(120):
        answer = await replica.sends("a", "prom")
        await clock.forward(timedelta(seconds=0.5))
    assert (answer.outcome, answer.count) == (BELOW, 120)
    assert (await left(database, org))[1] <= SLOTS + 1
    await clock.forward(timedelta(seconds=70))
    async with database.transaction(org) as tx:
        [row] = await alerts.page(tx, alerts.AlertFilter(), None, 10)
    shown = alert_of(row).threshold
    assert 0 < shown.triggers < 120, "some of them are older than the window"
    assert (shown.count, shown.window.seconds) == (1000, 100)
    few = (await left(database, org))[1]
    assert (await replica.sends("a", "prom")).threshold.triggers <= shown.triggers + 1
    assert (await left(database, org))[1] < few, "what the window left behind went with the next trigger"
    await clock.forward(timedelta(minutes=5))
    async with database.system() as tx:
        for statement in STATEMENTS:
            await delete_old(tx, 500, statement=statement, kept=timedelta(days=90))
    assert await left(database, org) == (1, 0, 0), "the alert is kept"

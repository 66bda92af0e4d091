"""Labels that are stored shortened decide as they came, also at the end of a silence."""

from datetime import timedelta

import pytest
from tocsin.ingest.v1.integration_service_pb2 import Integration, LabelMatcher, MatchOperator, RoutingRule
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_kit.db.pool import Database
from tocsin_testkit.clock import MovableClock

from tests.store.ingest.silenced import SILENCED, Replica, rows, silenced

_LONG = "/" + "x" * 1500
_MANY = {f"l{number:02}": "" for number in range(70)}


@pytest.mark.parametrize("passed_on", [False, True])
@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        pytest.param("path", {"path": f"{_LONG}/a"}, {"path": f"{_LONG}/b"}, id="long values"),
        pytest.param("zone-of-rack", {**_MANY, "zone-of-rack": "a"}, {**_MANY, "zone-of-rack": "b"}, id="many labels"),
        pytest.param("n" * 128, {"n" * 128: f"{_LONG}a"}, {"n" * 128: f"{_LONG}b"}, id="long name and value"),
    ],
)
async def test_labels_as_they_came_decide_at_the_end_of_a_silence(
    replica: Replica, clock: MovableClock, name: str, one: dict[str, str], other: dict[str, str], passed_on: bool
) -> None:
    """Which policy, and which group. They differ where an alert holds them shortened. `passed_on`: from silence to silence."""
    database, org = replica.database, replica.org
    matcher = LabelMatcher(label=name, operator=MatchOperator.MATCH_OPERATOR_EQUAL, value=other[name])
    rules = Integration(
        routing_rules=[
            RoutingRule(matchers=[matcher], policy="policies/other", group_by=[name]),
            RoutingRule(group_by=[name]),
        ]
    ).SerializeToString()
    async with database.transaction(org) as tx:
        await integrations.insert(tx, "prom", IntegrationConfig("Prometheus", "policies/p", rules, ()))
    await silenced(database, org)
    if passed_on:
        await silenced(database, org, begins=30)
    for number, labels in enumerate((one, other, one)):
        assert (await replica.sends(f"a{number}", "prom", labels)).outcome == SILENCED
    assert (await replica.sends("a2", "prom", other)).outcome == SILENCED, "the newest trigger counts"
    for _ in range(1 + passed_on):
        await clock.forward(timedelta(minutes=30))
        await replica.look.round()
    found = await rows(database, org, "SELECT policy, firing_count FROM incidents ORDER BY policy")
    assert [tuple(row) for row in found] == [("policies/other", 2), ("policies/p", 1)]


async def test_labels_are_kept_once_and_only_where_they_were_shortened_and_not_too_many(
    replica: Replica, database: Database, org: str
) -> None:
    await silenced(database, org)
    huge = {f"{number:06}": "v" * 1000 for number in range(100)}
    await replica.sends("whole", labels={"path": "/a"})
    for key, labels in (("long", {"path": _LONG}), ("huge", huge)):
        await replica.sends(key, labels=labels)
    kept = (
        "SELECT dedup_key, labels, h.ctid::text FROM alerts JOIN alert_holds AS h ON alert_id = id ORDER BY dedup_key"
    )
    before = await rows(database, org, kept)
    assert [(row["dedup_key"], row["labels"] is not None) for row in before] == [
        ("huge", True),
        ("long", True),
        ("whole", False),
    ]
    assert len(before[0]["labels"]) < 40_000
    await replica.sends("long", labels={"path": _LONG})
    assert await rows(database, org, kept) == before, "a repeat writes nothing"

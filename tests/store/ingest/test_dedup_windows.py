"""Keys with a dedup window on a real PostgreSQL: by its clock and over all replicas, and what is in the rows after that."""

import asyncio
from collections import Counter
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin.ingest.v1.alert_pb2 import AlertOutcome
from tocsin.ingest.v1.integration_service_pb2 import Integration, RoutingRule
from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.incidents.resolve_incidents import resolve_incidents
from tocsin_ingest.app.incidents.resolve_quiet import QuietIncidents
from tocsin_kit.db.pool import Database
from tocsin_testkit.clock import MovableClock

from tests.store.ingest.committing import committer
from tests.store.ingest.silenced import Replica, opened, rows, silenced
from tests.store.ingest.support import new_org
from tests.store.ingest.test_group_windows import grouping
from tests.store.ingest.test_repeats import Counting, counting, send
from tests.unit.ingest.model import message

__all__ = ["counting"]

OPENED = AlertOutcome.ALERT_OUTCOME_OPENED
JOINED = AlertOutcome.ALERT_OUTCOME_GROUPED
REPEATED = AlertOutcome.ALERT_OUTCOME_DEDUPLICATED


def stored(*, seconds: int = 3600, **fields: object) -> bytes:
    """One rule, with a window of so long."""
    rule = RoutingRule(policy="policies/p", dedup_window=Duration(seconds=seconds), **fields)  # type: ignore[arg-type]
    return Integration(routing_rules=[rule]).SerializeToString()


async def alerts(database: Database, org: str) -> list[tuple[str, str, int]]:
    """Of each, the oldest first: its key, its state and how often it came."""
    found = await rows(database, org, "SELECT dedup_key, state, count FROM alerts ORDER BY create_time, id")
    return [tuple(row) for row in found]


async def incidents(database: Database, org: str) -> list[tuple[str, int, bool]]:
    """Of each, the oldest first: its state, how many of its alerts were not resolved, and whether alerts of its group may join
    it."""
    found = await rows(
        database, org, "SELECT state, firing_count, group_key <> id AS may_join FROM incidents ORDER BY create_time, id"
    )
    return [tuple(row) for row in found]


async def test_triggers_at_all_replicas_repeat_by_the_clock_of_the_database(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await grouping(database, org, stored())
    replicas = [replica, Replica(database, org), Replica(database, org)]
    first = await replica.sends("a", "prom")
    for each in replicas:
        await clock.forward(timedelta(minutes=40))
        repeated = await each.sends("a", "prom")
        assert (repeated.outcome, repeated.alert) == (REPEATED, first.alert)
    await clock.forward(timedelta(minutes=60))
    # All at once, at all replicas: one of them begins the next one.
    answers = await asyncio.gather(*(replicas[number % 3].sends("a", "prom") for number in range(9)))
    assert Counter(each.outcome for each in answers) == {OPENED: 1, REPEATED: 8}
    [second] = {each.incident for each in answers}
    assert sorted(each.count for each in answers) == list(range(1, 10))
    assert await alerts(database, org) == [("a", "resolved", 4), ("a", "firing", 9)]
    assert await incidents(database, org) == [("open", 1, False), ("open", 1, True)]
    assert len(await opened(database, org)) == 2
    over = await replica.sends("a", "prom", action=3)
    assert (over.incident, over.incident_resolved) == (second, True)
    assert await incidents(database, org) == [("open", 1, False), ("resolved", 0, True)]


async def test_repeats_counted_without_a_decision_let_it_begin_anew_and_are_not_folded_past_it(
    database: Database, clock: MovableClock, counting: Counting
) -> None:
    org, commit_batch = new_org(), committer(database)
    known = Entry(org, message("a", group="g", org=org, dedup=timedelta(hours=1)))
    # So that the incident has an event under way with which the number of its alerts is told.
    other = Entry(org, message("b", group="g", org=org))
    await send(commit_batch, known, known, other)
    for number in range(2):
        await clock.forward(timedelta(minutes=59))
        await send(commit_batch, other)
        assert await send(commit_batch, known) == [("DEDUPLICATED", number + 3, "a")]
        assert counting.repeats == number + 1
    await clock.forward(timedelta(minutes=60))
    await send(commit_batch, other)
    assert await send(commit_batch, known) == [("OPENED", 1, "a")]
    assert counting.repeats == 2
    assert await alerts(database, org) == [("a", "resolved", 4), ("b", "firing", 4), ("a", "firing", 1)]


async def test_the_older_incident_stays_until_a_person_resolves_it_or_it_is_quiet_for_long(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await grouping(database, org, stored())
    for _ in range(3):
        last = await replica.sends("a", "prom")
        assert last.outcome == OPENED
        await clock.forward(timedelta(hours=2))
    assert await incidents(database, org) == [("open", 1, False), ("open", 1, False), ("open", 1, True)]
    first, second, _ = [row["id"] for row in await rows(database, org, "SELECT id FROM incidents ORDER BY create_time")]
    [resolved] = await resolve_incidents(database, lambda: None, org, "users/ana", [first])
    assert not resolved.already_resolved
    assert await incidents(database, org) == [("resolved", 0, False), ("open", 1, False), ("open", 1, True)]
    assert await alerts(database, org) == [("a", "resolved", 1), ("a", "resolved", 1), ("a", "firing", 1)]

    async with database.transaction(org) as tx:
        await tx.execute("UPDATE integrations SET auto_resolve_after = '3 hours' WHERE org_id = $1", org)
    assert (await replica.sends("a", "prom", action=3)).incident == last.incident
    assert [each[0] for each in await incidents(database, org)] == ["resolved", "open", "resolved"]
    times = IntakeTimes(database, lambda: True, lambda: 0.0)
    await times.round()
    await clock.forward(timedelta(hours=3))
    await times.round()
    quiet = QuietIncidents(database, replica.metrics, lambda: None)
    assert await quiet.round() == 1
    assert [each[0] for each in await incidents(database, org)] == ["resolved"] * 3
    assert second != first


async def test_a_silence_and_a_pause_keep_the_later_alert_and_open_another_incident_when_they_end(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await grouping(database, org, stored(pause=Duration(seconds=60)))
    assert (await replica.sends("a", "prom")).outcome == AlertOutcome.ALERT_OUTCOME_PAUSED
    await clock.forward(timedelta(minutes=1))
    await replica.look.round()
    assert await incidents(database, org) == [("open", 1, True)]
    await clock.forward(timedelta(minutes=60))
    await silenced(database, org, minutes=90)
    for _ in range(2):
        assert (await replica.sends("a", "prom")).outcome == AlertOutcome.ALERT_OUTCOME_SILENCED
        await clock.forward(timedelta(minutes=70))
    assert await alerts(database, org) == [("a", "resolved", 1), ("a", "suppressed", 2)]
    assert await incidents(database, org) == [("open", 1, False)]
    await replica.look.round()
    assert await incidents(database, org) == [("open", 1, False), ("open", 1, True)]
    assert (await replica.sends("a", "prom")).outcome == REPEATED, "it was heard of when it opened its incident"


async def test_alerts_of_a_group_that_come_again_at_all_replicas_share_one_newer_incident(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await grouping(database, org, stored(group_by=["env"]))
    replicas = [replica, Replica(database, org), Replica(database, org)]
    for key in "abcdef":
        await replica.sends(key, "prom")
    await clock.forward(timedelta(hours=1))
    answers = await asyncio.gather(*(replicas[number % 3].sends(key, "prom") for number, key in enumerate("abcde")))
    assert Counter(each.outcome for each in answers) == {OPENED: 1, JOINED: 4}
    assert len({each.incident for each in answers}) == 1
    assert await incidents(database, org) == [("open", 6, False), ("open", 5, True)]
    events = [
        IncidentEvent.FromString(row["payload"]) for row in await rows(database, org, "SELECT payload FROM outbox")
    ]
    assert Counter(each.WhichOneof("event") for each in events) == {"opened": 2, "alerts_added": 2, "noted": 2}, (
        "a note at each of the two incidents, however many alerts go on in the newer one"
    )

"""Repeats that are counted without a decision: they do what decided ones do, and none is counted where nothing fires."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_ingest.app.alerts.commit_batch import CommitBatch, Entry
from tocsin_ingest.app.incidents.incident_records import IncidentRecords
from tocsin_ingest.app.incidents.resolve_incidents import resolve_incidents
from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.domain.message import Action
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.store.alerts import repeats
from tocsin_ingest.store.alerts.repeats import Repeat
from tocsin_kit.db.pool import Database, Tx

from tests.store.ingest.committing import check, committer, rows
from tests.store.ingest.support import new_org
from tests.unit.ingest.model import message

ALERTS = """SELECT dedup_key, alerts.state, count, alerts.severity, summary, newest, alerts.start_time, incidents.state AS of,
  alert_count, firing_count, incidents.severity AS worst, incidents.resolved_by
FROM alerts LEFT JOIN incidents ON incidents.id = alerts.incident_id ORDER BY alerts.id"""
SAID = "SELECT summary, newest, severity FROM alerts"
EVENTS = "SELECT ordering_key, payload FROM outbox ORDER BY id"


class Counting:
    """How many repeats were counted without a decision."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repeats = 0
        real = repeats.count

        async def count(tx: Tx, given: Sequence[Repeat]) -> dict[UUID, int]:
            counts = await real(tx, given)
            self.repeats += sum(each.more for each in given if each.alert_id in counts)
            return counts

        monkeypatch.setattr("tocsin_ingest.app.alerts.commit_batch.count_repeats", count)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


def trigger(org: str, key: str = "a", **fields: object) -> Entry:
    return Entry(org, replace(message(key, org=org), **fields))  # type: ignore[arg-type]


async def send(commit_batch: CommitBatch, *entries: Entry) -> list[tuple[str, int, str]]:
    answers = await commit_batch(list(entries))
    assert all(isinstance(each, bytes) for each in answers), answers
    read = [SendAlertResponse.FromString(each) for each in answers if isinstance(each, bytes)]
    return [(Outcome(each.outcome).name, each.count, each.dedup_key) for each in read]


async def deliver(database: Database, org: str) -> dict[str, int]:
    """What a relay reads of the incidents whose events it delivers."""
    waits = await rows(
        database, org, "SELECT id FROM incidents WHERE id::text = ANY(ARRAY(SELECT ordering_key FROM outbox))"
    )
    counts = await IncidentRecords(database).counts([(org, row["id"]) for row in waits])
    return {str(incident): count for (_, incident), count in counts.items()}


@pytest.mark.parametrize("seed", range(6))
async def test_they_do_what_decided_ones_do(database: Database, counting: Counting, seed: int) -> None:
    chance = random.Random(seed)
    ways = new_org(), new_org()
    commits = committer(database), committer(database)
    fields = [
        {
            "key": chance.choice("abc"),
            "group": chance.choice(["", "g", "g"]),
            "action": chance.choice([Action.TRIGGER] * 9 + [Action.RESOLVE, Action.ACKNOWLEDGE]),
            "severity": chance.choice([Severity.CRITICAL, Severity.INFO]),
        }
        for _ in range(6)
    ]

    def made(org: str, number: int) -> Entry:
        given = fields[number]
        sent = message(
            str(given["key"]),
            given["action"],  # type: ignore[arg-type]
            group=str(given["group"]),
            severity=given["severity"],  # type: ignore[arg-type]
            org=org,
        )
        return Entry(org, replace(sent, summary=f"number {number}"))

    known = [made(ways[0], number) for number in range(len(fields))]
    for _ in range(12):
        sent = [chance.randrange(len(fields)) for _ in range(chance.randint(1, 6))] * chance.choice([1, 1, 5])
        answers = [
            await send(commits[0], *(known[each] for each in sent)),
            # These are seen for the first time.
            await send(commits[1], *(made(ways[1], each) for each in sent)),
        ]
        assert answers[0] == answers[1]
        if chance.random() < 0.2:
            for org in ways:
                await deliver(database, org)
        found = [[tuple(row) for row in await rows(database, org, ALERTS)] for org in ways]
        assert found[0] == found[1]
    for org in ways:
        await check(database, org)
    assert counting.repeats > 0, "otherwise this compares nothing"


async def test_other_words_are_counted_together_and_the_newest_are_kept(database: Database, counting: Counting) -> None:
    org, commit_batch = new_org(), committer(database)
    first = trigger(org)

    def other(number: int) -> Entry:
        return Entry(org, first.message.saying(f"number {number}", b"%d" % number), like=first)

    assert await send(commit_batch, first, other(1), other(2)) == [
        *(("OPENED", 1, "a"), ("DEDUPLICATED", 2, "a"), ("DEDUPLICATED", 3, "a"))
    ]
    assert await send(commit_batch, other(3)) == [("DEDUPLICATED", 4, "a")]
    assert counting.repeats == 0
    assert await send(commit_batch, other(4), other(5)) == [("DEDUPLICATED", each, "a") for each in (5, 6)]
    assert counting.repeats == 2
    assert [tuple(row) for row in await rows(database, org, SAID)] == [("number 5", b"5", first.message.severity)]
    # One of its key that is like no other: all are decided, in their order.
    odd = trigger(org, severity=Severity.CRITICAL, content=b"odd")
    assert await send(commit_batch, other(6), odd, other(7)) == [("DEDUPLICATED", each, "a") for each in (7, 8, 9)]
    assert counting.repeats == 2
    assert [tuple(row) for row in await rows(database, org, SAID)] == [("number 7", b"7", first.message.severity)]
    assert await send(commit_batch, first) == [("DEDUPLICATED", 10, "a")]
    assert counting.repeats == 3


async def test_none_is_counted_on_an_alert_that_was_closed_meanwhile(database: Database, counting: Counting) -> None:
    org, commit_batch = new_org(), committer(database)
    sent = trigger(org)
    for _ in range(3):
        await send(commit_batch, sent)
    assert counting.repeats == 1
    (incident,) = await rows(database, org, "SELECT id FROM incidents")
    # By another process: nothing here knows of it.
    await resolve_incidents(database, lambda: None, org, "users/ana", [incident["id"]])
    assert await send(commit_batch, sent, sent) == [("OPENED", 1, "a"), ("DEDUPLICATED", 2, "a")]
    assert [tuple(row) for row in await rows(database, org, "SELECT state, count FROM alerts ORDER BY id")] == [
        *(("resolved", 3), ("firing", 2))
    ]


async def test_none_is_counted_on_a_closed_alert_of_an_incident_that_goes_on(
    database: Database, counting: Counting
) -> None:
    org, commit_batch = new_org(), committer(database)
    one, other = (Entry(org, message(key, group="g", org=org)) for key in "ab")
    for _ in range(3):
        await send(commit_batch, one, other)
    assert counting.repeats == 2
    await send(commit_batch, Entry(org, message("a", Action.RESOLVE, org=org)))
    assert await send(commit_batch, one, other) == [("GROUPED", 1, "a"), ("DEDUPLICATED", 4, "b")]
    assert counting.repeats == 3
    closed = await rows(database, org, "SELECT count FROM alerts WHERE state = 'resolved'")
    assert [tuple(row) for row in closed] == [(3,)]


async def test_an_event_tells_of_all_that_was_counted_before_its_delivery(
    database: Database, counting: Counting
) -> None:
    org, commit_batch = new_org(), committer(database)
    sent = trigger(org)
    await send(commit_batch, sent)
    await send(commit_batch, sent)
    await send(commit_batch, *[sent] * 5)
    assert counting.repeats == 5
    assert list((await deliver(database, org)).values()) == [7]
    # After that the next one makes an event of its own, or finds one that no delivery has begun of.
    await send(commit_batch, sent)
    assert counting.repeats == 5
    newest = IncidentEvent.FromString((await rows(database, org, EVENTS))[-1]["payload"])
    assert newest.alerts_added.alert_count == 8
    await send(commit_batch, sent)
    assert counting.repeats == 6


async def test_an_incident_that_is_closed_tells_how_many_there_were(database: Database, counting: Counting) -> None:
    org, commit_batch = new_org(), committer(database)
    sent = trigger(org)
    for _ in range(4):
        await send(commit_batch, sent)
    await send(commit_batch, Entry(org, message("a", Action.RESOLVE, org=org)))
    assert counting.repeats == 2
    events = [IncidentEvent.FromString(row["payload"]) for row in await rows(database, org, EVENTS)]
    assert [each.WhichOneof("event") for each in events] == ["opened", "alerts_added", "resolved"]
    assert events[1].alerts_added.alert_count == 4
    assert list((await deliver(database, org)).values()) == [4]


async def test_a_delivery_that_begins_in_between_leaves_nothing_untold(database: Database, counting: Counting) -> None:
    org, commit_batch = new_org(), committer(database)
    sent = trigger(org)
    for _ in range(3):
        await send(commit_batch, sent)
    (incident,) = await rows(database, org, "SELECT id FROM incidents")
    async with database.system() as tx:
        assert await repeats.take_counts(tx, [(org, incident["id"])]) == {(org, incident["id"]): 3}
        counted = asyncio.create_task(send(commit_batch, sent, sent))
        await until_it_waits(database)
    assert await counted == [("DEDUPLICATED", 4, "a"), ("DEDUPLICATED", 5, "a")]
    assert counting.repeats == 1
    newest = IncidentEvent.FromString((await rows(database, org, EVENTS))[-1]["payload"])
    assert newest.alerts_added.alert_count == 5
    assert [tuple(row) for row in await rows(database, org, "SELECT count, alert_count FROM alerts, incidents")] == [
        (5, 5)
    ]


async def test_deliveries_and_repeats_take_rows_in_one_order(database: Database, counting: Counting) -> None:
    org, commit_batch = new_org(), committer(database)
    chance = random.Random(1)
    sent = [trigger(org, f"k{number}") for number in range(80)]
    for _ in range(4):
        # So that rows lie in another order than their ids.
        await send(commit_batch, *chance.sample(sent, 50))
    incidents = [row["id"] for row in await rows(database, org, "SELECT id FROM incidents")]
    before = await deadlocks(database)
    over = asyncio.Event()

    async def deliver_again_and_again() -> None:
        while not over.is_set():
            chance.shuffle(incidents)
            await IncidentRecords(database).counts([(org, each) for each in incidents])

    delivering = asyncio.create_task(deliver_again_and_again())
    for _ in range(15):
        await send(commit_batch, *chance.sample(sent, 60))
    over.set()
    await delivering
    assert await deadlocks(database) == before


async def test_a_delivery_waits_for_no_incident_while_it_has_others(database: Database) -> None:
    org, commit_batch = new_org(), committer(database)
    await send(commit_batch, trigger(org, "a"), trigger(org, "b"))
    touch = "UPDATE incidents SET alert_count = alert_count + 1 WHERE id = $1"
    first, second = [row["id"] for row in await rows(database, org, "SELECT id FROM incidents ORDER BY id")]
    async with database.transaction(org) as tx:
        # A batch takes incidents in several statements, so in any order.
        await tx.execute(touch, second)
        taking = asyncio.create_task(IncidentRecords(database).counts([(org, first), (org, second)]))
        await until_it_waits(database)
        await tx.execute(touch, first)
    assert await taking == {(org, first): 1, (org, second): 2}


async def deadlocks(database: Database) -> int:
    async with database.system() as tx:
        await tx.execute("SELECT pg_stat_force_next_flush()")
        return int(await tx.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))


async def until_it_waits(database: Database) -> None:
    """Until a statement waits for a row that another transaction has changed."""
    async with asyncio.timeout(30):
        while True:
            async with database.system() as tx:
                if await tx.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"):
                    return
            await asyncio.sleep(0.01)


async def test_a_message_of_the_key_in_between_is_not_what_the_alert_shows(
    database: Database, counting: Counting
) -> None:
    org, commit_batch = new_org(), committer(database)
    sent, other = trigger(org, summary="one"), trigger(org, summary="other", severity=Severity.INFO)
    await send(commit_batch, sent, sent, other)
    await send(commit_batch, sent)
    await send(commit_batch, sent)
    # As of another process.
    await send(commit_batch, trigger(org, summary="other", severity=Severity.INFO))
    assert await send(commit_batch, sent) == [("DEDUPLICATED", 7, "a")]
    assert counting.repeats > 0
    (row,) = await rows(database, org, "SELECT summary, severity FROM alerts")
    assert tuple(row) == ("one", sent.message.severity)


async def test_an_order_within_a_batch_holds(database: Database, counting: Counting) -> None:
    org, commit_batch = new_org(), committer(database)
    sent, over = trigger(org), Entry(org, message("a", Action.RESOLVE, org=org))
    for _ in range(3):
        await send(commit_batch, sent)
    assert await send(commit_batch, sent, over, sent, sent) == [
        *(("DEDUPLICATED", 4, "a"), ("RESOLVED", 4, "a"), ("OPENED", 1, "a"), ("DEDUPLICATED", 2, "a"))
    ]
    assert counting.repeats == 1

"""Batches on a real PostgreSQL: the model again, races of replicas, crashes, bad neighbours."""

import asyncio
import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_ingest.app.alerts import answers, commit_batch
from tocsin_ingest.app.alerts.commit_batch import Answer, Entry, decide_and_write
from tocsin_ingest.app.incidents.resolve_incidents import resolve_incidents
from tocsin_ingest.domain.decision import Decision, Outcome
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.store.alerts.snapshot import lock_integrations
from tocsin_kit.batches import Batches
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import until
from tocsin_testkit.databases import dialed

from tests.store.ingest.committing import check, commit, committer, entry, rows
from tests.store.ingest.support import clock_of, new_org
from tests.unit.ingest.model import Naive, message
from tests.unit.ingest.strategies import batches


def group_commit(database: Database, most: int = 20) -> Batches[Entry, bytes]:
    return Batches(committer(database), most=most)


def test_any_sequence_does_what_the_model_does_in_the_database(database_url: str) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(batches)
    def run(given_batches: list[list[Message]]) -> None:
        runner.run(one(given_batches))

    async def one(given_batches: list[list[Message]]) -> None:
        org, naive, commit_batch = new_org(), Naive(), committer(database)
        for batch in given_batches:
            mine = [
                message(
                    each.dedup_key,
                    each.action,
                    group=_group(each),
                    severity=each.severity,
                    suppress=each.suppress,
                    org=org,
                )
                for each in batch
            ]
            expected = [naive.send(each) for each in mine]
            answers = await commit(commit_batch, org, mine)
            assert [(Outcome(each.outcome), each.count, each.incident_resolved) for each in answers] == expected
        await check(database, org)
        found = await rows(database, org, "SELECT group_key, severity, alert_count, firing_count FROM incidents")
        assert sorted(tuple(row) for row in found) == sorted(
            (each.group_key, each.severity, each.messages, len(each.keys)) for each in naive.incidents
        )

    # One event loop and one pool for all examples, each of which is another tenant.
    with asyncio.Runner() as runner:
        database = runner.run(dialed(database_url, name="model", size=2))
        try:
            run()
        finally:
            runner.run(database.close())


def _group(sent: Message) -> str:
    groups = {message(sent.dedup_key, group=each).group_key: each for each in ("", "g", "h")}
    return groups[sent.group_key]


async def test_what_is_over_at_the_end_of_its_batch_is_told_as_over(database: Database) -> None:
    """No page is sent for it. What fires again in the batch is another incident, which lasts."""
    org = new_org()
    sent = [
        *(message("blip", action, org=org) for action in (Action.TRIGGER, Action.TRIGGER, Action.RESOLVE)),
        *(message("flaps", action, org=org) for action in (Action.TRIGGER, Action.RESOLVE, Action.TRIGGER)),
        *(message(key, group="db", org=org) for key in ("disk", "load")),
        message("disk", Action.RESOLVE, group="db", org=org),
    ]
    await commit(committer(database), org, sent)
    await check(database, org)
    payloads = await rows(database, org, "SELECT payload FROM outbox ORDER BY id")
    opened = [
        event.opened for row in payloads if (event := IncidentEvent.FromString(row["payload"])).HasField("opened")
    ]
    assert sorted((each.title, each.resolved_by) for each in opened) == [
        ("blip is wrong", "integrations/prom"),
        ("disk is wrong", ""),
        ("flaps is wrong", ""),
        ("flaps is wrong", "integrations/prom"),
    ]


async def test_replicas_that_race_for_the_same_keys_open_one_incident_each(
    database: Database, database_url: str
) -> None:
    """I2, with two replicas: nothing but the database between them."""
    other = await dialed(database_url, name="other", size=4)
    try:
        org, dice = new_org(), random.Random(7)
        replicas = [group_commit(each) for each in (database, other)]
        sent = [
            message(dice.choice("abcdefgh"), dice.choice([Action.TRIGGER] * 5 + [Action.RESOLVE]), org=org, group=group)
            for group in ("", "g")
            for _ in range(400)
        ]
        dice.shuffle(sent)
        written = await asyncio.gather(*(dice.choice(replicas).submit(entry(org, each)) for each in sent))
        answers = map(SendAlertResponse.FromString, written)
        opened = [each.incident for each in answers if Outcome(each.outcome) is Outcome.OPENED]
        assert len(opened) == len(set(opened))
        await check(database, org)
        total = sum(each.action is Action.TRIGGER for each in sent)
        counted = await rows(database, org, "SELECT sum(alert_count) AS all FROM incidents")
        assert counted[0]["all"] == total
    finally:
        await other.close()


async def test_a_free_integration_is_locked_without_a_statement_of_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    org, asked = new_org(), list[set[str]]()

    async def lock(tx: Tx, integration_ids: Iterable[str]) -> None:
        asked.append(set(integration_ids))
        await lock_integrations(tx, integration_ids)

    monkeypatch.setattr(commit_batch, "lock_integrations", lock)
    await commit(committer(database), org, [message("a", org=org)])
    assert asked == []
    # Of several, one that is held already would be held while another one is waited for, out of their order.
    await commit(committer(database), org, [message("a", org=org), replace(message("b", org=org), integration_id="b")])
    assert asked == [{"prom", "b"}]


async def test_a_batch_waits_for_the_transaction_that_holds_its_integration(database_url: str) -> None:
    """I2: what another transaction decides about the integration is committed before the batch reads."""
    org = new_org()
    # On a busy machine the other one may take longer than a service has patience.
    # Four connections: the last one goes to no tenant that holds others.
    database = await dialed(database_url, name="patient", size=4, lock_timeout=60, statement_timeout=60)

    async def waits() -> bool:
        held = """SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database
            WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"""
        return bool(await rows(database, org, held))

    try:
        async with database.transaction(org) as tx:
            await lock_integrations(tx, ["prom"])
            await tx.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            sending = asyncio.create_task(commit(committer(database), org, [message("a", org=org)]))
            await until(waits)
            await decide_and_write(tx, [message("a", org=org)])
        [answer] = await sending
        assert Outcome(answer.outcome) is Outcome.DEDUPLICATED
        await check(database, org)
    finally:
        await database.close()


async def test_a_person_who_resolves_while_alerts_come_in_loses_none(database: Database, database_url: str) -> None:
    org = new_org()
    commits = group_commit(database, 5)

    async def resolve_again_and_again() -> None:
        for _ in range(15):
            found = await rows(database, org, "SELECT id FROM incidents WHERE state = 'open'")
            await resolve_incidents(database, lambda: None, org, "users/ana", [row["id"] for row in found])

    sending = [commits.submit(entry(org, message("ab"[number % 2], org=org))) for number in range(400)]
    await asyncio.gather(resolve_again_and_again(), *sending)
    await check(database, org)
    counted = await rows(database, org, "SELECT sum(alert_count) AS all FROM incidents")
    assert counted[0]["all"] == 400


async def test_a_firing_that_is_taken_up_again_pages_with_the_next_group_of_its_alertmanager(
    database: Database,
) -> None:
    """With the start that it had: Prometheus was away from Alertmanager, or the other one of two says that it goes on."""
    org, clock, commits = new_org(), clock_of(database), committer(database)
    began = datetime(2026, 11, 29, 3, tzinfo=UTC)
    fires = replace(message("disk", org=org), started=began)
    over = replace(fires, action=Action.RESOLVE, ended=began + timedelta(minutes=9))
    sent = [(fires, Outcome.OPENED), (over, Outcome.RESOLVED), (fires, Outcome.IGNORED)]
    for one, outcome in sent:
        [answer] = await commit(commits, org, [one])
        assert Outcome(answer.outcome) is outcome
    # `group_interval` is five minutes, of which this answer may take a moment less than the one before.
    await clock.forward(timedelta(minutes=5) - timedelta(seconds=2))
    [answer] = await commit(commits, org, [fires])
    assert Outcome(answer.outcome) is Outcome.OPENED


async def test_duplicates_wait_for_each_other_and_new_keys_do_not(database: Database) -> None:
    org = new_org()
    commit_batch = committer(database)
    waiting = """SELECT payload, extract(epoch FROM due_time - create_time)::float8 AS delay FROM outbox
      WHERE kind = 'incident_alerts_added'"""
    for _ in range(20):
        await commit(commit_batch, org, [message("a", org=org, group="g")])
    ((payload, delay),) = await rows(database, org, waiting)
    assert (IncidentEvent.FromString(payload).alerts_added.alert_count, delay) == (20, 1.0)
    await commit(commit_batch, org, [message("b", org=org, group="g")])
    ((payload, delay),) = await rows(database, org, waiting)
    added = IncidentEvent.FromString(payload).alerts_added
    assert (added.alert_count, added.new_keys) == (21, 1)
    assert delay < 1.0 or await rows(database, org, f"{waiting} AND due_time <= app_now()")
    # A relay has tried to deliver it: further alerts are another event.
    async with database.system() as tx:
        await tx.execute("UPDATE outbox SET attempts = 1, lease_until = app_now() WHERE org_id = $1", org)
    await commit(commit_batch, org, [message("a", org=org, group="g")])
    found = await rows(database, org, f"{waiting} ORDER BY id")
    counts = [IncidentEvent.FromString(row["payload"]).alerts_added for row in found]
    assert [(each.alert_count, each.new_keys) for each in counts] == [(21, 1), (22, 0)]


async def test_a_resolve_takes_the_waiting_event_along(database: Database) -> None:
    """Events of one incident leave in their order, so one that waits for duplicates would hold the resolve up."""
    org = new_org()
    opened, *_ = await commit(committer(database), org, [message("a", org=org)])
    await commit(committer(database), org, [message("a", org=org)])
    waits = "SELECT 1 FROM outbox WHERE due_time > create_time"
    assert len(await rows(database, org, waits)) == 1
    await resolve_incidents(database, lambda: None, org, "users/ana", [UUID(opened.incident.partition("/")[2])])
    assert not await rows(database, org, f"{waits} AND due_time > app_now()")


async def test_a_crash_after_commit_repeats_the_first_answer(database: Database) -> None:
    org, request_id = new_org(), str(uuid.uuid4())
    lost = await committer(database)([entry(org, message("a", org=org), request_id)])
    # The process dies here; the sender never hears it and comes again, to another replica.
    again = await committer(database)(
        [entry(org, message("b", org=org)), entry(org, message("a", org=org), request_id)]
    )
    assert again[1] == lost[0]
    counted = await rows(database, org, "SELECT count FROM alerts WHERE dedup_key = 'a'")
    assert [row["count"] for row in counted] == [1]


async def test_answers_that_are_kept_are_made_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    org = new_org()
    made: list[str] = []

    def decided(dedup_key: str, decision: Decision) -> bytes:
        made.append(dedup_key)
        return answers.decided(dedup_key, decision)

    monkeypatch.setattr("tocsin_ingest.app.alerts.commit_batch.decided", decided)
    ids = [str(uuid.uuid4()) for _ in range(2)]
    sent = [entry(org, message(key, org=org), id) for key, id in zip("ab", ids, strict=True)]
    sent += [entry(org, message("a", org=org), ids[0]), entry(org, message("c", org=org))]
    found = await committer(database)(sent)
    assert made == ["a", "b", "c"]
    assert found[0] == found[2]
    assert await committer(database)(sent[:3]) == found[:3], "as it was kept"


async def test_one_request_id_through_two_replicas_at_once_is_one_alert(database: Database, database_url: str) -> None:
    other = await dialed(database_url, name="other", size=4)
    try:
        org = new_org()
        for _ in range(10):
            request_id = str(uuid.uuid4())
            # Two integrations: no lock keeps them apart, only the request's own row does.
            one, two = (message("a", org=org, integration=each) for each in ("one", "two"))
            first, second = await asyncio.gather(
                committer(database)(
                    [entry(org, message("x", org=org, integration="one")), entry(org, one, request_id)]
                ),
                committer(other)([entry(org, message("y", org=org, integration="two")), entry(org, two, request_id)]),
            )
            assert first[1] == second[1]
        counted = await rows(database, org, "SELECT sum(count) AS all FROM alerts WHERE dedup_key = 'a'")
        assert counted[0]["all"] == 10
    finally:
        await other.close()


async def test_the_same_id_twice_in_one_batch_is_one_request(database: Database) -> None:
    org, request_id = new_org(), str(uuid.uuid4())
    first = entry(org, message("a", org=org), request_id)
    other = Entry(org, message("b", org=org), request_id, b"another body")
    answers: Sequence[Answer] = await committer(database)([first, other, first])
    assert answers[0] == answers[2]
    assert isinstance(answers[1], TocsinError)
    assert answers[1].reason_name == "REQUEST_ID_REUSED"


async def test_what_the_database_refuses_fails_alone(database: Database) -> None:
    org = new_org()
    bad = message("nul\0key", org=org)
    entries = [entry(org, message(str(number), org=org)) for number in range(9)]
    entries.insert(4, entry(org, bad))
    answers = await asyncio.gather(*map(group_commit(database).submit, entries), return_exceptions=True)
    assert [index for index, each in enumerate(answers) if isinstance(each, Exception)] == [4]
    found = await rows(database, org, "SELECT count(*) AS all FROM alerts")
    assert found[0]["all"] == 9


async def test_nothing_is_answered_before_it_is_committed(database: Database) -> None:
    """I1: an answer is worth a row that another connection sees."""
    org = new_org()
    commits = group_commit(database)
    for number in range(20):
        answer = SendAlertResponse.FromString(await commits.submit(entry(org, message(str(number), org=org))))
        seen = await rows(database, org, f"SELECT 1 FROM alerts WHERE id = '{answer.alert.partition('/')[2]}'")
        assert seen


async def test_the_tables_refuse_wrong_states(database: Database) -> None:
    org = new_org()
    await commit(committer(database), org, [message("a", org=org)])
    for wrong in (
        "UPDATE incidents SET state = 'resolved'",
        "UPDATE incidents SET firing_count = 0",
        # It is closed with an alert firing in it: found when the transaction ends.
        "UPDATE incidents SET state = 'resolved', firing_count = 0, resolve_time = app_now(), resolved_by = 'x'",
        "UPDATE incidents SET resolve_time = app_now()",
        "UPDATE alerts SET incident_id = NULL",
        "UPDATE alerts SET state = 'suppressed'",
        "UPDATE alerts SET state = 'resolved'",
        "UPDATE alerts SET state = 'odd'",
        "UPDATE alerts SET count = 0",
        'INSERT INTO alerts SELECT (jsonb_populate_record(alerts, \'{"id": "'
        + str(uuid.uuid4())
        + "\"}')).* FROM alerts",
        'INSERT INTO incidents SELECT (jsonb_populate_record(incidents, \'{"id": "'
        + str(uuid.uuid4())
        + "\"}')).* FROM incidents",
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await rows(database, org, wrong)


async def test_tenants_are_kept_apart_by_the_database_itself(database: Database) -> None:
    """Row security alone: these statements name no tenant."""
    mine, other = new_org(), new_org()
    await commit(committer(database), mine, [message("a", org=mine)])
    for table in ("alerts", "incidents", "outbox"):
        assert len(await rows(database, mine, f"SELECT 1 FROM {table}")) == 1
        assert not await rows(database, other, f"SELECT 1 FROM {table}")
        assert not await rows(database, other, f"DELETE FROM {table} RETURNING 1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rows(
            database, other, f"INSERT INTO outbox (org_id, ordering_key, kind, payload) VALUES ('{mine}','','','')"
        )

    async def without_tenant(tx: Tx) -> int:
        await tx.execute("SET LOCAL tocsin.org_id = ''")
        return len(await tx.fetch("SELECT 1 FROM alerts"))

    assert await database.run(other, without_tenant) == 0

"""Closed alerts and incidents leave the live part of their tables, and go with their partition."""

import asyncio
import random
import shutil
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from tocsin_ingest.app.incidents.resolve_incidents import resolve_incidents
from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.domain.message import Action
from tocsin_ingest.store.alerts import alerts
from tocsin_ingest.store.alerts.alerts import AlertFilter
from tocsin_ingest.work.retention import Retention
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import parse_uuid_name
from tocsin_stack.postgres import Postgres
from tocsin_testkit.clock import clock_is_ahead
from tocsin_testkit.databases import dialed

from tests.store.ingest.committing import check, commit, committer, rows
from tests.store.ingest.support import MIGRATIONS, new_org
from tests.unit.ingest.model import message

PARTITIONS = (
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'parts.alerts_resolved'::regclass"
)
OLDER = """
INSERT INTO incidents (id, org_id, integration_id, group_key, state, severity, policy, title, first_alert, alert_count,
  firing_count, event_sequence, resolve_time, resolved_by)
SELECT md5(k)::uuid, 'acme', 'x', md5(k)::uuid, s, 1, '', k, '', 1, (s = 'open')::int, 1, closed,
  CASE s WHEN 'resolved' THEN 'x' END
FROM (VALUES ('open', 'open', NULL::timestamptz), ('closed', 'resolved', now()), ('old', 'resolved', now() - interval '95 days'))
  AS v (k, s, closed);
INSERT INTO alerts (id, org_id, integration_id, dedup_key, key, state, incident_id, severity, summary, source, newest, count,
  resolve_time)
SELECT id, 'acme', 'x', title, group_key, replace(state, 'open', 'firing'), id, 1, 's', '', '', 1, resolve_time FROM incidents;
INSERT INTO alert_endings (alert_id, org_id, end_time, lasts, named) SELECT id, org_id, now(), '1 second', true FROM alerts;
"""


async def moved(database: Database, days: int) -> None:
    """So much time has passed."""
    async with database.system() as tx:
        await tx.execute(clock_is_ahead(timedelta(days=days)))


async def places(database: Database, org: str) -> dict[str, list[str]]:
    """Where the alerts of each dedup key are."""
    found = await rows(database, org, "SELECT dedup_key, tableoid::regclass::text AS part FROM alerts ORDER BY id")
    by_key: dict[str, list[str]] = {}
    for row in found:
        by_key.setdefault(row["dedup_key"], []).append(row["part"].partition("_20")[0])
    return by_key


async def test_what_is_closed_goes_with_its_partition_and_its_key_can_fire_again(database: Database) -> None:
    org, retention, commit_batch = new_org(), Retention(database, days=90), committer(database)
    assert await retention.sweep() == 0
    both = [
        message("a", org=org),
        message("open", org=org),
        message("a", Action.RESOLVE, org=org),
        message("a", org=org),
    ]
    answers = await commit(commit_batch, org, both)
    assert Outcome(answers[3].outcome) is Outcome.OPENED
    assert answers[3].alert != answers[0].alert
    where = {"a": ["parts.alerts_resolved", "parts.alerts_live"], "open": ["parts.alerts_live"]}
    assert await places(database, org) == where
    async with database.transaction(org) as tx:  # the newest first, wherever they are
        listed = await alerts.page(tx, AlertFilter(dedup_key="a"), None, 10)
        assert [(str(each.id), each.state) for each in listed] == [
            (answers[3].alert.partition("/")[2], "firing"),
            (answers[0].alert.partition("/")[2], "resolved"),
        ]
        assert await alerts.get(tx, listed[1].id) == listed[1]
    before = await rows(database, "*", PARTITIONS)
    await moved(database, 90)
    await retention.sweep()
    assert await places(database, org) == where  # its partition also has what was closed later
    await moved(database, 97)
    assert await retention.sweep() == 0  # row by row
    assert await places(database, org) == {"a": ["parts.alerts_live"], "open": ["parts.alerts_live"]}
    assert len(await rows(database, org, "SELECT FROM incidents")) == 2
    after = await rows(database, "*", PARTITIONS)
    assert len({row["name"] for row in before} - {row["name"] for row in after}) == 1


ATTACH = """
CREATE TABLE parts.{table}_now (LIKE parts.{table}_resolved INCLUDING ALL);
ALTER TABLE parts.{table}_resolved ATTACH PARTITION parts.{table}_now
  FOR VALUES FROM ('2000-01-01') TO ('2100-01-01');
"""


async def by_its_sender(database: Database, org: str, incident: str) -> None:
    await commit(committer(database), org, [message("a", Action.RESOLVE, org=org)])


async def by_a_person(database: Database, org: str, incident: str) -> None:
    await resolve_incidents(database, lambda: None, org, "users/ana", [parse_uuid_name(incident, "incidents")])


@pytest.mark.parametrize("table", ["alerts", "incidents"])
@pytest.mark.parametrize("close", [by_its_sender, by_a_person])
async def test_what_is_closed_while_a_partition_is_attached_is_closed(
    database: Database,
    database_url: str,
    table: str,
    close: Callable[[Database, str, str], Coroutine[None, None, None]],
) -> None:
    """A statement that took the row for one of the default partition waits for it, and finds that it belongs elsewhere."""
    org = new_org()
    (opened,) = await commit(committer(database), org, [message("a", org=org)])
    owner = await asyncpg.connect(database_url, server_settings={"tocsin.org_id": "*"})
    try:
        async with owner.transaction():
            await owner.execute(ATTACH.format(table=table))
            closing = asyncio.create_task(close(database, org, opened.incident))
            async with asyncio.timeout(30):
                while not await owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                    await asyncio.sleep(0.005)
        await closing
    finally:
        await owner.close()
    where = await rows(database, org, f"SELECT state, tableoid::regclass::text AS part FROM {table}")
    assert [tuple(each) for each in where] == [("resolved", f"parts.{table}_now")]
    await check(database, org)


async def test_a_partition_that_is_read_for_long_is_dropped_later(database: Database, database_url: str) -> None:
    retention = Retention(database, days=90)
    await retention.sweep()
    before = await rows(database, "*", PARTITIONS)
    await moved(database, 97)
    backup = await asyncpg.connect(database_url)
    try:
        await backup.execute("BEGIN; SELECT FROM alerts WHERE state = 'resolved'")
        await retention.sweep()
        org = new_org()
        both = [message("a", org=org), message("a", Action.RESOLVE, org=org)]
        async with asyncio.timeout(30):
            await commit(committer(database), org, both)
        assert {row["name"] for row in before} <= {row["name"] for row in await rows(database, "*", PARTITIONS)}
    finally:
        await backup.close()
    await retention.sweep()
    assert not {row["name"] for row in before} <= {row["name"] for row in await rows(database, "*", PARTITIONS)}


async def test_an_alert_is_in_one_place_whenever_a_session_is_killed(
    database: Database, database_url: str, postgres: Postgres
) -> None:
    """Closing moves a row: neither half of that is ever seen, and none is left behind."""
    org, dice, commit_batch = new_org(), random.Random(5), committer(database)
    admin = await asyncpg.connect(postgres.url(database_url.rpartition("/")[2]))

    async def kill() -> None:
        await admin.execute("SELECT pg_sleep($1)", dice.uniform(0, 0.02))
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test'")

    try:
        outcomes: list[object] = []
        for _ in range(25):
            sent = [message(key, dice.choice([Action.TRIGGER, Action.RESOLVE]), org=org) for key in "abcdefgh" * 2]
            outcomes += (await asyncio.gather(commit(commit_batch, org, sent), kill(), return_exceptions=True))[:1]
        assert {type(each) for each in outcomes} <= {list, TocsinError}
        assert any(isinstance(each, TocsinError) for each in outcomes), "some died on the way"
        await check(database, org)
    finally:
        await admin.close()


async def test_what_was_closed_before_the_upgrade_is_there_and_goes_when_it_is_old(
    postgres: Postgres, tmp_path: Path
) -> None:
    shutil.copytree(MIGRATIONS, tmp_path, dirs_exist_ok=True)
    for newer in (tmp_path / "versions").glob("002[1-9]*.py"):
        newer.unlink()
    url = await postgres.ensure_database("partitions_upgraded", "ingest")
    login = await postgres.ensure_tenant_login("partitions_upgraded", "ingest")
    await upgrade(url, tmp_path, tenant_url=login)
    owner = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
    try:
        await owner.execute(OLDER)
    finally:
        await owner.close()
    await upgrade(url, MIGRATIONS)  # the rights of the login of calls move with the tables
    database = await dialed(url, name="test", tenant_url=login, size=2)
    try:
        before = "parts.alerts_before"
        assert await places(database, "acme") == {"open": ["parts.alerts_live"], "closed": [before], "old": [before]}
        assert len(await rows(database, "acme", "SELECT FROM alert_endings")) == 1
        assert await rows(database, "other", "SELECT FROM alerts") == []
        with pytest.raises(TocsinError, match="a right it needs"):
            await rows(database, "acme", "SELECT FROM parts.alerts_before")
        assert await Retention(database, days=90).sweep() == 2  # row by row: what else is in there is younger
        # The version before this one closes what is open, and names no state.
        await rows(
            database,
            "acme",
            """WITH a AS (UPDATE alerts SET state = 'resolved', resolve_time = app_now() WHERE dedup_key = 'open')
            UPDATE incidents SET state = 'resolved', firing_count = 0, resolve_time = app_now(), resolved_by = 'x'
            WHERE title = 'open'""",
        )
        assert await places(database, "acme") == {"open": ["parts.alerts_resolved"], "closed": [before]}
        assert await rows(database, "acme", "SELECT FROM alert_endings") == []
        await moved(database, 97)
        await Retention(database, days=90).sweep()
        assert await places(database, "acme") == {}
        assert before not in [row["name"] for row in await rows(database, "*", PARTITIONS)]
    finally:
        await database.close()
        await postgres.drop_database("partitions_upgraded")

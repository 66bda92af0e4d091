"""What the tables cost: old rows go, and no statement of the hot path walks the history."""

import re
from datetime import timedelta

import pytest
from tocsin_ingest.domain.message import Action
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_ingest.store import retention
from tocsin_ingest.store.alerts import holds, snapshot, writing
from tocsin_ingest.work.retention import Retention
from tocsin_kit.db.pool import Database
from tocsin_kit.ids import new_id
from tocsin_testkit.clock import clock_is_ahead

from tests.store.ingest.committing import commit, committer, rows
from tests.store.ingest.support import new_org
from tests.unit.ingest.model import message


async def test_what_was_over_long_ago_goes_and_the_rest_stays(database: Database) -> None:
    org = new_org()
    commit_batch = committer(database)
    over = [message("old", org=org), message("old", Action.RESOLVE, org=org)]
    quiet = [message("quiet", org=org, suppress=True)]
    open_one = [message("open", org=org), message("noisy", org=org, suppress=True)]
    await commit(commit_batch, org, over + quiet + open_one)
    # Ninety days pass, on the one clock there is.
    async with database.system() as tx:
        await tx.execute(clock_is_ahead(timedelta(days=91)))
    young = [message("young", org=org), message("young", Action.RESOLVE, org=org)]
    young.append(message("noisy", org=org, suppress=True))
    await commit(commit_batch, org, young)
    assert await Retention(database, days=90).sweep() == 3
    left = await rows(database, org, "SELECT dedup_key FROM alerts ORDER BY dedup_key")
    assert [row["dedup_key"] for row in left] == ["noisy", "open", "young"]
    assert len(await rows(database, org, "SELECT 1 FROM incidents")) == 2
    assert await Retention(database, days=90).sweep() == 0


async def plan(database: Database, sql: str) -> str:
    """The plan that a server keeps for the statement, for all values."""
    count = max(int(number) for number in re.findall(r"\$(\d+)", sql))
    async with database.transaction("org") as tx:
        await snapshot.lock_integrations(tx, ["x"])
        await tx.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await tx.execute(f"PREPARE wanted AS {sql}")
        found = await tx.fetch(f"EXPLAIN EXECUTE wanted({', '.join(['NULL'] * count)})")
        await tx.execute("DEALLOCATE wanted")
        return "\n".join(row[0] for row in found)


@pytest.mark.parametrize("known", ["no statistics", "a long history", "a quiet night"])
async def test_the_hot_path_looks_up_by_key_with_any_statistics(database: Database, known: str) -> None:
    if known != "no statistics":
        org = new_org()
        for action in (Action.TRIGGER, Action.RESOLVE):
            await commit(committer(database), org, [message("a", action, org=org)])
    if known == "a quiet night":  # so little is live that to walk it all is cheapest; the storm keeps the plans
        await commit(committer(database), org, [message(str(number), org=org) for number in range(3)])
    if known == "a long history":
        async with database.system() as tx:
            await tx.execute(
                """INSERT INTO incidents (id, org_id, integration_id, group_key, state, severity, policy, title,
                  first_alert, alert_count, firing_count, event_sequence, resolve_time, resolved_by)
                SELECT gen_random_uuid(), 'org', 'x', gen_random_uuid(), 'resolved', 1, '', 't', '', 1, 0, 2, now(), 'x'
                FROM generate_series(1, 4000)"""
            )
            await tx.execute(
                """INSERT INTO alerts (id, org_id, integration_id, dedup_key, key, state, incident_id, severity, summary,
                  source, newest, count, resolve_time)
                SELECT gen_random_uuid(), 'org', 'x', 'k', gen_random_uuid(), 'resolved', id, 1, 's', '', '', 1, now()
                FROM incidents"""
            )
    if known != "no statistics":
        async with database.system() as tx:
            await tx.execute("ANALYZE")
    for statement, indexes in (
        (
            snapshot.READ,
            {
                "alerts_one_live_per_key",
                "alert_holds_pkey",
                "incidents_open_pkey",
                "incidents_one_open_per_group",
                "outbox_order",
            },
        ),
        (writing.UPDATE, {"incidents_open_pkey", "alerts_live_pkey", "outbox_pkey"}),
        (holds.WRITE, {"alert_holds_pkey"}),
    ):
        text = await plan(database, statement)
        assert "Seq Scan" not in text, text
        walked = re.findall(r"Index(?: Only)? Scan using (\w+)|Bitmap Index Scan on (\w+)", text)
        assert {one or other for one, other in walked} == indexes, text
        # Each is entered by a condition, and not walked from end to end; no part but the live ones is looked at.
        assert text.count("Index Cond:") == len(walked), text


async def test_retention_walks_only_what_may_go(database: Database) -> None:
    async with database.system() as tx:
        await tx.execute(
            """INSERT INTO incidents (id, org_id, integration_id, group_key, state, severity, policy, title,
              first_alert, alert_count, firing_count, event_sequence)
            SELECT gen_random_uuid(), 'org', 'x', gen_random_uuid(), 'open', 1, '', 't', '', 1, 1, 2
            FROM generate_series(1, 2000)"""
        )
        await tx.execute(
            """INSERT INTO alerts (id, org_id, integration_id, dedup_key, key, state, incident_id, severity, summary,
              source, newest, count)
            SELECT gen_random_uuid(), 'org', 'x', 'k', gen_random_uuid(), 'firing', id, 1, 's', '', '', 1 FROM incidents"""
        )
        await tx.execute(
            """INSERT INTO ended_firings (key, org_id, start_time)
            SELECT gen_random_uuid(), 'org', app_now() FROM generate_series(1, 2000)"""
        )
        await tx.execute(
            """INSERT INTO refused_alerts (org_id, integration_id, refused, reason, report_time)
            SELECT 'org', number::text, 0, '', app_now() FROM generate_series(1, 2000) AS number"""
        )
        await tx.execute(
            """INSERT INTO silences (org_id, id, integration_id, matchers, start_time, end_time, reason, author)
            SELECT 'org', gen_random_uuid(), '', '', app_now(), app_now(), 'x', '' FROM generate_series(1, 2000)"""
        )
        await tx.execute(
            """INSERT INTO alert_holds (org_id, alert_id, silence_id, due_time)
            SELECT 'org', id, gen_random_uuid(), app_now() FROM alerts"""
        )
    async with database.system() as tx:
        await tx.execute("ANALYZE")
    async with database.system() as tx:
        for statement in retention.STATEMENTS:
            explained = statement.replace("$1", "'90 days'").replace("$2", "500")
            text = "\n".join(row[0] for row in await tx.fetch(f"EXPLAIN {explained}"))
            assert "Seq Scan" not in text, text
            assert await retention.delete_old(tx, 500, statement=statement, kept=timedelta(days=90)) == 0


async def test_duplicates_rewrite_no_index(database: Database) -> None:
    org = new_org()
    await commit(committer(database), org, [message("a", org=org)])
    async with database.transaction(org) as tx:
        filled = Snapshot(new_id)
        await snapshot.fill(tx, filled, [message("a", org=org)])
        filled.apply([message("a", org=org)])
        await writing.write(tx, filled)
        found = await tx.fetch(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname IN ('alerts_live', 'incidents_open')"
        )
    assert [tuple(row) for row in found] == [(1, 1), (1, 1)]

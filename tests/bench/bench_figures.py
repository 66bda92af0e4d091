"""Figures of a million incidents; the floor adds up the incidents themselves, as a database without counted figures would."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from tocsin_escalation.app.figures.count_figures import CountFigures
from tocsin_escalation.app.figures.summaries import Summaries
from tocsin_escalation.app.schedules import schedules
from tocsin_escalation.domain.figures import Group, Question
from tocsin_escalation.domain.schedules.clock import local_of
from tocsin_escalation.domain.schedules.model import Layer, Turn, Unit
from tocsin_escalation.store.figures import figures, page_figures
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_kit.db.pool import Database, Tx

from tests.bench.databases import escalation_database
from tests.bench.report import report

INCIDENTS: Final = 1_000_000
ENTRIES: Final = 60_000
SCHEDULES: Final = 200
DAYS: Final = 90
BEGIN: Final = datetime(2026, 8, 3, tzinfo=UTC)
QUESTION: Final = Question(BEGIN, BEGIN + timedelta(days=DAYS), "Europe/Berlin", ())
# Twenty policies of ten teams, three severities, and storms: half of the incidents come in one day of ten.
_MADE: Final = f"""
CREATE TABLE made AS SELECT 'acme' AS org_id, '{BEGIN.isoformat()}'::timestamptz
    + (CASE WHEN n % 2 = 0 THEN floor(random() * {DAYS}) ELSE floor(random() * {DAYS / 10}) * 10 END + random()) * interval '1 day'
    AS create_time, 'policy-' || n % 20 AS policy_id, 'team-' || n % 10 AS team, (1 + n % 3)::smallint AS severity,
  n % 10 > 0 AS acknowledged, (random() * 600000)::bigint AS acknowledge_ms
FROM generate_series(1, {INCIDENTS}) n
"""
_COUNTED: Final = """
INSERT INTO incident_figures (org_id, quarter, policy_id, team, severity, opened, acknowledged, acknowledge_ms)
SELECT org_id, date_bin('15 minutes', create_time, '2000-01-01Z') AS quarter, policy_id, team, severity, count(*),
  count(*) FILTER (WHERE acknowledged), sum(acknowledge_ms) FROM made GROUP BY org_id, quarter, policy_id, team, severity
ORDER BY quarter
"""
_PEOPLE: Final = """
INSERT INTO person_figures (org_id, quarter, user_id, policy_id, team, pages, acknowledged)
SELECT org_id, date_bin('15 minutes', create_time, '2000-01-01Z') AS quarter, policy_id || '-' || severity, policy_id, team,
  count(*),
  count(*) FILTER (WHERE acknowledged) FROM made GROUP BY org_id, quarter, policy_id, team, severity ORDER BY quarter
"""
_BY_HAND: Final = """
SELECT date_trunc('week', create_time AT TIME ZONE 'Europe/Berlin')::date, policy_id, count(*),
  count(*) FILTER (WHERE acknowledged), sum(acknowledge_ms) FROM made WHERE org_id = 'acme' GROUP BY 1, 2 ORDER BY 1, 2
"""
_ESCALATIONS: Final = f"""
INSERT INTO escalations (incident_id, org_id, title, source, severity, integration, labels, links, alert_count, create_time,
  update_time, state, policy_id, on_fallback_policy, team, level, repeat, generation, assignees, paged_users, reached,
  acknowledged_by, acknowledge_time, resolved_by, added_alerts_noted, last_sequence, version)
SELECT gen_random_uuid(), 'acme', '', '', 1, '', '{{}}', '[]', 1, now(), now(), 'acknowledged', 'policy-1', false, '', 1, 0, 1,
  '{{}}', '{{}}', 'unknown', 'users/ana', now(), '', false, 1, 1 FROM generate_series(1, {ENTRIES // 3})
"""
_ENTRIES: Final = """
INSERT INTO timeline (org_id, incident_id, create_time, kind, actor, message, level, repeat, generation, state, paged_users,
  pages, lateness_ms)
SELECT 'acme', incident_id, now(), kind, 'users/ana', 'a line of some length that says what happened', 1, 0, 1, 'triggered',
  CASE WHEN kind = 'level_paged' THEN ARRAY['ana'] ELSE '{}' END, '{}', 0
FROM escalations, unnest(ARRAY['opened', 'level_paged', 'acknowledged']) AS kind
"""


async def main() -> None:
    async with escalation_database() as db:
        await summaries(db)
        await counting(db)
        await digests(db)


async def summaries(db: Database) -> None:
    async with db.system() as tx:
        for statement in (
            "SET LOCAL statement_timeout = 0",  # a million rows take long on a busy machine
            _MADE,
            _COUNTED,
            _PEOPLE,
            "ANALYZE made",
            "ANALYZE incident_figures",
            "ANALYZE person_figures",
            "ANALYZE person_days",
        ):
            await tx.execute(statement)

    async def by_hand() -> None:
        async with db.system() as tx:
            await tx.execute("SET LOCAL statement_timeout = 0")
            await tx.fetch(_BY_HAND)

    floor = await best(by_hand)
    for name, groups in (
        ("total", ()),
        ("by_day", (Group.DAY,)),
        ("by_week_and_policy", (Group.WEEK, Group.POLICY)),
        ("by_hour_of_day", (Group.HOUR_OF_DAY,)),
    ):
        question = replace(QUESTION, groups=groups)

        async def ask(question: Question = question) -> None:
            async with db.transaction("acme") as tx:
                rows = await figures.of_incidents(tx, question, 5001)
            assert sum(row.opened for row in rows) == INCIDENTS

        taken = await best(ask)
        report(f"figures_{name}", taken * 1000, "ms", floor * 1000, taken / floor)

    async def people() -> None:
        async with db.transaction("acme") as tx:
            rows = await page_figures.of_pages(tx, replace(QUESTION, zone="", groups=(Group.USER,)), 5001)
        assert sum(row.pages for row in rows) == INCIDENTS

    taken = await best(people)
    report("figures_by_person", taken * 1000, "ms", floor * 1000, taken / floor)


async def counting(db: Database) -> None:
    """The floor writes the entries."""
    async with db.system() as tx:
        await tx.execute("SET LOCAL statement_timeout = 0")
        await tx.execute(_ESCALATIONS)
        await tx.execute("ANALYZE escalations")
    began = time.perf_counter()
    async with db.system() as tx:
        await tx.execute("SET LOCAL statement_timeout = 0")
        await tx.execute(_ENTRIES)
    floor = ENTRIES / (time.perf_counter() - began)
    began = time.perf_counter()
    await CountFigures(db).everything()
    rate = ENTRIES / (time.perf_counter() - began)
    async with db.transaction("acme") as tx:
        assert await tx.fetchval("SELECT sum(acknowledged) FROM person_figures WHERE user_id = 'ana'") == ENTRIES // 3
    report("figures_counted", rate, "entries/s", floor, rate / floor)


async def digests(db: Database) -> None:
    """A question for the digests of a hundred users. The floor groups the incidents by their titles."""
    start = datetime(2026, 1, 5, 9)  # noqa: DTZ001 - on the wall

    async def settle(tx: Tx) -> None:
        await tx.execute(
            "INSERT INTO users (org_id, id, display_name, time_zone, disabled) SELECT $1, 'u' || n, '', '', false "
            "FROM generate_series(0, 99) n",
            tx.org_id,
        )
        for number in range(SCHEDULES):
            line_up = tuple((f"u{(number + each) % 100}",) for each in range(7))
            layer = Layer("week", (Turn(Unit.DAY, 1),), local_of(start), line_up, "Europe/Berlin")
            await schedules.create(tx, ScheduleRow(f"s{number}", "", "", "Europe/Berlin", False, (layer,)))

    await db.run("acme", settle)
    async with db.system() as tx:
        now = (await tx.now()).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)

    async def by_hand() -> None:
        async with db.transaction("acme") as tx:
            await tx.fetch(
                "SELECT title, count(*), sum(alert_count) FROM escalations WHERE org_id = 'acme' GROUP BY title"
            )

    async def ask() -> None:
        users = [f"u{number}" for number in range(100)]
        found, people = await Summaries(db).for_digests("acme", users, now - timedelta(days=7), now)
        assert found.opened == ENTRIES // 3
        assert all(len(each.shifts) == 5 for each in people)

    floor, taken = await best(by_hand), await best(ask)
    report("figures_for_100_digests", taken * 1000, "ms", floor * 1000, taken / floor)


async def best(work: Callable[[], Awaitable[None]], turns: int = 8) -> float:
    """Seconds of the fastest of some turns."""
    taken = []
    for _ in range(turns):
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return min(taken)

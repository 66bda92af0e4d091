"""Notices of shifts: ten thousand that are due at one minute, and a look at ten thousand schedules; floors are bare statements."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from prometheus_client import CollectorRegistry
from tocsin_escalation.app.notices.notice_jobs import NOTICE
from tocsin_escalation.app.notices.plan_notices import PlanNotices
from tocsin_escalation.app.notices.send_notices import SendNotices
from tocsin_escalation.domain.schedules.model import Layer, Turn, Unit
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.schedules.schedules import layers_to_json
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Database

from tests.bench.databases import escalation_database
from tests.bench.report import report

TENANTS: Final = 1000
SCHEDULES: Final = 10
"""Of each tenant. Each has one user, whose shift begins at the same minute as all others."""
ROUND: Final = 100
"""Users in one round, as by default."""


async def main() -> None:
    async with escalation_database() as db:
        await fill(db)
        await looking(db)
        await sending(db)


async def fill(db: Database) -> None:
    begins = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=2)
    anchor = int(begins.timestamp()) // 60 - 7 * 1440
    async with db.system() as tx:
        await tx.execute(
            """INSERT INTO users (org_id, id, display_name, time_zone, disabled)
               SELECT 'org-' || t, u, u, '', false FROM generate_series(1, $1::int) t,
                 (SELECT 'user-' || n AS u FROM generate_series(1, $2::int) n UNION SELECT 'other') u""",
            TENANTS,
            SCHEDULES,
        )
        for number in range(1, SCHEDULES + 1):
            line_up = (("other",), (f"user-{number}",))
            layer = Layer("week", (Turn(Unit.WEEK, 1),), anchor, line_up, "UTC")
            await tx.execute(
                """INSERT INTO schedules (org_id, id, display_name, description, time_zone, stand_in, layers)
                   SELECT 'org-' || t, 'schedule-' || $2::text, 'Schedule', '', 'UTC', false, $3::jsonb
                   FROM generate_series(1, $1::int) t""",
                TENANTS,
                str(number),
                layers_to_json((layer,)),
            )
        await tx.execute(
            """INSERT INTO shift_notice_choices (org_id, user_id, before_minutes, hand_over, channel)
               SELECT org_id, id, 60, false, '' FROM users WHERE id <> 'other'"""
        )
        await tx.execute("ANALYZE")


async def looking(db: Database) -> None:
    """The second look: everything is planned. The floor reads the same rows and makes nothing of them."""
    planner = PlanNotices(db)
    await planner.look()
    began = time.perf_counter()
    await planner.look()
    took = time.perf_counter() - began
    began = time.perf_counter()
    async with db.system() as tx:
        for table in ("schedules", "shift_notice_choices", "shift_notices", "users"):
            await tx.fetch(f"SELECT * FROM {table}")
    floor = time.perf_counter() - began
    report("notices_look_at_10000_schedules", took, "s", floor, took / floor)


async def sending(db: Database) -> None:
    """From due to their outbox rows. The floor writes as many such rows in as many transactions."""
    async with db.system() as tx:
        await tx.execute("UPDATE shift_notices SET due_time = app_now() - interval '1 minute'")
        await tx.execute("UPDATE shift_notice_choices SET next_due = app_now() - interval '1 minute'")
    sender = SendNotices(db, EscalationMetrics(CollectorRegistry()), ROUND, lambda: None)
    rounds: list[float] = []
    for _ in range(TENANTS * SCHEDULES // ROUND):
        began = time.perf_counter()
        await sender.round()
        rounds.append(time.perf_counter() - began)
    async with db.system() as tx:
        payloads = [row["payload"] for row in await tx.fetch("SELECT payload FROM outbox WHERE kind = $1", NOTICE)]
    assert len(payloads) == TENANTS * SCHEDULES
    floors: list[float] = []
    for start in range(0, len(payloads), ROUND):
        began = time.perf_counter()
        async with db.system() as tx:
            rows = [("floor", "org-1", "", payload, 0.0) for payload in payloads[start : start + ROUND]]
            await outbox.append_mixed(tx, rows)
        floors.append(time.perf_counter() - began)
    value, floor = sorted(rounds)[len(rounds) // 2] * 1000, sorted(floors)[len(floors) // 2] * 1000
    report("notices_round_of_100_users", value, "ms", floor, value / floor)

"""Who is on call: four weeks of one schedule, a thousand schedules at an instant, a level that pages a schedule."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from uuid import uuid4
from zoneinfo import ZoneInfo

from prometheus_client import CollectorRegistry
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.incidents.apply_events import Arrival, Opening, Result, apply_events
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.people import policies
from tocsin_escalation.app.schedules import schedules as app
from tocsin_escalation.domain.escalation import Facts
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import Layer, Schedule, Turn, Unit, Window
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.schedules import schedules as store
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_kit.db.pool import Database, Tx

from tests.bench.databases import escalation_database
from tests.bench.report import report
from tests.store.escalation.recorders import Arming, Paging, Relay

ZONE = "Europe/Berlin"
SINCE = int(datetime(2026, 3, 9, tzinfo=UTC).timestamp() // 60)
SCHEDULES = 1000
LEVELS = 200


def layers(number: int = 0) -> tuple[Layer, ...]:
    """Weeks in turn, nights day by day, and the weekend."""
    people = tuple((f"user-{number % 50}-{each}",) for each in range(4))
    start = (datetime(2024, 1, 1, 9) - datetime(1970, 1, 1)) // timedelta(minutes=1)  # noqa: DTZ001 - on the wall
    nights = Window(frozenset(range(7)), 22 * 60, 8 * 60)
    weekend = Window(frozenset({5, 6}), 0, DAY)
    return (
        Layer("week", (Turn(Unit.WEEK, 1),), start, people, ZONE),
        Layer("night", (Turn(Unit.DAY, 1),), start, people, ZONE, rank=1, windows=(nights,)),
        Layer("weekend", (Turn(Unit.WEEK, 1),), start, people, ZONE, rank=2, windows=(weekend,)),
    )


async def main() -> None:
    four_weeks()
    async with escalation_database() as db:
        await a_thousand(db)
        await a_level(db)


def four_weeks() -> None:
    schedule = Schedule("bench", ZONE, layers())
    segments = resolve(schedule, SINCE, SINCE + 28 * DAY)
    taken = best(lambda: resolve(schedule, SINCE, SINCE + 28 * DAY))
    zone = ZoneInfo(ZONE)
    walls = [datetime.fromtimestamp(segment.start * 60, zone).replace(tzinfo=None) for segment in segments]
    # The least that anybody must do: each boundary from the wall into UTC.
    floor = best(lambda: [wall.replace(tzinfo=zone).astimezone(UTC) for wall in walls])
    report("schedules_resolve_four_weeks", taken * 1000, "ms", floor * 1000, taken / floor)


async def a_thousand(db: Database) -> None:
    async with db.transaction("acme") as tx:
        for person in range(50):
            for each in range(4):
                await tx.execute(
                    "INSERT INTO users (org_id, id, display_name, time_zone, disabled) VALUES ('acme', $1, '', '', false)",
                    f"user-{person}-{each}",
                )
        for number in range(SCHEDULES):
            await store.insert(tx, ScheduleRow(f"s{number:04}", "Bench", "", ZONE, False, layers(number)))
    at = datetime.fromtimestamp(SINCE * 60, UTC)
    floor = taken = first = 0.0
    for turn in range(5):
        began = time.perf_counter()
        async with db.transaction("acme") as tx:
            await tx.fetch("SELECT id, layers FROM schedules WHERE org_id = 'acme' ORDER BY id")
        read = time.perf_counter()
        found = await app.on_calls(db, "acme", (), at, "", SCHEDULES)
        asked = time.perf_counter() - read
        assert len(found) == SCHEDULES
        first = first or asked
        if turn:
            taken, floor = min(taken or asked, asked), min(floor or 1e9, read - began)
    report("schedules_on_calls_1000", taken * 1000, "ms", floor * 1000, taken / floor)
    report("schedules_on_calls_1000_never_asked_before", first * 1000, "ms", floor * 1000, first / floor)


async def a_level(db: Database) -> None:
    """Incidents whose first level names a schedule or a user, by turns: what the schedule costs a page."""
    effects = Effects(Arming(), Paging(), Relay(), EscalationMetrics(CollectorRegistry()))

    def policy(id: str, target: Target) -> Policy:
        return Policy(id, (Level((target,), timedelta(minutes=5)),))

    async def settle(tx: Tx) -> None:
        await policies.create(tx, policy("user", Target(TargetKind.USER, "user-0-0")), "User", False, Computations())
        await policies.create(
            tx, policy("schedule", Target(TargetKind.SCHEDULE, "s0000")), "Schedule", False, Computations()
        )

    await db.run("acme", settle)
    taken: dict[str, list[float]] = {"user": [], "schedule": []}
    for _ in range(LEVELS):
        for name, times in taken.items():
            facts = Facts("db down", "db1", 1, "integrations/prom", datetime.now(UTC))
            began = time.perf_counter()
            assert await apply_events(db, effects, [Arrival("acme", uuid4(), 1, Opening(facts, name))]) == [
                Result.APPLIED
            ]
            times.append(time.perf_counter() - began)
    plain, asked = (median(taken[name]) for name in ("user", "schedule"))
    report("schedules_level_of_a_schedule", (asked - plain) * 1000, "ms", plain * 1000, asked / plain)


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of many rounds."""
    times = []
    for _ in range(200):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)

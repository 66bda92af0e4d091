"""Who is on call: four weeks of one schedule, and a thousand schedules at an instant."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import tocsin_escalation
from tocsin_escalation.app import schedules as app
from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import Layer, Schedule, Turn, Unit, Window
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.store import schedules as store
from tocsin_escalation.store.schedules import ScheduleRow
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.db.pool import Database
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch

from tests.bench.report import report

MIGRATIONS = Path(tocsin_escalation.__file__).parent.parent / "migrations"
ZONE = "Europe/Berlin"
SINCE = int(datetime(2026, 3, 9, tzinfo=UTC).timestamp() // 60)
SCHEDULES = 1000


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
    with scratch("tocsin-bench-") as folder:
        postgres = Postgres(folder / "postgres", fsync=False)
        await postgres.start()
        try:
            url = await postgres.ensure_database("bench", "bench")
            await upgrade(url, MIGRATIONS)
            db = await Database.open(url, name="bench")
            await a_thousand(db)
            await db.close()
        finally:
            await postgres.stop()


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


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of many rounds."""
    times = []
    for _ in range(200):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)

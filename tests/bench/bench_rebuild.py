"""A Redis that lost everything: how long until every pending timer is armed again from PostgreSQL."""

import asyncio
import time
from pathlib import Path

import asyncpg
import tocsin_escalation
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.work.mirrored_timers import MirroredTimers
from tocsin_escalation.work.tasks import QUEUE, register
from tocsin_kit import gc_tuning
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.db.pool import Database
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerBroker

from tests.bench.report import report

SIZES = (100_000, 1_000_000)
MIGRATIONS = Path(tocsin_escalation.__file__).parent.parent / "migrations"

FILL = """
INSERT INTO escalations (incident_id, org_id, title, source, severity, integration, labels, links, alert_count, create_time,
  update_time, state, policy_id, policy, on_fallback_policy, team, level, repeat, generation, assignees, paged_users,
  acknowledged_by, resolved_by, added_alerts_noted, last_sequence, version)
SELECT gen_random_uuid(), 'acme', 'x', '', 1, '', '{}', '[]', 1, now(), now(), 'triggered', 'p', '{}', false, '', 1, 0, 1, '{}',
  '{}', '', '', false, 1, 1 FROM generate_series(1, $1::int);
"""
TIMERS = """
INSERT INTO timers (incident_id, org_id, timer_id, kind, generation, due_time, urgent)
SELECT incident_id, org_id, gen_random_uuid(), 'level_timeout', 1, now() + interval '1 hour' + random() * interval '1 hour', false
FROM escalations WHERE NOT EXISTS (SELECT FROM timers t WHERE t.incident_id = escalations.incident_id)
"""


async def main() -> None:
    gc_tuning.tune()  # as `tocsin_kit.lifecycle.serve` does
    with scratch("tocsin-bench-") as folder:
        postgres, valkey = Postgres(folder / "postgres", fsync=False), Valkey(folder / "valkey")
        await asyncio.gather(postgres.start(), valkey.start())
        try:
            url = await postgres.ensure_database("bench", "bench")
            await upgrade(url, MIGRATIONS)
            for size in SIZES:
                await rebuild(url, valkey.url, size)
        finally:
            await asyncio.gather(postgres.stop(), valkey.stop())


async def rebuild(url: str, redis_url: str, size: int) -> None:
    connection = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
    have = await connection.fetchval("SELECT count(*) FROM timers")
    await connection.execute(FILL.replace("$1", str(size - have)))
    await connection.execute(TIMERS)
    await connection.execute("ANALYZE")
    db = await Database.open(url, name="bench", statement_timeout=60)
    broker = TimerBroker(redis_url, QUEUE)
    metrics = EscalationMetrics(CollectorRegistry())
    timers = MirroredTimers(db, broker, register(broker), metrics)
    redis = Redis.from_url(redis_url)
    floor = await raw(redis, size)
    await redis.flushall()
    began = time.monotonic()
    filling = asyncio.create_task(timers.mirror.fill())
    tenth = 0.0
    while not filling.done():
        await asyncio.sleep(0.05)
        if not tenth and (await broker.figures()).delayed >= size / 10:
            tenth = time.monotonic() - began
    seconds = time.monotonic() - began
    assert await filling == size
    assert (await broker.figures()).delayed == size
    report(f"rebuild_{size}", round(seconds, 2), "s", round(floor, 2), round(seconds / floor, 2))
    report(f"rebuild_{size}_nearest_tenth", round(tenth, 2), "s", round(floor / 10, 2), round(tenth * 10 / floor, 2))
    await broker.shutdown()
    await redis.aclose()
    await db.close()
    await connection.close()


async def raw(redis: Redis, size: int) -> float:
    """Seconds for as many bare pipelined ZADD + HSET on the same server."""
    value = b"x" * 80
    began = time.monotonic()
    for start in range(0, size, 1000):
        pipeline = redis.pipeline(transaction=False)
        names = [f"raw-{number:036d}" for number in range(start, start + 1000)]
        pipeline.zadd("raw", {name: number for number, name in enumerate(names, start)})
        pipeline.hset("raws", mapping=dict.fromkeys(names, value))
        await pipeline.execute()
    return time.monotonic() - began

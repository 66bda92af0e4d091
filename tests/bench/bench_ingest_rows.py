"""What an alert costs beside a long history, and what it costs to let the oldest of that go.

Two databases on one server, each with an ingest of its own: one begins empty, the other has TOCSIN_BENCH_ALERTS alerts (40,000
unless it is set; 10,000,000 takes about 8 GB of disk and a quarter of an hour), of which one in a hundred is open. Both are given
the same in turns, and what they cost is processor time: that of ingest, and that of its sessions in PostgreSQL.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertsRequest, SendAlertsResponse
from tocsin_ingest.domain.fingerprint import alert_key, group_key
from tocsin_ingest.work.retention import Retention
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.db.pool import Database
from tocsin_kit.ids import new_id
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch

from tests.bench.bench_ingest_send import MIGRATIONS
from tests.bench.ingest_service import noop_process, service_process
from tests.bench.report import report

ALERTS = int(os.environ.get("TOCSIN_BENCH_ALERTS", "40000"))
OPEN = ALERTS // 100
HISTORY = 90
"""Days that the closed ones are spread over."""
A_ROW = 2000
"""Bytes for each, with its part of the log that PostgreSQL keeps."""
GOES = 12
"""Days of them that are let go: two partitions."""
A_DAY = (ALERTS - OPEN) // HISTORY
IN_AN_INCIDENT = 10
BATCH = 500
BATCHES = 10
KNOWN = BATCH * BATCHES // 2
"""Keys that are open in the database that began empty."""
TURNS = 5
# The other service of this benchmark knows nothing of the incidents here: that is not to be mended meanwhile.
QUIET = {"INGEST_RECONCILE_SECONDS": "3600", "INGEST_RECONCILE_GRACE_SECONDS": "3600"}


def alert(key: str, *, value: str = "") -> AlertInput:
    found = AlertInput(dedup_key=key, summary="disk full", source="db1", labels={"team": "db", "env": "prod"})
    if value:
        found.details["value"] = value
    return found


NEWEST = f"decode('{alert('open-or-closed').SerializeToString().hex()}', 'hex')"
CLOCK = "CREATE OR REPLACE FUNCTION app_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$SELECT now() {moved}$$"
# A day's closed alerts as ingest writes them: ids in the order of their time, keys in none.
DAY = f"""
WITH numbered AS (
  SELECT number, {{start}} + number * interval '1 day' / $2 AS at, (number / $3)::int AS incident
  FROM generate_series(0, $2::int - 1) AS number
), given AS (
  SELECT *, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000'
      || substr(md5($1 || '/' || number), 1, 16))::uuid AS id,
    (lpad(to_hex(extract(epoch FROM {{start}})::bigint * 1000 + incident), 12, '0') || '7000'
      || substr(md5('i' || $1 || '/' || incident), 1, 16))::uuid AS incident_id
  FROM numbered
), closed AS (
  INSERT INTO incidents (id, org_id, integration_id, group_key, state, severity, policy, title, first_alert,
    alert_count, firing_count, event_sequence, create_time, resolve_time, resolved_by)
  SELECT DISTINCT ON (incident) incident_id, 'acme', '', incident_id, 'resolved', 1, '', 'disk full',
    {NEWEST}, $3, 0, 2, at, at, 'users/bench' FROM given ORDER BY incident, number DESC
)
INSERT INTO alerts (id, org_id, integration_id, dedup_key, key, state, incident_id, severity, summary, source, newest,
  count, create_time, last_receive_time, resolve_time, decided)
SELECT id, 'acme', '', md5(id::text), md5(id::text)::uuid, 'resolved', incident_id, 1, 'disk full', 'db1',
  {NEWEST}, 3, at, at, at, NULL FROM given
"""
LIVE = f"""
WITH given AS (
  SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) AS u(id, dedup_key, key, group_key)
), opened AS (
  INSERT INTO incidents (id, org_id, integration_id, group_key, state, severity, policy, title, first_alert,
    alert_count, firing_count, event_sequence)
  SELECT id, 'acme', '', encode(group_key, 'hex')::uuid, 'open', 1, '', 'disk full',
    {NEWEST}, 1, 1, 1 FROM given
)
INSERT INTO alerts (id, org_id, integration_id, dedup_key, key, state, incident_id, severity, summary, source, newest,
  count, decided)
SELECT id, 'acme', '', dedup_key, encode(key, 'hex')::uuid, 'firing', id, 1, 'disk full', 'db1',
  {NEWEST}, 1, NULL FROM given
"""
WAITS = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float8 FROM pg_locks
WHERE waitstart IS NOT NULL
"""


async def main() -> None:
    os.environ.update(QUIET)
    with scratch("tocsin-bench-", needs=ALERTS * A_ROW + (1 << 29)) as folder:
        postgres = Postgres(folder / "postgres", settings={"max_wal_size": "4GB", "checkpoint_timeout": "30min"})
        await postgres.start()
        try:
            urls = [await postgres.ensure_database(name, "bench") for name in ("empty", "full")]
            for url in urls:
                await upgrade(url, MIGRATIONS)
            await fill(urls[1])
            async with noop_process() as (noop, _), running(urls[0], noop) as empty, running(urls[1], noop) as full:
                await compare(empty, full)
                await let_go(full)
        finally:
            await postgres.stop()


async def fill(url: str) -> None:
    """The clock is moved back and then day by day, and what makes partitions makes them as it does in ninety days."""
    database = await Database.open(url, name="fill", statement_timeout=600.0)
    await database.connected(10)
    connection = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
    try:
        for day in range(HISTORY, 0, -1):
            await connection.execute(CLOCK.format(moved=f"- interval '{day} days'"))
            await Retention(database, HISTORY).sweep()
            start = f"(date_trunc('day', now()) - interval '{day} days')"
            await connection.execute(DAY.format(start=start), str(day), A_DAY, IN_AN_INCIDENT)
        await connection.execute(CLOCK.format(moved=""))
        for first in range(0, OPEN, 10_000):
            numbers = range(first, min(first + 10_000, OPEN))
            keys = [alert_key("acme", "", name(number)) for number in numbers]
            groups = [group_key("acme", "", name(number), "", (), {}) for number in numbers]
            await connection.execute(LIVE, [new_id() for _ in numbers], [name(each) for each in numbers], keys, groups)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
        await database.close()


def name(number: int) -> str:
    """The dedup key of an alert that is open."""
    return f"open-{number}"


@dataclass(slots=True)
class Running:
    """An ingest and the database under it."""

    url: str
    pid: int
    channel: grpc.aio.Channel
    token: str
    watch: "asyncpg.Connection[asyncpg.Record]"

    async def send(self, alerts: Sequence[AlertInput]) -> None:
        """All at once, in batches, four of them under way at a time."""
        batches = iter([alerts[first : first + BATCH] for first in range(0, len(alerts), BATCH)])
        call: Any = self.channel.unary_unary(
            "/tocsin.ingest.v1.AlertService/SendAlerts", response_deserializer=SendAlertsResponse.FromString
        )

        async def work() -> None:
            for batch in batches:
                request = SendAlertsRequest(alerts=[SendAlertRequest(alert=each) for each in batch])
                answer = await call(request.SerializeToString(), metadata=(("authorization", f"Bearer {self.token}"),))
                assert not any(each.HasField("error") for each in answer.results), answer.results[0]

        await asyncio.gather(*(work() for _ in range(4)))

    async def used(self) -> tuple[float, float]:
        """Seconds of processor time of ingest, and of its sessions in the database."""
        pids = await self.watch.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return seconds(self.pid), sum(seconds(row["pid"]) for row in pids)

    @property
    def memory(self) -> float:
        """MB of ingest that are resident."""
        [line] = [each for each in Path(f"/proc/{self.pid}/status").read_text().splitlines() if "VmRSS" in each]
        return int(line.split()[1]) / 1024


def seconds(pid: int) -> float:
    """Processor time of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9


@asynccontextmanager
async def running(url: str, noop: str) -> AsyncIterator[Running]:
    async with service_process(url, noop) as ingest, grpc.aio.insecure_channel(ingest.target) as channel:
        watch = await asyncpg.connect(url)
        try:
            yield Running(url, pid_of(ingest.target), channel, ingest.token, watch)
        finally:
            await watch.close()


def pid_of(target: str) -> int:
    """The child that was told to listen there."""
    wanted = f"INGEST_GRPC_LISTEN={target}".encode()
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return int(pid)
    raise AssertionError(f"nobody listens at {target}")


def kinds_of(turn: int, open_ones: int) -> dict[str, list[AlertInput]]:
    """What one turn sends, kind after kind. The repeats are of as many keys however many are open, spread over these."""
    numbers, apart = range(BATCH * BATCHES), open_ones // KNOWN
    return {
        "new": [alert(f"{turn}-{number}") for number in numbers],
        "duplicate": [
            alert(name(number % KNOWN * apart + turn % apart), value=f"{turn}-{number}") for number in numbers
        ],
        "resolve": [ending(f"{turn}-{number}") for number in numbers],
    }


async def compare(empty: Running, full: Running) -> None:
    """The same to both, in turns: new keys, repeats of open alerts, and the end of those that were new."""
    spent: dict[str, dict[int, list[float]]] = {}
    known = [alert(name(number)) for number in range(KNOWN)]
    await empty.send(known)
    for each in (empty, full):
        await each.send(known)  # what is prepared once
    for turn in range(-1, TURNS):  # the first one warms up
        for each in (empty, full) if turn % 2 else (full, empty):
            for kind, alerts in kinds_of(turn, max(OPEN, len(known)) if each is full else len(known)).items():
                before = await each.used()
                await each.send(alerts)
                after = await each.used()
                if turn >= 0:
                    cost = sum(after) - sum(before)
                    spent.setdefault(kind, {}).setdefault(id(each), []).append(cost / len(alerts))
    totals = []
    for kind, costs in spent.items():
        ours, floor = (sorted(costs[id(each)])[TURNS // 2] * 1e6 for each in (full, empty))
        totals.append((ours, floor))
        report(f"ingest_cost_of_{kind}_beside_{ALERTS}", ours, "us", floor, ours / floor)
    ours, floor = (sum(each) / len(totals) for each in zip(*totals, strict=True))
    report(f"ingest_cost_per_alert_beside_{ALERTS}", ours, "us", floor, ours / floor)
    report(f"ingest_memory_beside_{ALERTS}", full.memory, "MB", empty.memory, full.memory / empty.memory)


def ending(key: str) -> AlertInput:
    return AlertInput(action=ALERT_ACTION_RESOLVE, dedup_key=key)


async def let_go(full: Running) -> None:
    """The oldest partitions, beside a sender that does not stop. The floor deletes rows in small steps, oldest first."""
    database = await Database.open(full.url, name="retention")
    await database.connected(10)
    owner = await asyncpg.connect(full.url, server_settings={"tocsin.org_id": "*"})
    count = f"SELECT count(*) FROM alerts WHERE state = 'resolved' AND resolve_time < now() - interval '{HISTORY - GOES} days'"
    try:
        rows = await owner.fetchval(count)
        a_row = await deleting(owner, rows // 20)
        rows = await owner.fetchval(count)
        calm = await beside(full, asyncio.sleep(3.0))
        slow = await beside(full, Retention(database, HISTORY - GOES).sweep())
        gone = rows - await owner.fetchval(count)
        assert gone > rows // 2, (gone, rows)
        took = slow.took / gone
        report(f"ingest_retention_of_a_million_of_{ALERTS}", took * 1e6, "s", a_row * 1e6, took / a_row)
        report("ingest_longest_call_beside_retention", slow.call * 1e3, "ms", calm.call * 1e3, slow.call / calm.call)
        wait, floor = (max(each.wait * 1e3, 1.0) for each in (slow, calm))  # it is looked at each millisecond
        report("ingest_longest_lock_wait_beside_retention", wait, "ms", floor, wait / floor)
    finally:
        await owner.close()
        await database.close()


async def deleting(owner: "asyncpg.Connection[asyncpg.Record]", rows: int) -> float:
    """Seconds for each row when the oldest are deleted in small steps."""
    began, last, deleted = time.perf_counter(), UUID(int=0), 0
    while deleted < rows:
        found = await owner.fetch(
            f"""DELETE FROM alerts WHERE state = 'resolved' AND resolve_time < now() - interval '{HISTORY - GOES} days'
            AND id IN (SELECT id FROM alerts WHERE org_id = 'acme' AND id > $1 ORDER BY org_id, id LIMIT $2) RETURNING id""",
            *(last, BATCH),
        )
        last = max(row["id"] for row in found)
        deleted += len(found)
    return (time.perf_counter() - began) / deleted


@dataclass(slots=True)
class Beside:
    """What a sender saw while something else ran: its longest call, and the longest wait for a lock, in seconds."""

    took: float = 0.0
    call: float = 0.0
    wait: float = 0.0


async def beside(full: Running, work: Awaitable[object]) -> Beside:
    """A sender triggers and resolves, call after call, so that it reads and closes; and `work`."""
    seen, over = Beside(), asyncio.Event()

    async def send() -> None:
        number = 0
        while not over.is_set():
            keys = [f"beside-{number}-{each}" for each in range(10)]
            for alerts in ([alert(key) for key in keys], [ending(key) for key in keys]):
                began = time.perf_counter()
                await full.send(alerts)
                seen.call = max(seen.call, time.perf_counter() - began)
            number += 1

    async def look() -> None:
        while not over.is_set():
            seen.wait = max(seen.wait, await full.watch.fetchval(WAITS))
            await asyncio.sleep(0.001)

    others = [asyncio.create_task(each()) for each in (send, look)]
    await asyncio.sleep(0.5)
    began = time.perf_counter()
    await work
    seen.took = time.perf_counter() - began
    await asyncio.sleep(0.5)
    over.set()
    await asyncio.gather(*others)
    return seen

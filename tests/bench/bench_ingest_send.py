"""SendAlert against a server that does nothing: latency, duplicates and opened incidents per second.

The service runs as its own process on a real PostgreSQL; the no-op server is a process of the same kind, and doubles as
the escalation that takes the events.
"""

import asyncio
import functools
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import grpc
import tocsin_ingest
from google.protobuf.duration_pb2 import Duration
from tocsin.ingest.v1 import alert_service_pb2_grpc, integration_service_pb2_grpc
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import (
    SendAlertRequest,
    SendAlertsRequest,
    SendAlertsResponse,
)
from tocsin.ingest.v1.integration_service_pb2 import CreateIntegrationRequest, Integration, RoutingRule
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.ids import new_id
from tocsin_stack.ports import free_port
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch

from tests.bench.ingest_service import Ingest, noop_process, service_process
from tests.bench.processor import report_processor, spent
from tests.bench.report import report

CALLERS = 64
SECONDS = 4.0
BATCHES = 20
BATCH = 500
MIGRATIONS = Path(tocsin_ingest.__file__).parent.parent / "migrations"

# What opening an incident costs a client that does nothing else: its three rows, in the same batches.
RAW = """
WITH i AS (INSERT INTO incidents (id, org_id, integration_id, group_key, state, severity, policy, title, first_alert,
    alert_count, firing_count, event_sequence)
  SELECT id, 'raw', '', id, 'open', 1, '', 't', '', 1, 1, 1 FROM unnest($1::uuid[]) AS id),
a AS (INSERT INTO alerts (id, org_id, integration_id, dedup_key, key, state, incident_id, severity, summary, source,
    newest, count)
  SELECT id, 'raw', '', 'k', id, 'firing', id, 1, 's', '', '', 1 FROM unnest($1::uuid[]) AS id)
INSERT INTO outbox (org_id, kind, ordering_key, payload, due_time)
SELECT 'raw', 'bench', id::text, '', now() + interval '1 day' FROM unnest($1::uuid[]) AS id
"""


# What a batch of alerts costs that join one incident each hundred.
RAW_GROUPED = """
WITH given AS (SELECT id, ((position - 1) / 100)::int AS part FROM unnest($1::uuid[]) WITH ORDINALITY AS u(id, position)),
i AS (INSERT INTO incidents (id, org_id, integration_id, group_key, state, severity, policy, title, first_alert,
    alert_count, firing_count, event_sequence)
  SELECT DISTINCT ON (part) id, 'raw', '', id, 'open', 1, '', 't', '', 100, 100, 1 FROM given ORDER BY part, id
  RETURNING id),
o AS (INSERT INTO outbox (org_id, kind, ordering_key, payload, due_time)
  SELECT 'raw', 'bench', id::text, '', now() + interval '1 day' FROM i)
INSERT INTO alerts (id, org_id, integration_id, dedup_key, key, state, incident_id, severity, summary, source, newest, count)
SELECT given.id, 'raw', '', 'k', given.id, 'firing', first.id, 1, 's', '', '', 1
FROM given JOIN (SELECT DISTINCT ON (part) part, id FROM given ORDER BY part, id) AS first USING (part)
"""

STORM_KEYS = 1000
STORM_AT_ONCE = 8
STORM_ROUNDS = 8
WINDOW_TURNS = 2
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


async def main() -> None:
    with scratch("tocsin-bench-") as folder:
        postgres = Postgres(folder / "postgres")
        await postgres.start()
        try:
            url = await postgres.ensure_database("bench", "bench")
            await upgrade(url, MIGRATIONS)
            async with noop_process() as (noop, _), service_process(url, noop) as ingest:
                await measure(url, noop, ingest)
                await measure_storm(url, noop, ingest, folder)
                await measure_windows(url, ingest)
        finally:
            await postgres.stop()


async def measure(url: str, noop: str, ingest: Ingest) -> None:
    metadata = ingest.metadata
    async with grpc.aio.insecure_channel(noop) as idle, grpc.aio.insecure_channel(ingest.target) as real:
        floor, ours = (alert_service_pb2_grpc.AlertServiceStub(each) for each in (idle, real))

        async def unary(stub: Any, number: int) -> None:
            await stub.SendAlert(SendAlertRequest(alert=alert(f"k{number % 50}")), metadata=metadata)

        for stub in (floor, ours):
            await load(functools.partial(unary, stub), 1.0)
        idle_rate, idle_p50, _ = await load(lambda number: unary(floor, number), SECONDS)
        rate, p50, p99 = await load(lambda number: unary(ours, number), SECONDS)
        report("ingest_send_alert_p50_64_callers", round(p50 * 1e3, 2), "ms", round(idle_p50 * 1e3, 2), p50 / idle_p50)
        report("ingest_send_alert_p99_64_callers", round(p99 * 1e3, 2), "ms", round(idle_p50 * 1e3, 2), p99 / idle_p50)
        report("ingest_send_alert_rate_64_callers", round(rate), "1/s", round(idle_rate), rate / idle_rate)

        async def batches(stub: Any, prefix: str) -> float:
            """Alerts per second, four batches under way at a time; without a prefix all of one key."""
            numbers = iter(range(BATCHES))

            async def work() -> None:
                for number in numbers:
                    keys = (f"{prefix}{number}-{each}" if prefix else "same" for each in range(BATCH))
                    alerts = [SendAlertRequest(alert=alert(each)) for each in keys]
                    answer = await stub.SendAlerts(SendAlertsRequest(alerts=alerts), metadata=metadata)
                    assert not any(each.HasField("error") for each in answer.results), answer.results[0]

            begin = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(4)))
            return BATCHES * BATCH / (time.perf_counter() - begin)

        idle_rate = await batches(floor, "")
        rate = await batches(ours, "")
        report("ingest_duplicates_in_batches", round(rate), "1/s", round(idle_rate), rate / idle_rate)
        raw_rate = await raw(url)
        before = spent()
        rate = await batches(ours, "new")
        report("ingest_incidents_opened_in_batches", round(rate), "1/s", round(raw_rate), rate / raw_rate)
        report_processor("ingest_incidents_opened", before, BATCHES * BATCH)


async def measure_storm(url: str, noop: str, ingest: Ingest, folder: Path) -> None:
    """Batches of 500 as a storm sends them. They are written beforehand, so that the client costs the same for all servers."""
    metadata = ingest.metadata
    same = [
        written(f"s{number}" for number in part) for part in (range(BATCH), range(BATCH, STORM_KEYS))
    ] * STORM_AT_ONCE
    async with grpc.aio.insecure_channel(noop) as idle, grpc.aio.insecure_channel(ingest.target) as real:
        integration = await grouping_integration(real, metadata)

        rate = functools.partial(storm_rate, metadata=metadata)
        await rate(real, same)
        floor = await rate(idle, same * STORM_ROUNDS)
        before = spent()
        identical = await rate(real, same * STORM_ROUNDS)
        report("ingest_identical_duplicates_of_1000_keys", round(identical), "1/s", round(floor), identical / floor)
        report_processor("ingest_identical", before, len(same) * STORM_ROUNDS * BATCH)
        different = [
            written((f"s{number % STORM_KEYS}" for number in range(start, start + BATCH)), value=f"{turn}-{start}")
            for turn in range(STORM_ROUNDS)
            for start in range(0, STORM_KEYS * STORM_AT_ONCE, BATCH)
        ]
        before = spent()
        moved = await rate(real, different)
        report("ingest_different_duplicates_of_1000_keys", round(moved), "1/s", round(identical), moved / identical)
        report_processor("ingest_different", before, len(different) * BATCH)
        grouped = [
            written((f"g{turn}-{number}" for number in range(BATCH)), integration=integration, turn=turn)
            for turn in range(2 * BATCHES)
        ]
        raw_rate = await raw(url, RAW_GROUPED)
        before = spent()
        new = await rate(real, grouped)
        report("ingest_new_keys_grouped_by_100", round(new), "1/s", round(raw_rate), new / raw_rate)
        report_processor("ingest_new_keys_grouped", before, len(grouped) * BATCH)
        if ALERTMANAGER is not None:
            floor = await alertmanager_rate(ALERTMANAGER, folder)
            identical = await rate(real, same * STORM_ROUNDS)
            report(
                "ingest_identical_duplicates_as_alertmanager", round(identical), "1/s", round(floor), identical / floor
            )


async def storm_rate(channel: grpc.aio.Channel, batches: Sequence[bytes], metadata: Any) -> float:
    """Alerts per second."""
    send: Any = channel.unary_unary(
        "/tocsin.ingest.v1.AlertService/SendAlerts", response_deserializer=SendAlertsResponse.FromString
    )
    left = iter(batches)

    async def work() -> None:
        for each in left:
            answer = await send(each, metadata=metadata)
            assert not any(result.HasField("error") for result in answer.results), answer.results[0]

    begin = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(STORM_AT_ONCE)))
    return len(batches) * BATCH / (time.perf_counter() - begin)


async def measure_windows(url: str, ingest: Ingest) -> None:
    """The same alerts to a rule that has a `group_window` and a `dedup_window`, and to one that has none, in turn."""
    hour = Duration(seconds=3600)
    async with grpc.aio.insecure_channel(ingest.target) as channel:
        plain = await grouping_integration(channel, ingest.metadata)
        windowed = await grouping_integration(channel, ingest.metadata, hour)

        def batches(integration: str, turn: int) -> list[bytes]:
            """Ten thousand alerts, a hundred to an incident."""
            return [
                written((f"w{turn}-{part}-{each}" for each in range(BATCH)), integration=integration, turn=part)
                for part in range(turn * BATCHES, (turn + 1) * BATCHES)
            ]

        async def costs(integrations: Sequence[str], times: int = 1) -> list[float]:
            """Of each, the processor time of an alert in ingest and PostgreSQL, in microseconds. `times`: that each alert comes."""
            used = dict.fromkeys(integrations, 0.0)
            for turn in range(WINDOW_TURNS):
                for integration in integrations if turn % 2 else reversed(integrations):
                    sent = batches(integration, turn) * times
                    before = spent()
                    await storm_rate(channel, sent, ingest.metadata)
                    after = spent()
                    used[integration] += sum(after[kind] - before[kind] for kind in ("ingest", "postgresql"))
            return [each / (WINDOW_TURNS * BATCHES * BATCH * times) * 1e6 for each in used.values()]

        without, new = await costs((plain, windowed))
        report("ingest_new_keys_grouped_with_windows_processor", new, "us", without, new / without)
        floor, same = await costs((plain, windowed), 8)
        report("ingest_identical_duplicates_with_windows_processor", same, "us", floor, same / floor)
        await two_hours_pass(url, windowed)
        [late] = await costs((windowed,))
        report("ingest_alerts_after_their_dedup_window_processor", late, "us", without, late / without)


async def two_hours_pass(url: str, integration: str) -> None:
    """For the alerts of the integration that fire."""
    connection = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
    try:
        moved = "last_receive_time = last_receive_time - interval '2 hours'"
        id_ = integration.removeprefix("integrations/")
        await connection.execute(f"UPDATE alerts SET {moved} WHERE integration_id = $1 AND state = 'firing'", id_)
    finally:
        await connection.close()


async def grouping_integration(channel: grpc.aio.Channel, metadata: Any, window: Duration | None = None) -> str:
    """The name of an integration whose alerts share an incident by their label `group`. `window`: both windows."""
    stub: Any = integration_service_pb2_grpc.IntegrationServiceStub(channel)
    request = CreateIntegrationRequest(
        integration=Integration(
            display_name="bench",
            routing_rules=[RoutingRule(group_by=["group"], group_window=window, dedup_window=window)],
        )
    )
    return str((await stub.CreateIntegration(request, metadata=metadata)).integration.name)


def written(keys: Iterable[str], *, value: str = "", integration: str = "", turn: int = 0) -> bytes:
    """A batch. `value`: moves in the details of each alert."""
    requests = []
    for number, key in enumerate(keys):
        each = alert(key)
        if value:
            each.details["value"] = f"{value}-{number}"
        if integration:
            each.labels["group"] = f"{turn}-{number // 100}"
        requests.append(SendAlertRequest(alert=each, integration=integration))
    return SendAlertsRequest(alerts=requests).SerializeToString()


async def alertmanager_rate(program: str, folder: Path) -> float:
    """Alerts per second that Alertmanager takes by POST of the same batches."""
    port = free_port()
    config = folder / "alertmanager.yml"
    config.write_text("route:\n  receiver: nobody\n  group_by: [key]\nreceivers:\n  - name: nobody\n")
    bodies = [
        json.dumps(
            [
                {
                    "labels": {"alertname": "disk full", "key": f"s{number}", "team": "db", "env": "prod"},
                    "annotations": {"summary": "disk full"},
                }
                for number in part
            ]
        ).encode()
        for part in (range(BATCH), range(BATCH, STORM_KEYS))
    ] * STORM_AT_ONCE
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(20):
                while not await is_ready(session, f"{url}/-/ready"):
                    await asyncio.sleep(0.05)
            left = iter(bodies * STORM_ROUNDS)

            async def work() -> None:
                for body in left:
                    headers = {"Content-Type": "application/json"}
                    async with session.post(f"{url}/api/v2/alerts", data=body, headers=headers) as answer:
                        assert answer.status == 200, await answer.text()

            begin = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(STORM_AT_ONCE)))
            return len(bodies) * STORM_ROUNDS * BATCH / (time.perf_counter() - begin)
    finally:
        process.terminate()
        await process.wait()


async def is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def load(call: Callable[[int], Awaitable[None]], seconds: float) -> tuple[float, float, float]:
    """Calls per second, median and 99th percentile in seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        while (begin := time.perf_counter()) < end:
            await call(number)
            times.append(time.perf_counter() - begin)

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    times.sort()
    return len(times) / seconds, times[len(times) // 2], times[len(times) * 99 // 100]


async def raw(url: str, statement: str = RAW) -> float:
    """Alerts per second, written by one connection and nothing else."""
    connection = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
    try:
        begin = time.perf_counter()
        for _ in range(BATCHES):
            await connection.execute(statement, [new_id() for _ in range(BATCH)])
        return BATCHES * BATCH / (time.perf_counter() - begin)
    finally:
        await connection.close()


def alert(key: str) -> AlertInput:
    return AlertInput(dedup_key=key, summary="disk full", source="db1", labels={"team": "db", "env": "prod"})

"""The other ways in beside the batch: Alertmanager's webhook, PagerDuty's events; and one service as two processes."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import tocsin_ingest
from tocsin.ingest.v1 import alert_service_pb2_grpc, integration_service_pb2_grpc
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import CreateIntegrationRequest, Integration
from tocsin_kit.db.migrations import upgrade
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch

from tests.bench.ingest_service import Ingest, noop_process, service_process
from tests.bench.processor import report_processor, spent
from tests.bench.report import report

BATCH = 500
BATCHES = 40
AT_ONCE = 4
EVENTS = 8000
EVENTS_AT_ONCE = 64
"""As of SendAlert: with few events under way a commit takes longer than all else of them, and no processor is busy."""
SECONDS = 4.0
CLIENTS = 3
"""Processes that call, each over `CONNECTIONS` connections: one would be slower than two processes that answer."""
CONNECTIONS = 8
CALLS = 8
MIGRATIONS = Path(tocsin_ingest.__file__).parent.parent / "migrations"
Send = Callable[[bytes], Awaitable[None]]


async def main() -> None:
    with scratch("tocsin-bench-") as folder:
        postgres = Postgres(folder / "postgres")
        await postgres.start()
        try:
            url = await postgres.ensure_database("bench", "bench")
            await upgrade(url, MIGRATIONS)
            async with noop_process() as (noop, noop_http):
                async with service_process(url, noop) as ingest:
                    await measure_senders(ingest, noop_http)
                    one = await called(ingest)
                async with service_process(url, noop, processes=2) as ingest:
                    two = await called(ingest)
                report("ingest_send_alert_two_processes", round(two), "1/s", round(one), two / one)
        finally:
            await postgres.stop()


async def measure_senders(ingest: Ingest, noop_http: str) -> None:
    async with grpc.aio.insecure_channel(ingest.target) as channel, aiohttp.ClientSession() as session:
        stub: Any = integration_service_pb2_grpc.IntegrationServiceStub(channel)
        request = CreateIntegrationRequest(integration=Integration(display_name="bench"))
        key = (await stub.CreateIntegration(request, metadata=ingest.metadata)).key
        alerts: Any = alert_service_pb2_grpc.AlertServiceStub(channel)

        async def batch(body: bytes) -> None:
            await alerts.SendAlerts(SendAlertsRequest.FromString(body), metadata=(("authorization", f"Bearer {key}"),))

        def poster(url: str) -> Send:
            async def post(body: bytes) -> None:
                async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                    assert answer.status < 300, await answer.text()

            return post

        webhook = poster(f"{ingest.http}/v1/alertmanager/{key}")
        same = [grpc_batch()] * BATCHES
        await rate(batch, same[:4], AT_ONCE)
        floor = BATCH * await rate(batch, same, AT_ONCE)
        await rate(webhook, [webhook_body("")] * 4, AT_ONCE)
        found = BATCH * await rate(webhook, [webhook_body("")] * BATCHES, AT_ONCE)
        report("ingest_alertmanager_webhook_of_500", round(found), "1/s", round(floor), found / floor)
        moving = [webhook_body(str(turn)) for turn in range(BATCHES)]
        found = BATCH * await rate(webhook, moving, AT_ONCE)
        report("ingest_alertmanager_webhook_of_500_moving", round(found), "1/s", round(floor), found / floor)
        events = [event(key, f"e{number % 50}") for number in range(EVENTS)]
        await rate(poster(noop_http), events[:200], EVENTS_AT_ONCE)
        floor = await rate(poster(noop_http), events, EVENTS_AT_ONCE)
        await rate(poster(f"{ingest.http}/v2/enqueue"), events[:200], EVENTS_AT_ONCE)
        before = spent()
        found = await rate(poster(f"{ingest.http}/v2/enqueue"), events, EVENTS_AT_ONCE)
        report("ingest_pagerduty_event", round(found), "1/s", round(floor), found / floor)
        report_processor("ingest_pagerduty_event", before, EVENTS)


async def rate(send: Send, bodies: list[bytes], at_once: int) -> float:
    """Bodies per second."""
    left = iter(bodies)

    async def work() -> None:
        for body in left:
            await send(body)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return len(bodies) / (time.perf_counter() - began)


async def called(ingest: Ingest) -> float:
    """SendAlert per second, from several processes over several connections each."""
    arguments = ("-m", "tests.bench.bench_ingest_ways", ingest.target, ingest.token)
    callers = [
        await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        for _ in range(CLIENTS)
    ]
    told = await asyncio.gather(*(each.communicate() for each in callers))
    return sum(int(output) for output, _ in told) / SECONDS


async def call(target: str, token: str) -> int:
    """How many calls were answered in `SECONDS`."""
    metadata = (("authorization", f"Bearer {token}"),)
    answered = 0
    end = time.perf_counter() + 1.0 + SECONDS  # a second to connect in

    async def caller(stub: Any, number: int) -> None:
        nonlocal answered
        while time.perf_counter() < end:
            await stub.SendAlert(SendAlertRequest(alert=alert(f"k{number}")), metadata=metadata)
            answered += time.perf_counter() > end - SECONDS

    # A pool of its own for each: otherwise all channels of a process share one connection.
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(target, options) for _ in range(CONNECTIONS)]
    stubs = [alert_service_pb2_grpc.AlertServiceStub(channel) for channel in channels]
    await asyncio.gather(*(caller(stub, number) for stub in stubs for number in range(CALLS)))
    for channel in channels:
        await channel.close()
    return answered


def alert(key: str) -> AlertInput:
    return AlertInput(dedup_key=key, summary="disk full", source="db1", labels={"team": "db", "env": "prod"})


def grpc_batch() -> bytes:
    alerts = [SendAlertRequest(alert=alert(f"s{number}")) for number in range(BATCH)]
    return SendAlertsRequest(alerts=alerts).SerializeToString()


def webhook_body(value: str) -> bytes:
    """As Alertmanager 0.28 writes it. `value`: moves in the annotations."""
    alerts = [
        {
            "status": "firing",
            "labels": {"alertname": "DiskFull", "instance": f"db{number}:9100", "team": "db", "severity": "critical"},
            "annotations": {"summary": "disk full", "description": f"{value or 97} % of the disk are used"},
            "startsAt": "2026-11-29T10:00:00.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example.com/graph?g0.expr=disk_used+%3E+0.9&g0.tab=1",
            "fingerprint": f"{number:016x}",
        }
        for number in range(BATCH)
    ]
    body = {
        "receiver": "tocsin",
        "status": "firing",
        "alerts": alerts,
        "groupLabels": {"alertname": "DiskFull"},
        "commonLabels": {"alertname": "DiskFull", "team": "db", "severity": "critical"},
        "commonAnnotations": {"summary": "disk full"},
        "externalURL": "http://alertmanager.example.com",
        "version": "4",
        "groupKey": '{}:{alertname="DiskFull"}',
        "truncatedAlerts": 0,
    }
    return json.dumps(body).encode()


def event(key: str, dedup_key: str) -> bytes:
    payload = {"summary": "disk full", "source": "db1", "severity": "critical"}
    return json.dumps(
        {"routing_key": key, "event_action": "trigger", "dedup_key": dedup_key, "payload": payload}
    ).encode()


if __name__ == "__main__":
    sys.stdout.write(str(asyncio.run(call(*sys.argv[1:]))))

"""Notifications delivered per second to a local webhook, and the time from a submit to its webhook.

notify runs as its own process on PostgreSQL with fsync; the webhook server is this process. The floor of the rate is a
process that does nothing but aiohttp posts of the same size to the same server; the floor of the latency is the no-op
way: one gRPC round trip into notify (a queue figure's health check) plus one such post. The latency is measured once more
while a webhook of the same tenant, on the same host, does not answer; the base of that line is the latency before.
"""

import asyncio
import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import grpc
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tocsin.notify.v1 import internal_service_pb2 as pb
from tocsin.notify.v1 import notification_pb2
from tocsin.notify.v1.internal_service_pb2_grpc import NotifyInternalServiceStub
from tocsin_kit.auth import SigningKeys, mint
from tocsin_kit.db.migrations import upgrade
from tocsin_notify.store.cipher import Cipher
from tocsin_stack.ports import free_port
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch
from tocsin_stack.valkey import Valkey

from tests.bench.report import report

MIGRATIONS = Path(__file__).parents[2] / "services/notify/migrations"
KEYS = "k1:" + "Ab3dEf6hIj9lMn" * 3 + "A"
USERS = 50
PAGES = 4000
PACED = 300
RATE = 20.0
HANGING = 60
"""Pages at once, and then one with each other page, to a webhook that does not answer."""


class Receiver:
    """Counts posts, and notes when each page's came."""

    def __init__(self) -> None:
        self.count = 0
        self.arrivals: dict[str, float] = {}
        self._reached: Callable[[], None] = lambda: None
        self._never = asyncio.Event()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def until(self, count: int) -> float:
        """When so many posts have come."""
        reached = asyncio.Event()
        self._reached = lambda: reached.set() if self.count >= count else None
        self._reached()
        async with asyncio.timeout(120):
            await reached.wait()
        return time.monotonic()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/hangs":
            await self._never.wait()
        self.count += 1
        if request.path != "/floor":
            self.arrivals[json.loads(body)["page"]] = time.monotonic()
        self._reached()
        return web.Response()


POSTER = """
import asyncio, sys, time, aiohttp, uvloop
async def main(url, count, lanes):
    body = b"x" * 700
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async def lane():
            for _ in range(count // lanes):
                async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
                    await response.read()
        await asyncio.gather(*(lane() for _ in range(lanes)))
uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


async def floor_rate(receiver: Receiver) -> float:
    """Raw posts per second."""
    poster = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", POSTER, f"http://127.0.0.1:{receiver.port}/floor", str(PAGES), "50")
    )
    await receiver.until(receiver.count + 50)  # imported, connected, under way
    began, first = time.monotonic(), receiver.count
    await poster.wait()
    return (receiver.count - first) / (time.monotonic() - began)


@asynccontextmanager
async def notify(receiver: Receiver, **around: str) -> AsyncIterator[tuple[grpc.aio.Channel, asyncpg.Connection]]:
    """`around`: further settings."""
    with scratch("bench-notify-") as folder:
        postgres, valkey = Postgres(folder / "pg"), Valkey(folder / "valkey")
        await postgres.start()
        await valkey.start()
        url = await postgres.ensure_database("tocsin_notify", "tocsin_notify")
        await upgrade(url, MIGRATIONS)
        admin = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
        await add_users(admin, receiver)
        port = free_port()
        service = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tocsin_notify", "serve"),
            env={
                **os.environ,
                "NOTIFY_DATABASE_URL": url,
                "REDIS_URL": valkey.url,
                "NOTIFY_GRPC_LISTEN": f"127.0.0.1:{port}",
                "AUTH_SIGNING_KEYS": KEYS,
                "NOTIFY_ALLOW_PRIVATE_WEBHOOKS": "true",
                "NOTIFY_ORG_CONCURRENCY": "150",
                "LOG_LEVEL": "WARNING",
                **around,
            },
        )
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await channel.channel_ready()
                yield channel, admin
        finally:
            service.terminate()
            await service.wait()
            await admin.close()
            await valkey.stop()
            await postgres.stop()


async def add_users(admin: asyncpg.Connection, receiver: Receiver) -> None:
    cipher = Cipher([key for _, key in SigningKeys.parse(KEYS).keys])
    for name in (*(f"u{number}" for number in range(USERS)), "hangs"):
        id = uuid.uuid4()
        await admin.execute(
            """INSERT INTO contact_methods (id, org_id, user_id, display_name, channel, address, secret, key_id, disabled,
                 verify_time) VALUES ($1, 'acme', $2, '', 'webhook', $3, $4, 'k', false, now())""",
            id,
            f"users/{name}",
            f"http://127.0.0.1:{receiver.port}/{name}",
            cipher.close("acme", id, b"s" * 16),
        )


def job(user: str) -> notification_pb2.NotificationJob:
    made = notification_pb2.NotificationJob(
        page=f"pages/{uuid.uuid4()}",
        org_id="acme",
        type=notification_pb2.NOTIFICATION_TYPE_NEW_INCIDENT,
        user=f"users/{user}",
        incident=f"incidents/{uuid.uuid4()}",
        title="Disk full on db-1",
        source="db-1",
        level=1,
        generation=1,
    )
    made.planned_time.GetCurrentTime()
    return made


async def main() -> None:
    receiver = Receiver()
    await receiver.start()
    token = mint(SigningKeys.parse(KEYS), org_id="*", subject="services/bench", scopes=("internal",), ttl=600)
    metadata = (("authorization", f"Bearer {token}"),)
    async with notify(receiver) as (channel, _):
        submit = NotifyInternalServiceStub(channel).SubmitNotifications

        async def hand_over(jobs: list[notification_pb2.NotificationJob]) -> None:
            await submit(pb.SubmitNotificationsRequest(jobs=jobs), metadata=metadata)

        async def latencies(also: str = "") -> tuple[list[float], list[float]]:
            """From the submit of one page to its webhook, and the floor, in turns."""
            floors, waits = [], []
            due = time.monotonic()
            for number in range(PACED):
                due += 1 / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if also:
                    await hand_over([job(also)])
                one = job(f"u{number % USERS}")
                sent = time.monotonic()
                await hand_over([one])
                await receiver.until(receiver.count if one.page in receiver.arrivals else receiver.count + 1)
                waits.append(receiver.arrivals[one.page] - sent)
                sent = time.monotonic()
                await health.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
                async with session.post(f"http://127.0.0.1:{receiver.port}/floor", data=b"x" * 700) as response:
                    await response.read()
                floors.append(time.monotonic() - sent)
            return waits, floors

        await hand_over([job(f"u{number % USERS}") for number in range(200)])
        await receiver.until(200)
        floor = await floor_rate(receiver)

        jobs = [job(f"u{number % USERS}") for number in range(PAGES)]
        began, first = time.monotonic(), receiver.count
        await asyncio.gather(*(hand_over(jobs[start : start + 100]) for start in range(0, PAGES, 100)))
        rate = PAGES / (await receiver.until(first + PAGES) - began)
        report("notify.delivered", round(rate), "notifications/s", round(floor), round(rate / floor, 3))

        health = health_pb2_grpc.HealthStub(channel)
        async with aiohttp.ClientSession() as session:
            calm, floors = await latencies()
            await hand_over([job("hangs") for _ in range(HANGING)])
            beside, _ = await latencies(also="hangs")
        lines = (("notify.submit_to_webhook", calm, floors), ("notify.submit_to_webhook_while_one_hangs", beside, calm))
        for line, measured, base in lines:
            for name, place in (("p50", 49), ("p99", 98)):
                value = statistics.quantiles(measured, n=100)[place] * 1000
                least = statistics.quantiles(base, n=100)[place] * 1000
                report(f"{line}.{name}", round(value, 2), "ms", round(least, 2), round(value / least, 2))
    await receiver.stop()


if __name__ == "__main__":
    asyncio.run(main())

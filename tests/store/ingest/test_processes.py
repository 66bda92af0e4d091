"""Ingest as two processes on one port, as senders and operators meet it: one is killed, one stands still, all are stopped."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from tocsin.ingest.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin_kit.db.pool import Database
from tocsin_stack.ports import free_port
from tocsin_testkit.busy import until, within

from tests.store.ingest.support import KEYS, FakeEscalation, bearer, trigger
from tests.store.road import road

ORG = "acme"
SENDERS = 8
PASSING = ("UNAVAILABLE", "CANCELLED", "ABORTED", "DEADLINE_EXCEEDED")
"""What a caller may be told while one process is gone, or stands still with a lock; each means: the same request again."""


class Service:
    """The parent of two processes."""

    def __init__(self, process: asyncio.subprocess.Process, target: str, admin: str, log: Path) -> None:
        self.process = process
        self.target = target
        self._admin = admin
        self._log = log

    @property
    def pids(self) -> list[int]:
        """Of the processes that were started."""
        return [int(each) for each in re.findall(r'"pid": (\d+)[^\n]*"process_started"', self._log.read_text())]

    async def get(self, path: str) -> tuple[int, str]:
        """What operators are shown."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self._admin + path) as response:
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    async def is_ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    async def takes_alerts(self, number: int) -> bool:
        """Whether alerts were committed by this process since it was started."""
        return f'tocsin_ingest_alerts_total{{process="{number}",outcome="opened"}}' in (await self.get("/metrics"))[1]


@contextlib.asynccontextmanager
async def two_processes(url: str, escalation: str, log: Path) -> AsyncIterator[Service]:
    target, http, admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
    environment = {
        "INGEST_PROCESSES": "2",
        "INGEST_DATABASE_URL": url,
        "INGEST_GRPC_LISTEN": target,
        "INGEST_HTTP_LISTEN": http,
        "INGEST_ADMIN_LISTEN": admin,
        "ESCALATION_TARGET": escalation,
        "AUTH_SIGNING_KEYS": KEYS,
        "DATABASE_POOL_SIZE": "4",
        "GRPC_MAX_CONNECTION_AGE_SECONDS": "1",
        "SHUTDOWN_ANNOUNCE_SECONDS": "0.2",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tocsin_ingest", "serve"), env={**os.environ, **environment}, stdout=output
        )
    try:
        yield Service(process, target, f"http://{admin}", log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Senders:
    """Send alerts, each over a connection of its own, and repeat those that were not answered OK until told to stop."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.answered: set[str] = set()
        self.over = False
        self.pause = 0.0
        """Seconds between two alerts of a sender: for phases in which nothing but time passes, and all processors would be busy."""

    async def at_full_speed(self) -> None:
        """Return once they send as fast as they are answered, so that alerts are on their way at any instant."""
        self.pause = 0
        wanted = len(self.answered) + 2 * SENDERS
        await until(lambda: len(self.answered) >= wanted)

    async def send(self, name: str) -> None:
        # A pool of its own: otherwise all channels of this process share one connection.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50))
        number = 0
        async with grpc.aio.insecure_channel(self._target, options) as channel:
            stub: Any = AlertServiceStub(channel)
            while not self.over:
                key = f"{name}-{number}"
                try:
                    await stub.SendAlert(trigger(key, request_id=uuid_of(key)), metadata=bearer(ORG), timeout=within(5))
                except grpc.aio.AioRpcError as error:
                    if error.code().name not in PASSING:
                        raise
                    await asyncio.sleep(0.02)
                else:
                    self.answered.add(key)
                    number += 1
                    await asyncio.sleep(self.pause)


async def test_an_alert_that_was_answered_is_stored_once_even_if_a_process_dies(
    database: Database, database_url: str, escalation: FakeEscalation, tmp_path: Path
) -> None:
    async def stored() -> dict[str, int]:
        async with database.transaction(ORG) as tx:
            rows = await tx.fetch("SELECT dedup_key, sum(count)::int AS times FROM alerts GROUP BY dedup_key")
        return {row["dedup_key"]: row["times"] for row in rows}

    async def several_are_stored_and_not_answered() -> bool:
        return len((await stored()).keys() - senders.answered) >= SENDERS // 2

    async with (
        two_processes(database_url, escalation.target, tmp_path / "log") as service,
        road(f"//{service.target}") as way,
    ):
        await until(service.is_ready, 60)
        senders = Senders(way.address)
        async with asyncio.TaskGroup() as group:
            for number in range(SENDERS):
                group.create_task(senders.send(f"s{number}"))
            await until(lambda: service.takes_alerts(0))
            await until(lambda: service.takes_alerts(1))

            killed, stays = service.pids
            way.lose_answers()
            await until(several_are_stored_and_not_answered)
            os.kill(killed, signal.SIGKILL)
            way.cut()
            way.mend()
            await until(lambda: len(service.pids) == 3)
            senders.pause = 0.05
            await until(lambda: service.takes_alerts(service_number(service, killed)), 60)
            assert "tocsin_process_ended_total" in (await service.get("/metrics"))[1]
            await until(service.is_ready)

            await senders.at_full_speed()
            os.kill(stays, signal.SIGSTOP)
            senders.pause = 0.05
            status, _ = await service.get("/readyz")
            os.kill(stays, signal.SIGCONT)
            assert status == 503, "callers of the one that stands still would wait"
            await until(service.is_ready)

            await senders.at_full_speed()
            service.process.send_signal(signal.SIGTERM)
            assert await service.process.wait() == 0
            senders.over = True
    times = await stored()
    assert {key: times.get(key) for key in senders.answered if times.get(key) != 1} == {}


def uuid_of(key: str) -> str:
    """The same request id each time that an alert is repeated."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, key))


def service_number(service: Service, pid: int) -> int:
    """Which of the two was started as this one."""
    return service.pids.index(pid)

"""A whole process of the kit: started, asked, stopped, killed; its database there or not."""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tocsin_kit.db.pool import Database
from tocsin_stack.ports import HOST, free_port
from tocsin_stack.postgres import Postgres
from tocsin_testkit.busy import within

from tests import preloaded
from tests.preloaded import Forked

Eventually = Callable[..., Awaitable[None]]
SERVICE = "tests.store.kit.widget"


class Process:
    """The service as a child, its log lines parsed."""

    def __init__(self, child: Forked) -> None:
        self.child = child
        self.lines: list[dict[str, object]] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        output = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), self.child.stdout
        )
        async for line in output:
            self.lines.append(json.loads(line) if line.startswith(b"{") else {"event": line.decode()})

    async def said(self, event: str) -> dict[str, object]:
        async with asyncio.timeout(within(20)):
            while True:
                for line in self.lines:
                    if line["event"] == event:
                        return line
                assert not self.reading.done(), f"ended without {event}: {self.lines}"
                await asyncio.wait([self.reading], timeout=0.01)

    def events(self) -> list[object]:
        return [line["event"] for line in self.lines]

    async def port(self, event: str) -> int:
        return int(str((await self.said(event))["address"]).rpartition(":")[2])

    async def ended(self) -> int:
        async with asyncio.timeout(within(20)):
            await self.reading
            return await asyncio.to_thread(self.child.wait)


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(url: str) -> AsyncIterator[Start]:
    started: list[Process] = []

    async def run(*arguments: str, **environment: str) -> Process:
        env = {
            **os.environ,
            "WIDGET_DATABASE_URL": url,
            "AUTH_SIGNING_KEYS": "k1:" + "Ab3dEf6hIj9lMn" * 3 + "A",
            "SHUTDOWN_ANNOUNCE_SECONDS": "0.3",
            **environment,
        }
        child = preloaded.fork(SERVICE, arguments, env, signal.SIGKILL)
        assert child is not None
        started.append(Process(child))
        return started[-1]

    yield run
    for process in started:
        process.child.kill()
        await process.ended()


async def healthy(process: Process) -> bool:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await process.port('rpc_listening')}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_from_start_to_a_clean_stop(start: Start, eventually: Eventually) -> None:
    process = await start("serve")
    await eventually(lambda: healthy(process))
    settings = (await process.said("starting"))["settings"]
    assert "Ab3dEf6hIj9lMn" not in str(process.lines)
    assert isinstance(settings, dict)
    assert settings["database_url"] == "***"
    base = f"http://127.0.0.1:{await process.port('http_listening')}"
    async with aiohttp.ClientSession() as session:
        request = asyncio.create_task(session.get(f"{base}/slow?seconds=0.3").__aenter__())
        await process.said("slow_began")
        process.child.send_signal(signal.SIGTERM)
        assert await (await request).text() == "finished", "what is in flight is finished"
    assert await process.ended() == 0
    wanted = ("stopping", "work_stopped", "slow_ended", "hand_over_stopped", "closed", "stopped")
    ending = [event for event in process.events() if event in wanted]
    assert ending == list(wanted), "what carries on what calls committed ends after the last call"
    collector = await process.said("work_stopped")
    assert collector["collects"] is True
    frozen = collector["frozen"]
    assert isinstance(frozen, int)
    assert frozen > 10_000, "what a service is built of is kept out of the collector's way"


@pytest.mark.parametrize("command", ["serve", "check"])
async def test_a_login_that_row_security_does_not_bind_is_refused(
    start: Start, postgres: Postgres, url: str, command: str
) -> None:
    process = await start(command, WIDGET_DATABASE_URL=postgres.url(url.rpartition("/")[2]))
    assert await process.ended() == 1
    said = str(process.lines)
    assert "superuser or has BYPASSRLS" in said
    assert "CREATE ROLE tocsin LOGIN NOSUPERUSER NOBYPASSRLS" in said, "the message says what to do"
    assert "work_stopped" not in said, "no loop began"


@pytest.mark.parametrize(("only", "works"), [("serve", False), ("work", True)])
async def test_half_of_it_alone(start: Start, eventually: Eventually, only: str, works: bool) -> None:
    process = await start("serve", "--only", only)
    await eventually(lambda: healthy(process))
    built = await process.said("built")
    assert (built["serves"], built["works"]) == (not works, works)
    process.child.send_signal(signal.SIGINT)
    assert await process.ended() == 0
    assert ("work_stopped" in process.events()) == works
    assert "hand_over_stopped" in process.events()


async def test_without_its_schema_it_waits_for_the_migration(
    start: Start, postgres: Postgres, eventually: Eventually
) -> None:
    bare = await postgres.ensure_database("kit_bare", "kit")
    try:
        process = await start("serve", WIDGET_DATABASE_URL=bare)
        await process.said("health_check_failed")
        assert not await healthy(process)
        migrating = await start("migrate", WIDGET_DATABASE_URL=bare, AUTH_SIGNING_KEYS="")
        assert await migrating.ended() == 0
        await eventually(lambda: healthy(process))
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 0
    finally:
        await postgres.drop_database("kit_bare")


async def test_it_lives_through_an_outage_of_its_database(
    start: Start, postgres: Postgres, eventually: Eventually
) -> None:
    process = await start("serve")
    await eventually(lambda: healthy(process))
    postgres.kill()
    try:

        async def sick() -> bool:
            return not await healthy(process)

        await eventually(sick)
    finally:
        await postgres.stop()
        await postgres.start()
    await eventually(lambda: healthy(process))


async def test_a_second_signal_ends_it_at_once(start: Start, eventually: Eventually) -> None:
    process = await start("serve")
    await eventually(lambda: healthy(process))
    base = f"http://127.0.0.1:{await process.port('http_listening')}"
    async with aiohttp.ClientSession() as session:
        request = asyncio.create_task(session.get(f"{base}/slow?seconds=30").__aenter__())
        await process.said("slow_began")
        process.child.send_signal(signal.SIGTERM)
        await process.said("stopping")
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 128 + signal.SIGTERM
        with pytest.raises(aiohttp.ClientError):
            await request


async def test_no_caller_notices_a_restart_behind_one_address(start: Start) -> None:
    """The successor listens beside the one that leaves. Clients are plain: no retries, no look at the health."""
    environment = {
        "WIDGET_GRPC_LISTEN": f"{HOST}:{free_port()}",
        "WIDGET_HTTP_LISTEN": f"{HOST}:{free_port()}",
        "LISTEN_SHARED": "true",
        "SHUTDOWN_ANNOUNCE_SECONDS": "0.3",
        "GRPC_MAX_CONNECTION_AGE_SECONDS": "1",
    }
    old = await start("serve", **environment)
    await old.said("health_changed")
    rpcs: Counter[str] = Counter()
    posts: Counter[str] = Counter()
    over = asyncio.Event()
    async with asyncio.TaskGroup() as traffic:
        for policy in ("pick_first", "round_robin"):
            traffic.create_task(_calls(environment["WIDGET_GRPC_LISTEN"], policy, over, rpcs))
        for keep_alive in (True, False):
            traffic.create_task(_posts(environment["WIDGET_HTTP_LISTEN"], keep_alive, over, posts))
        new = await start("serve", **environment)
        await new.said("health_changed")
        old.child.send_signal(signal.SIGTERM)
        assert await old.ended() == 0
        before = rpcs["OK"], posts["200"]
        async with asyncio.timeout(within(30)):
            while rpcs["OK"] == before[0] or posts["200"] == before[1]:
                await asyncio.sleep(0.01)  # the successor answers
        over.set()
    assert (set(rpcs), set(posts)) == ({"OK"}, {"200"}), (rpcs, posts)


async def _calls(address: str, policy: str, over: asyncio.Event, answers: Counter[str]) -> None:
    options = [("grpc.service_config", json.dumps({"loadBalancingConfig": [{policy: {}}]}))]
    async with grpc.aio.insecure_channel(address, options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while not over.is_set():
            try:
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
                answers["OK"] += 1
            except grpc.aio.AioRpcError as error:
                answers[f"{error.code().name} {error.details()}"] += 1


async def _posts(address: str, keep_alive: bool, over: asyncio.Event, answers: Counter[str]) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=not keep_alive)) as session:
        while not over.is_set():
            try:
                async with session.post(f"http://{address}/take", data="x") as response:
                    answers[str(response.status)] += 1
            except aiohttp.ClientError as error:
                answers[repr(error)] += 1


async def test_a_second_process_on_an_address_fails_unless_it_may_share_it(start: Start) -> None:
    environment = {"WIDGET_GRPC_LISTEN": f"{HOST}:{free_port()}"}
    await (await start("serve", **environment)).said("rpc_listening")
    assert await (await start("serve", **environment)).ended() == 1


async def test_a_misspelled_and_a_former_setting_are_named_at_the_start(start: Start, db: Database) -> None:
    process = await start("serve", WIDGET_GRPC_LISTN="127.0.0.1:0", WIDGET_LOG_LEVEL="DEBUG", LOG_LOUDNESS="INFO")
    await process.said("built")
    renamed = {line["variable"]: line["name"] for line in process.lines if line["event"] == "renamed_setting"}
    assert renamed == {"LOG_LOUDNESS": "LOG_LEVEL"}
    named = {line["variable"]: line["nearest"] for line in process.lines if line["event"] == "unknown_setting"}
    assert named == {"WIDGET_GRPC_LISTN": "WIDGET_GRPC_LISTEN", "WIDGET_LOG_LEVEL": "LOG_LEVEL"}
    process.child.send_signal(signal.SIGTERM)
    assert await process.ended() == 0
    process = await start("check", REDIS_URI="redis://h", LOG_LOUDNESS="INFO")
    assert await process.ended() == 0
    assert "settings: LOG_LOUDNESS is called LOG_LEVEL now; the next release does not read it\n" in process.events()
    assert "settings: REDIS_URI is not read; did you mean REDIS_URL?\n" in process.events()


async def test_a_check_says_what_is_wrong(start: Start, db: Database) -> None:
    process = await start("check")
    assert await process.ended() == 0
    async with db.system() as tx:
        await tx.execute("UPDATE alembic_version SET version_num = '0000'")
    process = await start("check")
    assert await process.ended() == 1
    assert re.search("0000, this code needs 0001", str(process.lines))
    process = await start("check", WIDGET_DATABASE_URL="", AUTH_SIGNING_KEYS="short")
    assert await process.ended() == 2


@pytest.mark.parametrize(("form", "parsed"), [("json", True), ("console", False)])
async def test_what_lines_of_the_log_look_like(start: Start, form: str, parsed: bool) -> None:
    process = await start("serve", LOG_FORMAT=form, TLS_CERT_FILE="absent.pem", TLS_KEY_FILE="absent.pem")
    assert await process.ended() == 1
    assert "refused_to_start" in str(process.events())
    assert ("refused_to_start" in process.events()) is parsed

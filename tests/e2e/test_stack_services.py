"""The stack in a test's own process, with the smallest services that keep the contract."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from tocsin_stack.errors import StackError
from tocsin_stack.lock import is_alive
from tocsin_stack.plan import StackSettings
from tocsin_stack.process import children_of
from tocsin_stack.scratch import scratch
from tocsin_stack.service import SERVICES
from tocsin_stack.stack import Stack

pytestmark = pytest.mark.stack

FAKES = Path(__file__).parents[1] / "unit" / "stack"


def settings(folder: Path, **environment: str) -> StackSettings:
    return StackSettings(
        folder,
        fsync=False,
        environment={"PYTHONPATH": str(FAKES), **environment},
        services=tuple(replace(spec, module="fake_service") for spec in SERVICES),
    )


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    with scratch() as folder:
        async with Stack(settings(folder)) as running:
            yield running


@pytest.fixture(scope="module")
def spare() -> Iterator[Path]:
    """A folder for stacks that fail, one after the other: each must leave it usable."""
    with scratch() as folder:
        yield folder


async def migrations(stack: Stack, service: str) -> int:
    connection = await asyncpg.connect(stack.plan.databases[service])
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM migrations_run")
        return count
    finally:
        await connection.close()


async def test_each_service_is_migrated_and_serves_with_its_own_database(stack: Stack) -> None:
    for spec in SERVICES:
        (process,) = stack.services[spec.name]
        assert await process.is_serving()
        assert await migrations(stack, spec.name) == 1
        url = process.env[spec.variable("DATABASE_URL")]
        assert url.startswith(f"postgresql://tocsin_{spec.name}:")
        assert url.endswith(f"/tocsin_{spec.name}")
    assert stack.valkey is not None
    assert stack.environment("ingest")["REDIS_URL"] == stack.valkey.url
    assert {stack.environment(spec.name)["AUTH_SIGNING_KEYS"] for spec in SERVICES} == {stack.plan.signing_keys}


async def test_a_replica_can_be_killed_paused_and_restarted_where_it_was(stack: Stack) -> None:
    (process,) = stack.services["ingest"]
    process.kill()
    assert process.process.returncode == -signal.SIGKILL
    assert not await process.is_serving()
    await process.start()
    process.pause()
    assert not await process.is_serving()
    process.resume()
    before = process.process.pid
    await process.restart()
    assert process.process.pid != before
    assert await process.is_serving()
    assert "INGEST stops" in process.process.output.tail(), "asked, not killed"


async def test_an_added_replica_becomes_known_at_the_next_start(stack: Stack) -> None:
    first = stack.services["notify"][0]
    second = await stack.add_replica("notify")
    assert second.name == "notify-2"
    assert await second.is_serving()
    both = f"ipv4:{first.grpc_address},{second.grpc_address}"
    for process in (*stack.services["ingest"], first, second):
        assert process.env["NOTIFY_TARGET"] == both


async def test_stores_that_are_named_are_used_and_not_started(stack: Stack, tmp_path: Path) -> None:
    named = {f"{spec.name.upper()}_DATABASE_URL": stack.plan.databases[spec.name] for spec in SERVICES}
    given = {**named, "REDIS_URL": stack.plan.redis_url, "AUTH_SIGNING_KEYS": "k9:AAAA"}
    before = await migrations(stack, "ingest")
    async with Stack(replace(settings(tmp_path), overrides=given, replicas={"notify": 2})) as other:
        assert (other.postgres, other.valkey) == (None, None)
        assert [len(other.services[spec.name]) for spec in SERVICES] == [1, 1, 2]
        environment = other.services["escalation"][0].env
        assert environment["ESCALATION_DATABASE_URL"] == given["ESCALATION_DATABASE_URL"]
        assert environment["AUTH_SIGNING_KEYS"] == "k9:AAAA"
    assert await migrations(stack, "ingest") == before + 1, "nothing is taken for granted about a database not ours"
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ("ingest migrate", r"the migration of ingest failed with 1\n  \| INGEST refuses to migrate"),
        ("notify serve", r"notify exited with 1 while starting\n  \| NOTIFY refuses to serve"),
    ],
)
async def test_a_start_that_fails_says_why_and_leaves_nothing(spare: Path, fail: str, words: str) -> None:
    stack = Stack(settings(spare, FAKE_FAIL=fail))
    with pytest.raises(StackError, match=words):
        await stack.__aenter__()
    assert not any(child.running for child in stack._children())


async def test_a_cancelled_start_leaves_nothing(spare: Path) -> None:
    stack = Stack(settings(spare, FAKE_DEAF="1"))
    start = asyncio.ensure_future(stack.__aenter__())
    deadline = asyncio.get_running_loop().time() + 20
    while not stack.services or not all(child.running for child in stack._children()):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    pids = [child.pid for child in stack._children()]
    assert len(pids) == 5
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not any(map(is_alive, pids))
    assert not any(children_of(pid) for pid in pids)

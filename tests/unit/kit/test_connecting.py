"""A pool that connects in the background says when its first connection is there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db import connections as pools
from tocsin_kit.db.connections import Connections
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import within


class _Session:
    def __init__(self) -> None:
        self.ended = False

    def is_closed(self) -> bool:
        return self.ended

    def terminate(self) -> None:
        self.ended = True

    async def close(self, timeout: float) -> None:
        pass


async def test_it_waits_for_the_first_connection_and_no_longer_than_it_is_told() -> None:
    there = asyncio.Event()

    async def dial() -> Any:
        await there.wait()
        return _Session()

    connections = Connections(dial, name="test", size=1)
    connections.start()
    assert not await connections.connected(0.01)
    there.set()
    assert await connections.connected(30)
    connections.release(await connections.acquire())
    assert await connections.connected(0), "it is there"
    await connections.close()


async def test_why_nothing_connects_is_said_once_and_again_when_it_is_another_reason() -> None:
    reasons = ["permission denied for database", "permission denied for database", "the database system is starting up"]

    async def dial() -> Any:
        if reasons:
            raise OSError(reasons.pop(0))
        return _Session()

    connections = Connections(dial, name="test", size=1)
    with capture_logs() as lines:
        connections.start()
        assert await connections.connected(30)
    # Other tests write to the same log: other code in this process may log a clock that differs.
    said = [
        line["error"] for line in lines if (line["event"], line["log_level"]) == ("database_unreachable", "warning")
    ]
    assert said == ["OSError: permission denied for database", "OSError: the database system is starting up"]
    await connections.close()


class _Server:
    """Answers a dial once `opens` lets it."""

    def __init__(self) -> None:
        self.dials = 0
        self.opens = asyncio.Semaphore(0)
        self.away = False

    async def dial(self) -> Any:
        self.dials += 1
        await self.opens.acquire()
        if self.away:
            raise OSError("away")
        return _Session()


async def _pool(server: _Server, size: int) -> Connections:
    """With its first connection."""
    pool = Connections(server.dial, name="test", size=size)
    pool.start()
    server.opens.release()
    assert await pool.connected(30)
    return pool


async def _turns() -> None:
    """What can happen without the server has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


def _callers(pool: Connections, count: int, use: Callable[[], Awaitable[object]]) -> "asyncio.Task[list[Any]]":
    async def call() -> None:
        connection = await pool.acquire()
        await use()
        pool.release(connection)

    async def all_of_them() -> list[Any]:
        async with asyncio.timeout(within(5)):
            return await asyncio.gather(*(call() for _ in range(count)), return_exceptions=True)

    return asyncio.create_task(all_of_them())


async def test_a_burst_is_served_by_what_is_given_back_while_one_more_is_dialed() -> None:
    server = _Server()
    pool = await _pool(server, size=8)
    assert await _callers(pool, 20, lambda: asyncio.sleep(0)) == [None] * 20
    assert (server.dials, pool.lent, pool.waiting) == (2, 0, 0)
    server.opens.release()
    await _turns()
    assert (server.dials, pool.made, pool.open) == (2, 2, 2), "nobody waits any more"
    await pool.close()


async def test_what_is_in_use_for_long_makes_the_pool_grow_to_its_size_one_by_one() -> None:
    server, over = _Server(), asyncio.Event()
    pool = await _pool(server, size=3)
    calls = _callers(pool, 5, over.wait)
    for lent in (1, 2, 3):
        await _turns()
        assert (pool.lent, pool.open, server.dials) == (lent, min(3, lent + 1), min(3, lent + 1))
        server.opens.release()
    over.set()
    assert await calls == [None] * 5
    assert server.dials == 3
    await pool.close()


async def test_tenants_take_turns_where_they_wait_and_none_takes_all_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant whose statements are slow, and two that ask for one thing."""
    monkeypatch.setattr(pools, "_WAITERS_PER_CONNECTION", 12)
    pool, got = await _pool(_Server(), size=1), list[str]()
    held = await pool.acquire("slow")

    async def ask(org_id: str) -> None:
        connection = await pool.acquire(org_id)
        got.append(org_id)
        pool.release(connection)

    async with asyncio.timeout(within(5)):
        asking = [asyncio.create_task(ask("slow")) for _ in range(7)]
        await _turns()
        asking += [asyncio.create_task(ask(org_id)) for org_id in ("b", "b", "c")]
        await _turns()
        assert pool.waiting == 9
        gone = asking.pop(-2)
        gone.cancel()
        await _turns()
        pool.release(held)
        told = await asyncio.gather(*asking, return_exceptions=True)
    assert got == ["slow", "b", "c", "slow", "slow", "slow", "slow", "slow"]
    refused = [each for each in told if isinstance(each, TocsinError)]
    assert [each.reason for each in refused] == [ErrorReason.ERROR_REASON_OVERLOADED], "it had half of the room"
    assert pool.waiting == 0
    await pool.close()


async def test_one_that_ends_in_use_is_replaced_for_those_who_wait() -> None:
    server = _Server()
    pool = await _pool(server, size=1)
    connection = await pool.acquire()
    calls = _callers(pool, 3, lambda: asyncio.sleep(0))
    await _turns()
    assert server.dials == 1
    connection.terminate()
    pool.release(connection)
    server.opens.release()
    assert await calls == [None] * 3
    assert server.dials == 2
    await pool.close()


async def test_all_who_wait_learn_that_the_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_PATIENCE", 0.01)
    server = _Server()
    pool = await _pool(server, size=5)
    held = await pool.acquire()
    calls = _callers(pool, 4, lambda: asyncio.sleep(0))
    await _turns()
    server.away = True
    server.opens.release()
    told = await calls
    assert {each.reason for each in told} == {ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE}
    pool.release(held)
    await pool.close()


@pytest.mark.parametrize("size", [1, 2])
async def test_a_server_that_does_not_answer_is_away_and_a_pool_in_use_is_busy(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_QUEUE_TIMEOUT", 0.01)
    pool = await _pool(_Server(), size=size)
    held = await pool.acquire()
    with pytest.raises(TocsinError) as caught:
        await pool.acquire()
    busy, away = ErrorReason.ERROR_REASON_OVERLOADED, ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE
    assert caught.value.reason == (busy if size == 1 else away)
    pool.release(held)
    await pool.close()

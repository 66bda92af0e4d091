"""Replicas share a tenant's rates through a real Valkey, and each has its part while there is none."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError
from tocsin_kit.budgets import Budgets, Limit
from tocsin_kit.budgets.shares import Shares
from tocsin_kit.metrics import Metrics
from tocsin_stack.valkey import Valkey
from tocsin_timers.connections import Connections

SLOW = "things_per_day"
LIMIT = Limit(SLOW, 60, 86400.0)
"""Fills so slowly that no test sees it."""


class Replica:
    def __init__(self, url: str, service: str) -> None:
        self.connections = Connections.from_url(url, command_timeout=5.0, block=0)
        self.budgets = Budgets((LIMIT,), Metrics())
        self.shares = Shares(self.budgets, self.connections.commands, service, (RedisError, OSError))

    def takes(self, most: int = 1000, org_id: str = "a") -> int:
        count = 0
        while count < most and not self.budgets.try_take(org_id, SLOW):
            count += 1
        return count


@pytest.fixture(scope="module")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    server = Valkey(Path(tmp_path_factory.mktemp("shares")) / "valkey", appendonly=False)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def replicas(valkey: Valkey, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Replica, Replica]]:
    both = Replica(valkey.url, request.node.name), Replica(valkey.url, request.node.name)
    for each in both:
        await each.shares.exchange()
    yield both
    for each in both:
        await each.connections.close()


async def test_what_one_replica_has_let_pass_is_missing_at_the_other(replicas: tuple[Replica, Replica]) -> None:
    one, two = replicas
    assert one.takes(40) == 40
    assert two.takes(10) == 10
    await one.shares.exchange()
    await two.shares.exchange()
    assert two.takes() == 10
    await two.shares.exchange()
    one.takes(1)
    await one.shares.exchange()
    assert one.takes() == 0
    assert one.takes(org_id="b") == 60


@pytest.mark.parametrize("written", ["a list", "hello", "1:2:3", ".:.", ""])
async def test_what_another_program_wrote_is_replaced_and_no_tenant_pays_for_it(
    replicas: tuple[Replica, Replica], written: str
) -> None:
    one, two = replicas
    redis = one.connections.commands
    bucket, members = (f"{one.shares._prefix}{name}" for name in (f"{SLOW}:b", "replicas"))
    one.takes(1, org_id="b")
    await one.shares.exchange()
    assert await redis.exists(bucket, members) == 2
    for key in (bucket, members):
        await redis.delete(key)
        await (redis.rpush(key, written) if written == "a list" else redis.set(key, written))
    assert one.takes(20, org_id="a") == 20
    one.takes(1, org_id="b")
    for _ in range(3):
        await one.shares.exchange()
        assert one.budgets.shared
    await two.shares.exchange()
    two.takes(1, org_id="a")
    await two.shares.exchange()
    assert two.takes(org_id="a") == 39


async def test_what_both_let_pass_in_one_moment_is_paid_off(replicas: tuple[Replica, Replica]) -> None:
    one, two = replicas
    assert (one.takes(), two.takes()) == (60, 60)
    for each in (one, two, one):
        each.takes(1)
        await each.shares.exchange()
    assert one.budgets.try_take("a", SLOW) > 86400 * 0.9


async def test_without_redis_each_has_its_part_and_afterwards_all_again(valkey: Valkey, tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey", appendonly=False)
    await server.start()
    one, two = Replica(server.url, "s"), Replica(server.url, "s")
    try:
        for each in (one, two, one):
            await each.shares.exchange()
        assert (one.budgets.shared, one.budgets.replicas) == (True, 2)
        await server.stop()
        await one.shares.exchange()
        assert (one.budgets.shared, one.budgets.replicas) == (False, 2)
        assert one.takes() == 30
        await server.start()
        await one.shares.exchange()
        assert one.budgets.shared
        assert one.takes() == 30
    finally:
        for each in (one, two):
            await each.connections.close()
        await server.stop()


async def test_what_could_not_be_told_while_redis_was_away_is_told_afterwards(valkey: Valkey, tmp_path: Path) -> None:
    """Also of a tenant that sends nothing more, so that no call of it tells it."""
    server = Valkey(tmp_path / "valkey", appendonly=False)
    await server.start()
    one, two = Replica(server.url, "s"), Replica(server.url, "s")
    try:
        for each in (one, two, one):
            await each.shares.exchange()
        assert one.takes(40) == 40
        await server.stop()
        await one.shares.exchange()
        await server.start()
        await one.shares.look()
        two.takes(1)
        await two.shares.exchange()
        assert two.takes() == 19
    finally:
        for each in (one, two):
            await each.connections.close()
        await server.stop()


async def test_what_passes_while_a_replica_hears_of_the_others_for_the_first_time_is_told_whole(
    valkey: Valkey,
) -> None:
    """It counted by all of the rate, since it knew of no other replica; by the time it tells, it knows of one."""
    one, two = Replica(valkey.url, "first"), Replica(valkey.url, "first")
    try:
        await two.shares.exchange()
        first = asyncio.create_task(one.shares.exchange())
        await asyncio.sleep(0)  # it has asked what it was to tell, which is nothing
        assert one.takes(40) == 40
        await first
        assert (one.budgets.shared, one.budgets.replicas) == (True, 2)
        await one.shares.exchange()
        two.takes(1)
        await two.shares.exchange()
        assert two.takes() == 19
    finally:
        for each in (one, two):
            await each.connections.close()


@pytest.mark.parametrize("steps", [1, 60, 3600])
@pytest.mark.parametrize("later", [0, 600])
@pytest.mark.parametrize("share", [0.4, 0.9, 3.0])
async def test_who_kept_to_its_rate_while_redis_was_away_is_not_refused_for_it_afterwards(
    valkey: Valkey, request: pytest.FixtureRequest, steps: int, later: int, share: float
) -> None:
    """Over both replicas; `share`: of what each may let pass by itself. It comes back at once, or after it was quiet.

    A step is a thousand seconds, in which 100 may pass, so that the time that the test takes fills no bucket.
    """
    times = [0.0]
    limit = Limit("fast", 100, 1000.0, 10.0)
    both = [Replica(valkey.url, request.node.name) for _ in range(2)]
    for each in both:
        each.budgets = Budgets((limit,), Metrics(), clock=lambda: times[0])
        each.shares = Shares(each.budgets, each.connections.commands, request.node.name, (RedisError, OSError))
    try:
        for each in (*both, both[0]):
            each.budgets.take("a", "fast", 20)
            await each.shares.exchange()
        for each in both:
            each.budgets.shared = False
        passed = 0.0
        for _ in range(steps):
            times[0] += 1000
            for each in both:
                if not each.budgets.try_take("a", "fast", share * 50):
                    passed += share * 50
        times[0] += 1000 * later
        for each in both:
            each.budgets.try_take("a", "fast", 1)
            await each.shares.exchange()
            assert each.budgets.shared
        together = sum(not each.budgets.try_take("a", "fast", 200) for each in both)
        if share < 1 or later:
            assert together == 2, "what it may use at once is there"
        elif steps > 1:
            assert together < 2, "it has used up what it may, but for what has come in since"
        assert passed <= 1000 + 100 * steps
    finally:
        for each in both:
            await each.connections.close()


async def test_quiet_tenants_are_not_reported(replicas: tuple[Replica, Replica], valkey: Valkey) -> None:
    one, _ = replicas
    big = Limit("big", 1000, 86400.0)
    one.budgets.add(big)
    one.budgets.take("a", "big", 9)
    assert one.budgets.noticed() == []
    one.budgets.take("a", "big")
    assert [usage.unreported for *_, usage in one.budgets.noticed()] == [10]


async def test_while_no_rate_is_used_the_others_hear_only_that_a_replica_is_there() -> None:
    asked = list[str]()

    class Counting:
        async def execute_command(self, *args: object) -> list[str]:
            asked.append(str(args[0]))
            return ["59.0", "2"] if args[2] == 2 else ["2"]

    budgets = Budgets((LIMIT,), Metrics())
    shares = Shares(budgets, Counting(), "counting", (RedisError,))
    for _ in range(8):
        await shares.look()
    assert (len(asked), budgets.replicas) == (2, 2), "the first time, and four looks later"
    while not budgets.has_noticed:
        budgets.try_take("a", SLOW)
    await shares.look()
    assert len(asked) == 3, "what is used is told at once"

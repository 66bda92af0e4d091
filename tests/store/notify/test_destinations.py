"""A destination that hangs delays no page to another destination, of any tenant."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from tocsin_testkit.hooks import HookServer

from tests.store.notify.support import CRITICAL, WARNING, Notify, World, job, new_org, until

PATIENT: dict[str, Any] = {
    "concurrency": 20,
    "critical_reserve": 5,
    "org_concurrency": 8,
    "org_rate_per_second": 0,
    "attempt_timeout_seconds": 120.0,
    "lease_seconds": 600.0,
    "shutdown_grace_seconds": 0.2,
}
"""No call ends by itself while a test lasts."""
MANY = 60


@pytest.fixture
async def elsewhere(world: World) -> AsyncIterator[HookServer]:
    """A second host."""
    server = HookServer(world.inbox)
    await server.start()
    yield server
    await server.stop()


async def hanging(world: World, org: str, users: int) -> list[str]:
    """So many users of the tenant, each with a webhook that does not answer."""
    names = [f"slow{number}" for number in range(users)]
    for name in names:
        await world.method(org, f"users/{name}", webhook=name)
        world.hooks.hang[name] = asyncio.Event()
    return names


async def fast(world: World, org: str, server: HookServer) -> None:
    method = await world.method(org, webhook="ana")
    await world.admin.execute("UPDATE contact_methods SET address = $1 WHERE id = $2", server.url("ana"), method)


def has_come(world: World, pages: int) -> bool:
    return world.arrived("ana") == pages


async def none_has_ended(world: World) -> bool:
    ended = """SELECT count(*) FROM attempts a JOIN notifications n ON n.id = a.notification_id
               WHERE n.user_id LIKE 'users/slow%' AND a.end_time IS NOT NULL"""
    return not await world.admin.fetchval(ended)


async def hang_all_they_may(world: World, notify: Notify) -> None:
    """Every slot that the hanging calls can have is taken."""

    async def under_way() -> bool:
        return bool(await world.admin.fetchval("SELECT count(*) > 0 FROM notifications WHERE state = 'sending'"))

    await until(under_way)


@pytest.mark.parametrize("severity", [CRITICAL, WARNING])
@pytest.mark.parametrize("users", [1, MANY])
async def test_pages_to_other_hosts_go_on(world: World, elsewhere: HookServer, users: int, severity: int) -> None:
    """One webhook hangs, or a host with many; the pages of both come from one tenant and have one priority."""
    org = new_org()
    names = await hanging(world, org, users)
    await fast(world, org, elsewhere)
    async with world.replica(**PATIENT) as notify:
        await notify.submit(*(job(org, user=f"users/{names[n % users]}", severity=severity) for n in range(MANY)))
        await hang_all_they_may(world, notify)
        for number in range(1, 11):
            await notify.submit(job(org, severity=severity))
            await until(partial(has_come, world, number))
        assert await none_has_ended(world)


async def test_pages_to_other_webhooks_of_the_same_host_go_on(world: World) -> None:
    org = new_org()
    await hanging(world, org, 1)
    await fast(world, org, world.hooks)
    async with world.replica(**PATIENT) as notify:
        await notify.submit(*(job(org, user="users/slow0") for _ in range(MANY)))
        await hang_all_they_may(world, notify)
        await notify.submit(*(job(org) for _ in range(20)))
        await until(lambda: world.arrived("ana") == 20)
        assert await none_has_ended(world)


@pytest.mark.parametrize("users", [1, 20])
async def test_what_is_due_behind_pages_that_cannot_leave_is_found(
    world: World, elsewhere: HookServer, users: int
) -> None:
    """Far more of them than one look at the table reads."""
    org = new_org()
    names = await hanging(world, org, users)
    await fast(world, org, elsewhere)
    async with world.replica(works=False) as door:
        await door.submit(*(job(org, user=f"users/{names[n % users]}") for n in range(3 * MANY)))
        await door.submit(*(job(org) for _ in range(20)))
    async with world.replica(**PATIENT):
        await until(lambda: world.arrived("ana") == 20)
        assert await none_has_ended(world)


async def test_many_tenants_with_a_destination_that_hangs_leave_slots_to_others(world: World) -> None:
    orgs, other = [new_org() for _ in range(4)], new_org()
    for org in orgs:
        await hanging(world, org, 1)
    await world.method(other, webhook="ana")
    async with world.replica(**PATIENT) as notify:
        await notify.submit(*(job(org, user="users/slow0", severity=WARNING) for org in orgs for _ in range(MANY)))
        await hang_all_they_may(world, notify)
        await notify.submit(*(job(other, severity=WARNING) for _ in range(20)))
        await until(lambda: world.arrived("ana") == 20)
        assert await none_has_ended(world)

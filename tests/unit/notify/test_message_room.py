"""How many messages a tenant may schedule is counted seldom while there is much room, and each time while there is little."""

from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from tocsin_kit.budgets import Budgets, Limit
from tocsin_kit.db.pool import Tx
from tocsin_kit.metrics import Metrics
from tocsin_notify.app.messages.message_room import SCHEDULED, MessageRoom


class Rows:
    """The scheduled messages of a tenant, and how often they were counted."""

    org_id = "acme"

    def __init__(self) -> None:
        self.rows = 0
        self.counts = 0

    async def fetchval(self, sql: str, *args: Any) -> int:
        self.counts += 1
        return min(self.rows, int(args[-1]))


class Desk:
    def __init__(self, allowed: int, replicas: int = 1) -> None:
        self.time = 0.0
        budgets = Budgets([Limit(SCHEDULED, allowed)], Metrics(CollectorRegistry()))
        budgets.replicas = replicas
        self.rows = Rows()
        self.rooms = [MessageRoom(budgets, clock=lambda: self.time) for _ in range(replicas)]

    async def schedule(self, wanted: int, replica: int = 0) -> int:
        made = await self.rooms[replica].left(cast(Tx, self.rows), wanted)
        self.rows.rows += made
        return made


async def test_a_tenant_with_much_room_is_counted_seldom() -> None:
    desk = Desk(1_000_000)
    for _ in range(2000):
        assert await desk.schedule(100) == 100
    assert desk.rows.counts == 1
    desk.time += 61
    await desk.schedule(1)
    assert desk.rows.counts == 2


@pytest.mark.parametrize("replicas", [1, 3])
async def test_no_tenant_gets_more_than_it_may_have(replicas: int) -> None:
    desk = Desk(1000, replicas)
    for number in range(300):
        await desk.schedule(7, number % replicas)
    assert desk.rows.rows == 1000
    assert await desk.schedule(1) == 0
    desk.rows.rows -= 1
    assert await desk.schedule(2) == 1, "one was cancelled"

"""Watching who is on call: by time, by edits, over a reconnect, and what a policy names."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.people import policies
from tocsin_escalation.app.schedules import overrides, schedules
from tocsin_escalation.app.watching.watch_on_call import News, OnCalls
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.model import Layer, Scope, Turn, Unit
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_kit.auth import Principal
from tocsin_kit.credentials import Credentials
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.live_streams import LiveStreams

from tests.store.escalation.recorders import ORG, Desk
from tests.unit.escalation.schedules.writing import group, local

CALLER = Principal(ORG, "users/ana", frozenset({"schedules:read"}))


def replica(desk: Desk) -> OnCalls:
    credentials = Credentials(rate=1, burst=1, metrics=Metrics(CollectorRegistry()))
    return OnCalls(desk.db, LiveStreams(credentials, asyncio.Event()))


async def write(desk: Desk, *ids: str, org_id: str = ORG) -> None:
    """Schedules on which ana and ben take days in turn, ana's began an hour ago."""
    begin = local(f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%d %H:%M}")
    layer = Layer("day", (Turn(Unit.DAY, 1),), begin, (group("ana"), group("ben")), "UTC")

    async def work(tx: Tx) -> None:
        for id in ids:
            await schedules.create(tx, ScheduleRow(id, id, "", "UTC", False, (layer,)))

    await desk.db.run(org_id, work)


async def override(desk: Desk, schedule: str, user: str, second: float | None = None) -> None:
    """From now on, or from this second of the present minute on."""
    now = datetime.now(UTC) + desk.offset
    start = now if second is None else now.replace(second=0, microsecond=0) + timedelta(seconds=second)
    row = OverrideRow(uuid4(), schedule, start, now + timedelta(hours=2), Scope.SCHEDULE, "", (user,), "", "users/ana")
    await desk.db.run(ORG, lambda tx: overrides.create_override(tx, row))


async def told(stream: AsyncGenerator[News, None]) -> tuple[dict[str, tuple[str, ...] | None], News]:
    async with asyncio.timeout(30):
        news = await anext(stream)
    return {each.schedule: each.standing.segment.people if each.standing else None for each in news.states}, news


async def silent(calls: OnCalls, stream: AsyncGenerator[News, None]) -> None:
    """Nothing is different: a look tells nothing."""
    await calls.look()
    [watch] = calls._watches
    assert watch.stream is not None
    assert not watch.stream._waiting


async def test_time_and_edits_are_told_once_each(desk: Desk) -> None:
    await write(desk, "web", "db")
    calls = replica(desk)
    async with aclosing(calls.watch(CALLER, ["web", "db"], "", None)) as live:
        assert (await told(live))[0] == {"web": ("ana",), "db": ("ana",)}
        await silent(calls, live)
        await desk.passes(days=1)
        await calls.look()
        assert (await told(live))[0] == {"web": ("ben",), "db": ("ben",)}
        await silent(calls, live)
        await override(desk, "db", "ana")
        await calls.look()
        assert (await told(live))[0] == {"db": ("ana",)}
        await desk.passes(hours=3)
        await calls.look()
        assert (await told(live))[0] == {"db": ("ben",)}
        await desk.db.run(ORG, lambda tx: schedules.delete(tx, "db", ""))
        await calls.look()
        assert (await told(live))[0] == {"db": None}
        await silent(calls, live)


async def test_who_comes_back_is_told_what_is_different_at_any_replica(desk: Desk) -> None:
    await write(desk, "web", "db")
    here, there = replica(desk), replica(desk)
    async with aclosing(here.watch(CALLER, ["web", "db"], "", None)) as live:
        _, news = await told(live)
    async with aclosing(there.watch(CALLER, ["web", "db"], "", dict(news.shown))) as again:
        assert (await told(again))[0] == {}, "the first message says that the stream is open"
    await override(desk, "web", "ben")
    async with aclosing(there.watch(CALLER, ["web", "db"], "", dict(news.shown))) as again:
        assert (await told(again))[0] == {"web": ("ben",)}
    assert not here._watches
    assert not there._watches


async def test_what_begins_in_the_last_half_second_of_a_minute_counts_in_that_minute(desk: Desk) -> None:
    await write(desk, "web")
    await override(desk, "web", "ben", second=59.7)
    async with aclosing(replica(desk).watch(CALLER, ["web"], "", None)) as live:
        assert (await told(live))[0] == {"web": ("ben",)}


async def test_a_policy_stands_for_the_schedules_that_it_names_by_then(desk: Desk) -> None:
    await write(desk, "web", "db")

    def policy(*named: str) -> Policy:
        return Policy("p", (Level(tuple(Target(TargetKind.SCHEDULE, id) for id in named), timedelta(minutes=5)),))

    await desk.db.run(ORG, lambda tx: policies.create(tx, policy("web"), "P", False, Computations()))
    calls = replica(desk)
    async with aclosing(calls.watch(CALLER, [], "p", None)) as live:
        assert (await told(live))[0] == {"web": ("ana",)}
        await desk.db.run(ORG, lambda tx: policies.delete(tx, "p", ""))
        await desk.db.run(ORG, lambda tx: policies.create(tx, policy("db"), "P", False, Computations()))
        await calls.look()
        now, news = await told(live)
        assert now == {"db": ("ana",)}
        assert set(news.shown) == {"db"}


async def test_another_tenants_schedule_is_not_found_and_its_changes_are_not_told(desk: Desk) -> None:
    await write(desk, "web")
    calls = replica(desk)
    other = Principal("globex", "users/eve", frozenset({"schedules:read"}))
    for named, policy, reason in ((["web"], "", "SCHEDULE_NOT_FOUND"), ([], "night", "POLICY_NOT_FOUND")):
        async with aclosing(calls.watch(other, named, policy, None)) as live:
            with pytest.raises(TocsinError) as raised:
                await anext(live)
        assert raised.value.reason_name == reason

"""A user passes an incident on to the next level: their own pages end, those of others go on."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_testkit.notify_world import cancellation

from tests.store.notify.bundling import COLLECTED, TWO, bundles, storm
from tests.store.notify.support import WARNING, Notify, World, job, new_org, refused, until

ANA, BEN = "users/ana", "users/ben"


async def states_of(world: World, user: str) -> list[str]:
    rows = await world.admin.fetch("SELECT state FROM notifications WHERE user_id = $1 ORDER BY create_time, id", user)
    return [row["state"] for row in rows]


async def passed_on(notify: Notify, org: str, incident: uuid.UUID) -> int:
    """How many of Ana's notifications were cancelled."""
    answer = await notify.cancel(org, incident, reason="passed on by users/ana", user=ANA)
    return int(answer.cancelled)


async def cancelled(world: World, org: str) -> bool:
    rows = await world.admin.fetch("SELECT state FROM notifications WHERE org_id = $1", org)
    return {row["state"] for row in rows} == {"cancelled"}


async def waits(world: World, notify: Notify) -> tuple[str, uuid.UUID]:
    """The tenant and the incident of a page of Ana's that waits for its second attempt."""
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, ANA, webhook="ana")
    world.hooks.will_answer("ana", [(503, {"Retry-After": "30"})])
    await notify.submit(job(org, incident, user=ANA))
    await refused(world, org)
    return org, incident


async def test_the_later_steps_of_who_answered_do_not_come_and_others_steps_do(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    for user, path in ((ANA, "ana"), (BEN, "ben")):
        hook, later = (
            await world.method(org, user, webhook=path),
            await world.method(org, user, webhook=f"{path}-later"),
        )
        await notify.set_rules(org, user, (pb.URGENCY_HIGH, hook, 0), (pb.URGENCY_HIGH, later, 300))
    await notify.submit(job(org, incident, user=ANA), job(org, incident, user=BEN))
    await until(lambda: world.arrived("ana") == world.arrived("ben") == 1)
    assert await passed_on(notify, org, incident) == 1
    assert await passed_on(notify, org, incident) == 0
    [reason] = await world.admin.fetch("SELECT state_reason FROM notifications WHERE state = 'cancelled'")
    assert reason["state_reason"] == "passed on by users/ana"
    await world.forward(timedelta(minutes=6))
    await until(lambda: world.arrived("ben-later") == 1)
    assert world.arrived("ana-later") == 0


async def test_a_page_of_who_answered_is_not_tried_again_and_those_of_others_are(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    for user, path in ((ANA, "ana"), (BEN, "ben")):
        await world.method(org, user, webhook=path)
        world.hooks.will_answer(path, [(503, {"Retry-After": "30"})])
    await notify.submit(job(org, incident, user=ANA), job(org, incident, user=BEN))
    await refused(world, org, 2)
    assert await passed_on(notify, org, incident) == 1
    await world.forward(timedelta(minutes=5))
    await until(lambda: world.arrived("ben") == 1)
    assert await states_of(world, ANA) == ["cancelled"]
    assert world.arrived("ana") == 0


async def test_an_attempt_that_fails_after_the_answer_is_followed_by_no_other(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, ANA, webhook="ana")
    world.hooks.hang["ana"] = asyncio.Event()
    await notify.submit(job(org, incident, user=ANA))
    await until(lambda: world.hooks.held["ana"])
    assert (await notify.cancel(org, incident, user=ANA)).crossed == 1
    world.hooks.will_answer("ana", [503])
    world.hooks.hang["ana"].set()

    async def over() -> bool:
        await world.forward(timedelta(minutes=1))
        return await world.states() == ["cancelled"]

    await until(over)
    assert world.arrived("ana") == 0


@pytest.mark.parametrize("how", [{"generation": 2}, {"outlasts_acknowledge": True}])
async def test_later_pages_and_what_lasts_reach_who_passed_it_on(world: World, notify: Notify, how: Any) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, ANA, webhook="ana")
    world.hooks.will_answer("ana", [(503, {"Retry-After": "30"})])
    await notify.submit(job(org, incident, user=ANA, **how))
    await refused(world, org)
    assert await passed_on(notify, org, incident) == 0
    await notify.submit(job(org, incident, user=ANA, **how))
    await world.forward(timedelta(minutes=5))
    await until(lambda: world.arrived("ana") == 2)


async def test_a_page_that_comes_later_than_the_answer_is_not_sent(world: World, notify: Notify) -> None:
    """It was made before, and was held up on its way."""
    org, incident = new_org(), uuid.uuid4()
    for user, path in ((ANA, "ana"), (BEN, "ben")):
        await world.method(org, user, webhook=path)
    assert await passed_on(notify, org, incident) == 0
    await notify.submit(job(org, incident, user=ANA), job(org, incident, user=BEN))
    await until(lambda: world.arrived("ben") == 1)
    assert await states_of(world, ANA) == ["cancelled"]
    [reason] = await world.admin.fetch("SELECT state_reason FROM notifications WHERE user_id = $1", ANA)
    assert reason["state_reason"] == "passed on by users/ana"


async def test_an_older_answer_that_comes_later_takes_nothing_back(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, ANA, webhook="ana")
    for generation in (3, 1):
        await notify.cancel(org, incident, generation, user=ANA)
    await notify.cancel(org, incident, 2, user=BEN)
    await notify.submit(job(org, incident, user=ANA, generation=3))
    assert await states_of(world, ANA) == ["cancelled"]


async def test_what_waits_in_a_bundle_is_stopped_for_who_answered_alone(world: World) -> None:
    org = new_org()
    for user, path in ((ANA, "ana"), (BEN, "ben")):
        await world.method(org, user, webhook=path)
    async with world.replica(**TWO) as notify:
        for user in (ANA, BEN):
            await storm(notify, org, WARNING, WARNING, user=user)
        await until(lambda: world.arrived("ana") == world.arrived("ben") == 2)
        incident, other = uuid.uuid4(), uuid.uuid4()
        await notify.submit(
            *(job(org, each, user=user, severity=WARNING) for each in (incident, other) for user in (ANA, BEN))
        )
        assert await passed_on(notify, org, incident) == 1
        await world.forward(COLLECTED)
        await until(lambda: world.arrived("ana") == world.arrived("ben") == 3)
        [hers], [his] = (bundles(world, path) for path in ("ana", "ben"))
        assert hers.subject.startswith("[warning] 1 more page:")
        assert his.subject.startswith("[warning] 2 more pages:")


async def test_what_another_session_holds_keeps_no_acknowledge_waiting(world: World, notify: Notify) -> None:
    """One call carries the answers of many tenants: a row of one must not hold up those of the others."""
    org, incident = await waits(world, notify)
    other, theirs = await waits(world, notify)
    async with world.admin.transaction():
        await world.admin.fetch("SELECT FROM notifications WHERE org_id = $1 FOR UPDATE", org)
        answer = await notify.cancel_all(
            cancellation(org, incident, user=ANA), cancellation(other, theirs, reason="acknowledged by users/ana")
        )
        assert answer.cancelled == 1
    await world.forward(timedelta(minutes=5))
    await until(lambda: cancelled(world, org))
    assert world.arrived("ana") == 0


async def test_a_notify_that_does_not_know_whose_pages_are_meant_stops_none(world: World, notify: Notify) -> None:
    org, incident = await waits(world, notify)
    # What is left of it for the version before.
    assert (await notify.cancel(org, incident, generation=-1)).cancelled == 0
    await world.forward(timedelta(minutes=5))
    await until(lambda: world.arrived("ana") == 1)


async def test_an_answer_in_another_tenant_stops_nothing_here(world: World, notify: Notify) -> None:
    _, incident = await waits(world, notify)
    assert await passed_on(notify, new_org(), incident) == 0

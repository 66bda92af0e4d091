"""Notify's database was restored, or a standby took over: it has forgotten what stopped its pages. Escalation has not.

A notify that has never heard of a stop has forgotten it as well, so nothing is restored here.
"""

import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest
from tocsin.escalation.v1.internal_service_pb2 import IncidentStop
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_stack.postgres import Postgres

from tests.store.notify.bundling import COLLECTED, TWO, bundles, nothing_collects, storm
from tests.store.notify.support import WARNING, Notify, World, job, new_org, refused, until

REASON = "acknowledged by users/ana"
LATER = timedelta(minutes=10)
Way = Callable[[World, Notify, str, pb.NotificationJob], Awaitable[None]]


def stop(world: World, *jobs: pb.NotificationJob, generation: int = 1, final: bool = False) -> None:
    for each in jobs:
        world.escalation.stops[each.incident] = IncidentStop(generation=generation, reason=REASON, final=final)


async def end_sessions(postgres: Postgres, world: World) -> None:
    administrator = await asyncpg.connect(postgres.url(world.database_url.rpartition("/")[2]))  # of both logins
    await administrator.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> ALL ($1::int[])""",
        [administrator.get_server_pid(), world.admin.get_server_pid()],
    )
    await administrator.close()


async def planned(world: World, page: pb.NotificationJob, ago: timedelta) -> None:
    page.planned_time.FromDatetime((await world.row("SELECT app_now() AS now"))["now"] - ago)


async def waits(world: World, org: str, state: str) -> None:
    async def there() -> bool:
        return await world.states("org_id = $1", org) == [state]

    await until(there)


async def a_later_step(world: World, notify: Notify, org: str, page: pb.NotificationJob) -> None:
    method = await world.method(org, webhook="ana")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, method, 300))
    await notify.submit(page)


async def another_attempt(world: World, notify: Notify, org: str, page: pb.NotificationJob) -> None:
    await world.method(org, webhook="ana")
    world.hooks.answers["ana"] = [(503, {"Retry-After": "30"})]
    await notify.submit(page)
    await refused(world, org)


async def what_a_process_left(world: World, notify: Notify, org: str, page: pb.NotificationJob) -> None:
    """As it is in a backup that was taken while the call was under way."""
    await a_later_step(world, notify, org, page)
    await world.admin.execute(
        "UPDATE notifications SET state = 'sending', due_time = NULL, lease_until = app_now() + interval '300 s', attempts = 1,"
        " tries = 1 WHERE org_id = $1",
        org,
    )


@pytest.mark.parametrize("way", [a_later_step, another_attempt, what_a_process_left])
@pytest.mark.parametrize("wanted", [False, True])
async def test_what_has_waited_goes_if_it_is_still_wanted(world: World, notify: Notify, way: Way, wanted: bool) -> None:
    org, incident = new_org(), uuid.uuid4()
    page = job(org, incident)
    await way(world, notify, org, page)
    if not wanted:
        stop(world, page)
    await world.forward(LATER)
    await waits(world, org, "sent" if wanted else "cancelled")
    assert world.arrived("ana") == wanted
    if not wanted:
        assert (await world.row("SELECT state_reason FROM notifications WHERE org_id = $1", org))[0] == REASON


@pytest.mark.parametrize("took_over", [True, False])
async def test_what_is_young_is_asked_about_once_a_standby_has_taken_over(
    world: World, notify: Notify, postgres: Postgres, took_over: bool
) -> None:
    """It lacks the last seconds: the page had been stored by then, and had not been stopped. All sessions end with a failover.

    The step's delay is shorter than the server of the tests has run, or the page would be as old as all sessions.
    """
    org = new_org()
    page = job(org)
    method = await world.method(org, webhook="ana")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, method, 1))
    await notify.submit(page)
    stop(world, page)
    if took_over:
        await end_sessions(postgres, world)
    await world.forward(timedelta(seconds=1))
    await waits(world, org, "cancelled" if took_over else "sent")
    assert world.arrived("ana") == (not took_over)


@pytest.mark.parametrize("wanted", [False, True])
async def test_a_page_that_arrives_late_goes_if_it_is_still_wanted(world: World, notify: Notify, wanted: bool) -> None:
    """All replicas stood still: the page waited for them, and its stop waits behind it."""
    org = new_org()
    await world.method(org, webhook="ana")
    page = job(org)
    await planned(world, page, timedelta(seconds=11))
    if not wanted:
        stop(world, page)
    await notify.submit(page)
    await waits(world, org, "sent" if wanted else "cancelled")
    assert world.arrived("ana") == wanted
    assert world.escalation.stop_questions == [[page.incident]]


async def test_another_replica_asks_about_a_page_that_arrived_late(world: World) -> None:
    org = new_org()
    page = job(org)
    await world.method(org, webhook="ana")
    await planned(world, page, timedelta(seconds=11))
    stop(world, page)
    async with world.replica(works=False) as serving:
        await serving.submit(page)
    async with world.replica():
        await waits(world, org, "cancelled")
    assert world.arrived("ana") == 0


async def test_a_page_that_arrives_in_time_is_not_asked_about(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    page = job(org)
    await planned(world, page, timedelta(seconds=5))
    await notify.submit(page)
    await waits(world, org, "sent")
    assert world.escalation.stop_questions == []


async def test_pages_of_later_generations_go(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    page = job(org, incident, generation=2)
    await a_later_step(world, notify, org, page)
    stop(world, page)
    await world.forward(LATER)
    await waits(world, org, "sent")


@pytest.mark.parametrize("final", [False, True])
async def test_what_comes_once_outlasts_all_but_the_end(world: World, notify: Notify, final: bool) -> None:
    org = new_org()
    page = job(org, type=pb.NOTIFICATION_TYPE_MESSAGE, text="Look.", outlasts_acknowledge=True)
    await another_attempt(world, notify, org, page)
    stop(world, page, final=final)
    await world.forward(LATER)
    await waits(world, org, "cancelled" if final else "sent")


async def test_pages_go_while_escalation_does_not_answer(world: World, notify: Notify) -> None:
    org = new_org()
    page = job(org)
    await a_later_step(world, notify, org, page)
    stop(world, page)
    world.escalation.tells_no_stops = True
    await world.forward(LATER)
    await waits(world, org, "sent")
    assert world.arrived("ana") == 1


async def test_it_is_asked_once_about_many_and_never_about_what_is_new(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    await notify.submit(*(job(org) for _ in range(30)))
    await until(lambda: world.arrived("ana") == 30)
    assert world.escalation.stop_questions == []
    world.hooks.answers["ana"] = [(503, {"Retry-After": "30"})] * 30
    await notify.submit(*(job(org) for _ in range(30)))
    await refused(world, org, 30)
    await world.forward(LATER)
    await until(lambda: world.arrived("ana") == 60)
    asked = [incident for question in world.escalation.stop_questions for incident in question]
    assert len(asked) == len(set(asked)) == 30


async def test_a_bundle_names_nothing_that_was_answered(world: World) -> None:
    """Collected, and then made; of one nothing is left, of the other one page."""
    org = new_org()
    await world.method(org, webhook="ana")
    await world.method(org, "users/ben", webhook="ben")
    async with world.replica(**TWO) as notify:
        over = await storm(notify, org, *[WARNING] * 4)
        partly = await storm(notify, org, *[WARNING] * 4, user="users/ben")
        await until(lambda: world.arrived("ana") == world.arrived("ben") == 2)
        stop(world, *over, partly[2])
        await world.forward(COLLECTED)
        await until(lambda: nothing_collects(world))
        await until(lambda: len(bundles(world, "ben")) == 1)
        told = json.loads(bundles(world, "ben")[0].body)["bundle"]
        assert len(told["text"].splitlines()) == 1
        assert world.arrived("ana") == 2

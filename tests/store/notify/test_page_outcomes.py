"""What escalation hears of pages: each change that a responder wants to know, once, and nothing of single attempts."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import notification_pb2 as pb

from tests.store.notify.support import Notify, World, job, new_org, until

UNREACHABLE = escalation_pb.PAGE_OUTCOME_KIND_UNREACHABLE
FAILED = escalation_pb.PAGE_OUTCOME_KIND_FAILED
DELAYED = escalation_pb.PAGE_OUTCOME_KIND_DELAYED
SENT = escalation_pb.PAGE_OUTCOME_KIND_SENT


def told(world: World, count: int) -> Callable[[], Awaitable[bool]]:
    """So many outcomes have come, and nothing more is on its way."""

    async def settled() -> bool:
        waiting = await world.admin.fetchval("SELECT count(*) FROM outbox WHERE dead_time IS NULL")
        return len(world.escalation.outcomes) >= count and waiting == 0

    return settled


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        ([], "no verified contact method"),
        ([{"verified": False}, {"verified": False}], "no verified contact method: none of 2 is verified"),
        ([{"disabled": True}], "no enabled contact method: every verified one is disabled"),
    ],
)
async def test_a_page_that_reaches_no_user_is_told_with_its_reason(
    world: World, notify: Notify, methods: list[dict[str, Any]], reason: str
) -> None:
    org, incident = new_org(), uuid.uuid4()
    for method in methods:
        await world.method(org, webhook="ana", **method)
    page = job(org, incident, level=2)
    await notify.submit(page)
    await until(told(world, 1))
    assert await notify.submit(page) == 0
    [outcome] = world.escalation.outcomes
    assert (outcome.kind, outcome.org_id, outcome.page, outcome.user) == (UNREACHABLE, org, page.page, "users/ana")
    assert (outcome.incident, outcome.level, outcome.reason) == (f"incidents/{incident}", 2, reason)


async def test_what_a_provider_took_is_told_with_channel_and_attempts(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503])
    await notify.submit(job(org))
    await until(told(world, 1))
    [outcome] = world.escalation.outcomes
    assert (outcome.kind, outcome.channel, outcome.attempts) == (SENT, pb.CHANNEL_WEBHOOK, 2)


async def test_a_page_has_failed_when_its_last_method_has(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="one")
    await world.method(org, webhook="two")
    world.hooks.will_answer("one", [410])
    world.hooks.will_answer("two", [410])
    await notify.submit(job(org))
    await until(told(world, 1))
    [outcome] = world.escalation.outcomes
    assert outcome.kind == FAILED
    assert "webhook failed for good" in outcome.reason
    assert "410" in outcome.reason


async def test_a_page_whose_one_method_failed_and_other_worked_has_not_failed(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="one")
    await world.method(org, email="ana@example.com")
    world.hooks.will_answer("one", [410])
    await notify.submit(job(org))
    await until(told(world, 1))
    assert [(each.kind, each.channel) for each in world.escalation.outcomes] == [(SENT, pb.CHANNEL_EMAIL)]


async def test_a_page_that_is_tried_on_says_so_once(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(attempts=2) as notify:
        world.hooks.will_answer("ana", [503] * 50)
        await notify.submit(job(org))
        await until(told(world, 1))
        [outcome] = world.escalation.outcomes
        assert outcome.kind == DELAYED
        assert "tried on until" in outcome.reason


async def test_news_are_of_no_interest(world: World, notify: Notify) -> None:
    org = new_org()
    await notify.submit(job(org, type=pb.NOTIFICATION_TYPE_RESOLUTION))
    await notify.submit(job(org, user="users/ben"))
    await until(told(world, 1))
    assert [each.user for each in world.escalation.outcomes] == ["users/ben"]


async def test_an_outcome_that_escalation_could_not_take_is_told_later(world: World, notify: Notify) -> None:
    await world.escalation.stop()
    await notify.submit(job(new_org()))
    waiting = "SELECT count(*) FROM outbox WHERE kind = 'page_not_reached'"
    assert await world.admin.fetchval(waiting) == 1
    port = world.escalation.port
    await world.escalation.start(port)
    await until(told(world, 1))

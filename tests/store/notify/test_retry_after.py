"""A provider that asks for minutes: the page takes another way at once, if its user has one."""

from uuid import UUID

import pytest
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import notification_pb2 as pb

from tests.store.notify.support import WARNING, Notify, World, job, new_org, refused, until

DELAYED, SENT = escalation_pb.PAGE_OUTCOME_KIND_DELAYED, escalation_pb.PAGE_OUTCOME_KIND_SENT
LONG = (503, {"Retry-After": "900"})


async def only_first(notify: Notify, org: str, first: UUID) -> None:
    """The rules name one method; without rules every method is called at once."""
    user = "users/ana"
    await notify.set_rules(org, user, (pb.URGENCY_HIGH, first, 0), (pb.URGENCY_LOW, first, 0))


async def outcome(world: World, *states: str) -> None:
    async def reached() -> bool:
        return await world.states() == list(states)

    await until(reached)


@pytest.mark.parametrize("severity", [1, WARNING])
async def test_a_page_fails_over_at_the_first_such_answer(world: World, notify: Notify, severity: int) -> None:
    org = new_org()
    await only_first(notify, org, await world.method(org, webhook="first"))
    second = await world.method(org, webhook="second")
    world.hooks.will_answer("first", [LONG] * 9)
    await notify.submit(job(org, severity=severity))
    await outcome(world, "dead", "sent")
    assert len(world.hooks.refused) == 1
    assert world.arrived("second") == 1
    letter = await world.row("SELECT detail FROM dead_letters")
    assert "its provider asks to wait 15 min: 503 Service Unavailable" in letter["detail"]
    assert f"the page went to contactMethods/{second}" in letter["detail"]


async def test_a_later_step_of_the_rules_is_due_now(world: World, notify: Notify) -> None:
    org = new_org()
    first, second = await world.method(org, webhook="first"), await world.method(org, webhook="second")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, first, 0), (pb.URGENCY_HIGH, second, 1200))
    world.hooks.will_answer("first", [LONG] * 9)
    await notify.submit(job(org))
    await outcome(world, "dead", "sent")
    assert world.arrived("second") == 1


async def test_without_another_method_it_waits_as_it_was_asked(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="only")
    await world.method(org, webhook="unverified", verified=False)
    world.hooks.will_answer("only", [LONG])
    await notify.submit(job(org))
    await refused(world, org)
    row = await world.row("SELECT due_time - app_now() AS wait, priority, tries FROM notifications")
    assert 800 < row["wait"].total_seconds() <= 900
    assert (row["priority"], row["tries"]) == (0, 1), "it is no page that nobody takes"
    assert await world.admin.fetchval("SELECT count(*) FROM dead_letters") == 0
    await until(lambda: bool(world.escalation.outcomes))
    [told] = world.escalation.outcomes
    assert (told.kind, told.channel) == (DELAYED, pb.CHANNEL_WEBHOOK), "a responder reads what the page waits for"
    assert told.reason == "its provider asks to wait 15 min: 503 Service Unavailable"


async def test_who_is_reached_in_another_way_does_not_wait(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="there")
    await world.method(org, webhook="away")
    world.hooks.will_answer("away", [LONG])
    await notify.submit(job(org))
    await outcome(world, "sent", "pending")
    await refused(world, org)
    await until(lambda: bool(world.escalation.outcomes))
    assert {each.kind for each in world.escalation.outcomes} == {SENT}


@pytest.mark.parametrize("type", [pb.NOTIFICATION_TYPE_RESOLUTION, pb.NOTIFICATION_TYPE_ACKNOWLEDGMENT])
async def test_news_waits(world: World, notify: Notify, type: int) -> None:
    org = new_org()
    await only_first(notify, org, await world.method(org, webhook="first"))
    await world.method(org, webhook="second")
    world.hooks.will_answer("first", [LONG])
    await notify.submit(job(org, type=type, actor="users/bob", level=0))
    await refused(world, org)
    assert world.arrived("second") == 0


async def test_a_short_wait_is_no_reason(world: World, notify: Notify) -> None:
    org = new_org()
    await only_first(notify, org, await world.method(org, webhook="first"))
    await world.method(org, webhook="second")
    world.hooks.will_answer("first", [(503, {"Retry-After": "1"})])
    await notify.submit(job(org))
    await outcome(world, "sent")
    assert (world.arrived("first"), world.arrived("second")) == (1, 0)


async def test_all_methods_ask_for_minutes(world: World, notify: Notify) -> None:
    """The last of them is waited for; no method is given up for one that is away as well."""
    org = new_org()
    methods = [await world.method(org, webhook=name) for name in ("first", "second")]
    await only_first(notify, org, methods[0])
    for name in ("first", "second"):
        world.hooks.will_answer(name, [LONG] * 9)
    await notify.submit(job(org))
    await until(lambda: len(world.hooks.refused) == 2)
    await outcome(world, "dead", "pending")
    assert [path for path, _ in world.hooks.refused] == ["first", "second"]

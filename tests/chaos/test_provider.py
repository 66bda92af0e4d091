"""The last step: providers that are down, slow, or answer at the very moment a user acknowledges."""

import uuid

import pytest
from tocsin.notify.v1 import notification_pb2, notification_service_pb2
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet, eventually

pytestmark = pytest.mark.chaos


KEYS = ("nobody reacts", "taken at once", "taken late", "over late")


async def test_a_provider_is_down_for_half_an_hour(fleet: Fleet, tenant: Tenant) -> None:
    """When it is back, a page comes once if its incident was not answered, and otherwise never; no operator has to act."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=24 * 60))
    fleet.hooks.will_answer(ana.addresses[0], [503] * 1000)
    live, soon, late, over = [await prom.triggers(key, dedup_key=key) for key in KEYS]
    await eventually(lambda: _refused(fleet, ana.addresses[0], len(KEYS)), "the provider refuses")
    await ana.acknowledges(soon)
    for _ in range(5):  # the quick attempts, with jitter: each waits for the one before
        await tenant.passes(minutes=1)
    await tenant.passes(minutes=5)
    await ana.acknowledges(late)
    await prom.resolves("over late")
    for _ in range(4):  # the news that it is over has quick attempts as well
        await tenant.passes(minutes=5)
    assert [letter.incident for letter in await _dead(tenant)] == [over], "that it is over is old news by now"
    [page] = await _pages(tenant, live, ana.name)
    assert page.state == notification_pb2.NOTIFICATION_STATE_PENDING
    assert "no other contact method is left, so it is tried on" in page.state_reason

    del fleet.hooks.answers[ana.addresses[0]]
    await tenant.passes(minutes=3)  # a tenth of its absence
    await ana.is_paged(live)
    await tenant.passes(minutes=30)


@pytest.mark.long
async def test_a_policy_that_repeats_meanwhile_rings_once_when_the_provider_is_back(
    fleet: Fleet, tenant: Tenant
) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=8, repeat_count=2))
    fleet.hooks.will_answer(ana.addresses[0], [503] * 1000)
    incident = await prom.triggers("db down")
    for minutes in (1, 1, 1, 1, 1, 3) * 2:  # five quick attempts of each page, and then the next one
        await tenant.passes(minutes=minutes)
    del fleet.hooks.answers[ana.addresses[0]]
    await tenant.passes(minutes=2)
    await ana.is_paged(incident)
    await ana.acknowledges(incident)
    await tenant.passes(minutes=30)


async def test_pages_refused_for_good_are_redriven(fleet: Fleet, tenant: Tenant) -> None:
    """They end among the dead letters. Redriven, they come once if their incidents were not answered, and otherwise never."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=24 * 60))
    fleet.hooks.will_answer(ana.addresses[0], [410] * 1000)
    live, soon, late, over = [await prom.triggers(key, dedup_key=key) for key in KEYS]
    await eventually(lambda: _refused(fleet, ana.addresses[0], len(KEYS)), "the provider refuses")
    await ana.acknowledges(soon)
    await fleet.idle()
    assert {letter.incident for letter in await _dead(tenant)} >= {live, late, over}
    await ana.acknowledges(late)
    await prom.resolves("over late")
    await tenant.passes(minutes=30)

    del fleet.hooks.answers[ana.addresses[0]]
    names = [letter.name for letter in await _dead(tenant)]
    await tenant.admin.notifications.RedriveDeadLetters(
        notification_service_pb2.RedriveDeadLettersRequest(names=names, request_id=str(uuid.uuid4()))
    )
    await ana.is_paged(live)
    await ana.is_told(over, "resolution")
    await tenant.passes(minutes=30)


async def test_an_acknowledge_crosses_with_a_page_that_is_leaving(fleet: Fleet, tenant: Tenant) -> None:
    """The provider has it already: it arrives, and the notification says why."""
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana, ben], minutes=60))
    provider = fleet.holds_back(ben.addresses[0])
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    await provider.reached()
    await ana.acknowledges(incident)
    provider.answers()
    await ben.is_paged(incident)
    await ben.is_told(incident, "acknowledgment")
    await fleet.idle()
    [page] = await _pages(tenant, incident, ben.name)
    assert page.state == notification_pb2.NOTIFICATION_STATE_SENT
    assert page.state_reason == "crossed with: acknowledged by users/ana"


async def test_a_page_that_fails_while_a_user_acknowledges_is_not_tried_again(fleet: Fleet, tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana, ben], minutes=60))
    provider = fleet.holds_back(ben.addresses[0])
    fleet.hooks.will_answer(ben.addresses[0], [503])
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    await provider.reached()
    await ana.acknowledges(incident)
    provider.answers()
    await ben.is_told(incident, "acknowledgment")
    await tenant.passes(minutes=30)
    [page] = await _pages(tenant, incident, ben.name)
    assert page.state == notification_pb2.NOTIFICATION_STATE_CANCELLED


async def _refused(fleet: Fleet, address: str, times: int) -> bool:
    return sum(path == address for path, _ in fleet.hooks.refused) >= times


async def _dead(tenant: Tenant) -> list[notification_pb2.DeadLetter]:
    request = notification_service_pb2.ListDeadLettersRequest()
    return list((await tenant.admin.notifications.ListDeadLetters(request)).dead_letters)


async def _pages(tenant: Tenant, incident: str, user: str) -> list[notification_pb2.Notification]:
    request = notification_service_pb2.ListNotificationsRequest(incident=incident, user=user)
    found = (await tenant.admin.notifications.ListNotifications(request)).notifications
    return [each for each in found if each.type == notification_pb2.NOTIFICATION_TYPE_NEW_INCIDENT]

"""What outlasts an acknowledge, as a reminder that comes once does: only the end of its incident stops it."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from tocsin.notify.v1 import internal_service_pb2 as internal_pb
from tocsin.notify.v1 import notification_pb2 as pb

from tests.store.notify.support import Notify, World, internal, job, new_org, refused, until


def reminder(org: str, incident: uuid.UUID, *, generation: int = 1, lasting: bool = True) -> pb.NotificationJob:
    """One for Ana; without `lasting`, one that comes again and again."""
    type_ = pb.NOTIFICATION_TYPE_MESSAGE
    return job(org, incident, type=type_, generation=generation, text="Look.", outlasts_acknowledge=lasting)


async def state_is(world: World, wanted: str) -> None:
    async def there() -> bool:
        return await world.states() == [wanted]

    await until(there)


@pytest.mark.parametrize(
    ("lasting", "spares", "ends"),
    [(True, True, "sent"), (True, False, "cancelled"), (False, True, "cancelled"), (False, False, "cancelled")],
)
async def test_what_waits_for_another_attempt_meets_a_cancel(
    world: World, notify: Notify, lasting: bool, spares: bool, ends: str
) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    world.hooks.answers["ana"] = [(503, {"Retry-After": "30"})]
    await notify.submit(reminder(org, incident, lasting=lasting))
    await refused(world, org)
    answer = await notify.cancel(org, incident, spares_lasting=spares)
    assert answer.cancelled == (ends == "cancelled")
    await world.forward(timedelta(minutes=5))
    await state_is(world, ends)
    await notify.cancel(org, incident, generation=9)
    assert await world.states() == [ends]
    assert world.arrived("ana") == (ends == "sent")


async def test_a_failed_attempt_that_crossed_an_acknowledge_is_followed_by_another(
    world: World, notify: Notify
) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    world.hooks.hang["ana"] = asyncio.Event()
    await notify.submit(reminder(org, incident))
    await until(lambda: world.hooks.held["ana"])
    assert (await notify.cancel(org, incident, spares_lasting=True)).crossed == 0
    world.hooks.will_answer("ana", [503, 200])
    world.hooks.hang["ana"].set()
    await state_is(world, "sent")
    assert (await world.row("SELECT attempts FROM notifications"))["attempts"] == 2


async def test_it_arrives_after_an_acknowledge_and_before_or_after_a_resolve(world: World, notify: Notify) -> None:
    org, incident, over = new_org(), uuid.uuid4(), uuid.uuid4()
    await world.method(org, webhook="ana")
    await notify.cancel(org, incident, generation=3, spares_lasting=True)
    await notify.submit(reminder(org, incident))
    await state_is(world, "sent")
    await notify.cancel(org, over, generation=3, reason="resolved by users/ben")
    await notify.cancel(org, over, generation=5, spares_lasting=True)
    await notify.submit(reminder(org, over, generation=2), reminder(org, over, generation=4))
    rows = await world.admin.fetch(
        "SELECT p.generation, n.state FROM notifications n JOIN pages p ON p.id = n.page_id WHERE n.incident = $1", over
    )
    states = {row["generation"]: row["state"] for row in rows}
    assert states[2] == "cancelled", "the later acknowledge does not open what the resolve had stopped"
    assert states[4] in ("pending", "sending", "sent")


async def test_a_fence_of_an_older_version_stops_all(world: World, notify: Notify) -> None:
    """It knows nothing of what outlasts: its row says NULL."""
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    await world.admin.execute(
        "INSERT INTO cancel_fences (org_id, incident, generation, reason) VALUES ($1, $2, 3, 'resolved')", org, incident
    )
    await notify.submit(reminder(org, incident))
    assert await world.states() == ["cancelled"]


@pytest.mark.parametrize("first", [0, 1])
async def test_of_two_stops_in_one_call_the_final_one_counts(world: World, notify: Notify, first: int) -> None:
    """An acknowledge and the end before it may come together, in any order."""
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    both = [
        internal_pb.Cancellation(
            org_id=org, incident=f"incidents/{incident}", generation=generation, reason="over", spares_lasting=spares
        )
        for generation, spares in ((3, False), (5, True))
    ]
    request = internal_pb.CancelNotificationsRequest(cancellations=[both[first], both[1 - first]])
    await notify.internal.CancelNotifications(request, metadata=internal())
    await notify.submit(reminder(org, incident, generation=3), reminder(org, incident, generation=4))
    rows = await world.admin.fetch("SELECT generation, state FROM notifications ORDER BY generation")
    states = {row["generation"]: row["state"] for row in rows}
    assert states[3] == "cancelled"
    assert states[4] in ("pending", "sending", "sent")

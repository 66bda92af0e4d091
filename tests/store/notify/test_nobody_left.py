"""A level does not wait for a step that cannot be sent: escalation is told at once when a page can reach no one any more."""

import asyncio
import uuid

from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.queue.v1.queue_service_pb2 import RemoveTaskRequest
from tocsin_testkit.twilio import TwilioServer

from tests.store.notify.phones import PUBLIC, running
from tests.store.notify.support import Notify, World, bearer, job, new_org, operator, until

FAILED = escalation_pb.PAGE_OUTCOME_KIND_FAILED
SENT = escalation_pb.PAGE_OUTCOME_KIND_SENT
REASONS = {
    "deleted": "its contact method was deleted",
    "disabled": "its contact method is disabled",
    "led elsewhere": "its contact method is not verified any more",
    "STOP": "the phone has said STOP",
    "removed": "removed from the queue by operators/root",
}
ENDS = {"deleted": "dead", "removed": "cancelled"}
"""What the only step becomes; else it stays, and goes out if it can by its time."""
LAYOUTS = (
    "only step",
    "last step",
    "last step of two gone",
    "one that went out",
    "another left",
    "another left after all",
)


class Case:
    """A page of one user, whose steps wait or hang, and a number that can be lost in each way."""

    def __init__(self, world: World, notify: Notify, twilio: TwilioServer, number: str) -> None:
        self.world, self.notify, self.twilio, self.number = world, notify, twilio, number
        self.org = new_org()
        self.hook = f"hook-{number}"

    async def lose(self, method: uuid.UUID, reason: str) -> None:
        name, contacts = f"contactMethods/{method}", self.notify.contacts
        if reason == "STOP":
            assert (await self.twilio.receives(self.number, "STOP", PUBLIC + "/v1/twilio/reply"))[0] == 200
        elif reason == "removed":
            [row] = await self.world.admin.fetch(
                "SELECT id FROM notifications WHERE contact_method = $1 AND state = 'pending'", method
            )
            task = f"queues/notify/tasks/notifications.{row['id']}"
            await self.notify.queues.RemoveTask(RemoveTaskRequest(name=task, force=True), metadata=operator())
        elif reason == "deleted":
            await contacts.DeleteContactMethod(
                contact_pb.DeleteContactMethodRequest(name=name), metadata=bearer(self.org)
            )
        else:
            field = "disabled" if reason == "disabled" else "sms"
            changed = contact_pb.ContactMethod(
                name=name, disabled=True, sms=contact_pb.SmsContact(number=f"{self.number}9")
            )
            request = contact_pb.UpdateContactMethodRequest(contact_method=changed)
            request.update_mask.paths.append(field)
            await contacts.UpdateContactMethod(request, metadata=bearer(self.org))

    def told(self) -> list[tuple[int, str]]:
        return [(each.kind, each.reason) for each in self.world.escalation.outcomes if each.org_id == self.org]

    async def page(self, *rules: tuple[int, uuid.UUID, float]) -> None:
        await self.notify.set_rules(self.org, "users/ana", *rules)
        await self.notify.submit(job(self.org))


async def test_a_step_that_ends_without_a_try_is_no_reason_to_wait(world: World, twilio: TwilioServer) -> None:
    async with running(world, twilio, TWILIO_REPLIES=True, attempt_timeout_seconds=60.0, lease_seconds=90.0) as notify:
        for place, reason in enumerate(REASONS):
            cases = [Case(world, notify, twilio, f"+49151123456{number}{place}") for number in range(len(LAYOUTS))]
            for case, layout in zip(cases, LAYOUTS, strict=True):
                await lose_its_way(case, layout, reason)
            for case, layout in zip(cases, LAYOUTS, strict=True):
                await check(case, layout, reason)


async def lose_its_way(case: Case, layout: str, reason: str) -> None:
    """One cell of the matrix."""
    world, hooks = case.world, case.world.hooks
    sms = await world.method(case.org, sms=case.number)
    later = (pb.URGENCY_HIGH, sms, 300.0)
    if layout == "only step":
        await case.page(later)
        await case.lose(sms, reason)
    else:
        hook = await world.method(case.org, webhook=case.hook)
        hooks.hang[case.hook] = asyncio.Event()
        rules = [(pb.URGENCY_HIGH, hook, 0.0), later]
        if layout == "last step of two gone":
            other = await world.method(case.org, email=f"{case.hook}@example.com")
            rules.append((pb.URGENCY_HIGH, other, 600.0))
        if layout == "another left":
            other = await world.method(case.org, webhook=f"{case.hook}-other")
            rules.append((pb.URGENCY_HIGH, other, 600.0))
        await case.page(*rules)
        await until(lambda: hooks.held[case.hook])
        if layout == "another left after all":
            await world.method(case.org, webhook=f"{case.hook}-other")
        if layout == "last step of two gone":
            request = contact_pb.DeleteContactMethodRequest(name=f"contactMethods/{other}")
            await case.notify.contacts.DeleteContactMethod(request, metadata=bearer(case.org))
        await case.lose(sms, reason)
        assert case.told() == [], (layout, "the call is under way")
        hooks.will_answer(case.hook, [200 if layout == "one that went out" else 410])
        hooks.hang[case.hook].set()


async def check(case: Case, layout: str, reason: str) -> None:
    """What escalation was told first, and what became of the step."""
    await until(case.told)
    [(kind, why), *_] = case.told()
    if layout in ("one that went out", "another left", "another left after all"):
        assert kind == SENT, (layout, why)
    else:
        assert kind == FAILED, (layout, why)
        if layout == "only step":
            assert REASONS[reason] in why
            assert (await case.world.states("org_id = $1", case.org)) == [ENDS.get(reason, "pending")]
        else:
            assert "410" in why

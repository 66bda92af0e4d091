"""A page's way through the service: in, planned, sent, tried again, given up, failed over."""

import uuid
from datetime import timedelta

import pytest
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.app.delivery.deliver import Deliver
from tocsin_testkit.verify import signature_holds

from tests.store.notify.support import SECRET, WARNING, Notify, World, job, new_org, until


async def test_a_page_reaches_mail_and_webhook_at_once(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, email="ana@example.com")
    await world.method(org, webhook="ana")
    assert await notify.submit(job(org, incident)) == 1

    mail = await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail")
    hook = await world.inbox.wait_for(lambda m: m.address == "ana", "the webhook")
    assert mail.subject == "[critical] Disk full on db-1 (level 1)"
    assert hook.incident == mail.incident == f"incidents/{incident}"
    assert signature_holds(dict(hook.headers)["Tocsin-Signature"], hook.body, SECRET, key_id="k1")

    async def all_sent() -> bool:
        return await world.states() == ["sent", "sent"]

    await until(all_sent)
    attempt = await world.row(
        "SELECT * FROM attempts JOIN notifications n ON n.id = notification_id WHERE channel = 'email'"
    )
    assert attempt["outcome"] == "sent"
    assert attempt["provider_id"] == "taken"


async def test_the_same_job_twice_by_both_ways_is_one_notification(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    one = job(org)
    await _kick(notify, one)
    await world.inbox.wait_for(lambda m: m.address == "ana", "the page from the stream")
    assert await notify.submit(one, one) == 0
    assert await notify.submit(job(org), one) == 1
    await until(lambda: world.arrived("ana") == 2)
    assert len(await world.states()) == 2


async def test_failures_are_tried_five_times_then_dead_and_the_next_method_has_its_turn(
    world: World, notify: Notify
) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    mail = await world.method(org, email="ana@example.com")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 0))
    world.hooks.will_answer("ana", [503] * 5)
    await notify.submit(job(org))

    async def settled() -> bool:
        return await world.states() == ["dead", "sent"]

    await until(settled)
    assert len(world.hooks.refused) == 5
    attempts = await world.admin.fetch(
        """SELECT number, outcome FROM attempts a JOIN notifications n ON n.id = a.notification_id
           WHERE contact_method = $1 ORDER BY number""",
        hook,
    )
    assert [tuple(attempt) for attempt in attempts] == [(n, "retryable") for n in range(1, 6)]
    letter = await world.row("SELECT reason, detail FROM dead_letters")
    assert letter["reason"] == "ATTEMPTS_EXHAUSTED"
    assert f"the page went to contactMethods/{mail}" in letter["detail"]


async def test_a_permanent_failure_goes_to_the_next_method_at_once(world: World, notify: Notify) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    await world.method(org, email="ana@example.com")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 0))
    world.hooks.will_answer("ana", [410])
    await notify.submit(job(org))
    await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail that took over")

    async def settled() -> bool:
        return await world.states() == ["dead", "sent"]

    await until(settled)
    letter = await world.row("SELECT reason, detail FROM dead_letters")
    assert letter["reason"] == "PERMANENT_FAILURE"
    assert "410" in letter["detail"]
    assert "the page went to contactMethods/" in letter["detail"]


async def test_a_failure_pulls_a_later_step_forward(world: World, notify: Notify) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    mail = await world.method(org, email="ana@example.com")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 0), (pb.URGENCY_HIGH, mail, 3600))
    world.hooks.will_answer("ana", [404])
    await notify.submit(job(org))
    await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the step pulled forward")

    async def settled() -> bool:
        return sorted(await world.states()) == ["dead", "sent"]

    await until(settled)


async def test_a_delayed_step_comes_when_its_time_has_come_and_not_before(world: World, notify: Notify) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    mail = await world.method(org, email="ana@example.com")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 0), (pb.URGENCY_HIGH, mail, 600))
    await notify.submit(job(org))
    await world.inbox.wait_for(lambda m: m.address == "ana", "the first step")
    assert world.arrived("ana@example.com") == 0
    await world.forward(timedelta(seconds=500))
    late = await notify.submit(job(org, user="users/bob"))  # a full round through the service that moves nothing
    assert late == 1
    assert world.arrived("ana@example.com") == 0
    await world.forward(timedelta(seconds=601))
    await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the delayed step")


async def test_a_short_delay_comes_through_redis_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: Deliver) -> bool:
        return False

    monkeypatch.setattr(Deliver, "due", never)
    org = new_org()
    hook = await world.method(org, webhook="ana")
    async with world.replica() as notify:
        await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 1))
        await notify.submit(job(org))
        await world.inbox.wait_for(lambda m: m.address == "ana", "the delayed step")

        async def sent() -> bool:
            return await world.states() == ["sent"]

        await until(sent)
    waited = await world.admin.fetchval("SELECT send_time - create_time FROM notifications")
    assert waited >= timedelta(seconds=0.9)


async def test_a_user_without_methods_is_a_dead_letter_and_never_silence(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, email="ana@example.com", verified=False)
    await world.method(org, webhook="ana", disabled=True)
    await notify.submit(job(org))
    letter = await world.row("SELECT reason, user_id, org_id, job FROM dead_letters")
    assert (letter["reason"], letter["user_id"], letter["org_id"]) == ("NO_CONTACT_METHOD", "users/ana", org)
    assert pb.NotificationJob.FromString(letter["job"]).title == "Disk full on db-1"
    assert await world.states() == []


async def test_news_is_one_message_through_the_first_low_urgency_step(world: World, notify: Notify) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    mail = await world.method(org, email="ana@example.com")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_LOW, mail, 0), (pb.URGENCY_LOW, hook, 0))
    await notify.submit(job(org, type=pb.NOTIFICATION_TYPE_RESOLUTION, actor="users/bob", level=0))
    news = await world.inbox.wait_for(lambda m: m.kind == "resolution", "the news")
    assert news.address == "ana@example.com"
    assert len(await world.states()) == 1


@pytest.mark.parametrize(("severity", "address"), [(WARNING, "ana@example.com"), (0, "ana")])
async def test_severity_decides_the_urgency(world: World, notify: Notify, severity: int, address: str) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    mail = await world.method(org, email="ana@example.com")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 0), (pb.URGENCY_LOW, mail, 0))
    await notify.submit(job(org, severity=severity))
    await world.inbox.wait_for(lambda m: m.address == address, "the page")
    assert len(await world.states()) == 1


async def test_a_channel_override_uses_that_channel_only(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    await world.method(org, email="ana@example.com")
    await notify.submit(job(org, channel_override=pb.CHANNEL_EMAIL))
    await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail")
    await notify.submit(job(org, channel_override=pb.CHANNEL_CONSOLE))
    assert (await world.row("SELECT detail FROM dead_letters"))["detail"].endswith("of channel console")
    assert world.arrived("ana") == 0


async def _kick(notify: Notify, one: pb.NotificationJob) -> None:
    from taskiq.kicker import AsyncKicker
    from tocsin_timers import TimerBroker

    broker = TimerBroker(notify.runtime.settings.redis_url.get_secret_value(), queue="notify")
    kicker: AsyncKicker[..., None] = AsyncKicker("notify.submit", broker, {"priority": "critical"})
    await broker.kick_many([broker.encode(kicker, one, task_id=one.page)])
    await broker.shutdown()

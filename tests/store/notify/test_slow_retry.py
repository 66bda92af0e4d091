"""A page whose last method keeps failing is tried on, slowly, as long as it matters; and not a moment longer."""

import asyncio
import uuid
from datetime import timedelta

import pytest
import structlog
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1 import notification_service_pb2 as service_pb
from tocsin_kit.ids import new_id
from tocsin_notify.app.delivery.calls import Calls, Start
from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.webhook import WebhookChannel
from tocsin_notify.domain.attempt import Outcome

from tests.store.notify.support import WARNING, Notify, World, bearer, job, new_org, until

PACE = timedelta(seconds=61)
"""By then the first slow retry has been due."""
SLOWEST = timedelta(minutes=10)
"""By then any slow retry has been due once."""
HOURS = timedelta(hours=1)


async def tried(world: World, times: int, user: str = "users/ana") -> None:
    """Wait until the user's notifications have had so many attempts, and wait for another."""

    async def waits() -> bool:
        rows = await world.admin.fetch("SELECT state, attempts FROM notifications WHERE user_id = $1", user)
        return bool(rows) and all(tuple(row) == ("pending", times) for row in rows)

    await until(waits)


async def ends(world: World, *states: str) -> None:
    """Wait until the notifications are in these states."""

    async def reached() -> bool:
        return await world.states() == list(states)

    await until(reached)


async def a_round(world: World, notify: Notify, org: str) -> None:
    """Everything that is due has been looked at: a page that comes due after it has arrived."""
    user = f"users/{uuid.uuid4().hex}"
    hook = await world.method(org, user, webhook=user)
    await notify.set_rules(org, user, (pb.URGENCY_LOW, hook, 1))
    await notify.submit(job(org, user=user, severity=WARNING))
    await until(lambda: world.arrived(user) == 1)


async def test_it_arrives_when_the_provider_is_back_without_any_action(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 7)
    with structlog.testing.capture_logs() as lines:
        await notify.submit(job(org))
        await tried(world, 5)
        row = await world.row("SELECT state_reason, due_time - app_now() AS wait FROM notifications")
        assert timedelta(seconds=20) < row["wait"] <= timedelta(seconds=60)
        assert row["state_reason"].startswith(
            "503 Service Unavailable; no other contact method is left, so it is tried on until 20"
        )
        metrics = notify.runtime.metrics.registry
        await until(lambda: metrics.get_sample_value("tocsin_notify_slow_retries") == 1)
        await world.forward(PACE)
        await tried(world, 6)
        await world.forward(timedelta(minutes=30))
        await tried(world, 7)
        await world.forward(timedelta(minutes=33) + PACE)  # a tenth of its age
        await until(lambda: world.arrived("ana") == 1)
        await ends(world, "sent")
    said = [line for line in lines if line["event"] == "notification_tried_on"]
    assert [(line["log_level"], line["detail"]) for line in said] == [("error", "503 Service Unavailable")]
    events = [line["event"] for line in lines]
    assert events.count("attempt_failed") == 4, "after that it is no news any more"
    assert "notification_ended" not in events
    assert await world.admin.fetchval("SELECT count(*) FROM dead_letters") == 0
    assert (await world.row("SELECT state_reason FROM notifications"))["state_reason"] == ""


async def test_it_fails_over_first_and_tries_the_last_method_on(world: World, notify: Notify) -> None:
    org = new_org()
    hook = await world.method(org, webhook="first")
    last = await world.method(org, webhook="last")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 0))
    world.hooks.will_answer("first", [503] * 5)
    world.hooks.will_answer("last", [503] * 5)
    await notify.submit(job(org))
    await until(lambda: len(world.hooks.refused) == 10)
    await ends(world, "dead", "pending")
    letter = await world.row("SELECT reason, detail FROM dead_letters")
    assert letter["reason"] == "ATTEMPTS_EXHAUSTED"
    assert letter["detail"].endswith(f"; the page went to contactMethods/{last}")
    await world.forward(PACE)
    await until(lambda: world.arrived("last") == 1)
    await ends(world, "dead", "sent")
    assert world.arrived("first") == 0


async def test_of_two_methods_that_both_fail_none_is_given_up_for_the_other(world: World, notify: Notify) -> None:
    org = new_org()
    for path in ("hook", "other"):
        await world.method(org, webhook=path)
        world.hooks.will_answer(path, [503] * 100)
    await notify.submit(job(org))
    await tried(world, 5)
    assert await world.states() == ["pending", "pending"]
    del world.hooks.answers["other"]
    await world.forward(PACE)
    await until(lambda: world.arrived("other") == 1)

    async def settled() -> bool:
        return sorted(await world.states()) == ["pending", "sent"]

    await until(settled)  # a mail is no phone call: the other one is tried on


async def test_a_method_that_is_added_meanwhile_takes_the_page_over(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 100)
    await notify.submit(job(org))
    await tried(world, 5)
    await world.method(org, email="ana@example.com")
    await world.forward(PACE)
    await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail that took over")
    await ends(world, "dead", "sent")
    assert [row["priority"] for row in await world.admin.fetch("SELECT priority FROM notifications ORDER BY id")] == [
        2,
        0,
    ]


async def test_too_old_it_ends_with_a_dead_letter_and_redriving_begins_anew(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 7)
    await notify.submit(job(org))
    await tried(world, 5)
    await world.forward(6 * HOURS - PACE)
    await tried(world, 6)
    await world.forward(6 * HOURS + SLOWEST)
    await ends(world, "dead")
    letter = await world.row("SELECT id, reason, detail FROM dead_letters")
    assert letter["reason"] == "ATTEMPTS_EXHAUSTED"
    assert "no other contact method is left, and it was tried for 6:10:" in letter["detail"]
    world.hooks.will_answer("ana", [503] * 5)
    request = service_pb.RedriveDeadLettersRequest(names=[f"deadLetters/{letter['id']}"])
    await notify.notifications.RedriveDeadLetters(request, metadata=bearer(org))
    await tried(world, 12)
    await world.forward(6 * HOURS + SLOWEST + PACE)
    await until(lambda: world.arrived("ana") == 1)
    assert world.inbox.messages[0].key.endswith("-2")


async def test_redriven_it_is_as_urgent_as_at_first(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 5)
    async with world.replica() as notify:
        await notify.submit(job(org))
        await tried(world, 5)
    await world.admin.execute("UPDATE notifications SET due_time = NULL, state = 'dead'")
    async with world.replica(works=False) as door:
        await world.admin.execute(
            """INSERT INTO dead_letters (id, org_id, notification_id, user_id, reason, detail)
               SELECT id, org_id, id, user_id, 'ATTEMPTS_EXHAUSTED', '' FROM notifications"""
        )
        letters = [f"deadLetters/{row['id']}" for row in await world.admin.fetch("SELECT id FROM dead_letters")]
        request = service_pb.RedriveDeadLettersRequest(names=letters)
        await door.notifications.RedriveDeadLetters(request, metadata=bearer(org))
    assert tuple(await world.row("SELECT state, priority FROM notifications")) == ("pending", 0)


async def test_the_provider_says_how_long_to_wait(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 4 + [(503, {"Retry-After": "600"})])
    await notify.submit(job(org))
    await tried(world, 5)
    wait = (await world.row("SELECT due_time - app_now() AS wait FROM notifications"))["wait"]
    assert timedelta(seconds=570) < wait <= timedelta(seconds=600)


@pytest.mark.parametrize("type", [pb.NOTIFICATION_TYPE_RESOLUTION, pb.NOTIFICATION_TYPE_ACKNOWLEDGMENT])
async def test_news_keeps_to_its_attempts(world: World, notify: Notify, type: int) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 5)
    await notify.submit(job(org, type=type, actor="users/bob", level=0))
    await ends(world, "dead")
    assert len(world.hooks.refused) == 5


@pytest.mark.parametrize("named", [True, False])
async def test_a_test_page_keeps_to_its_attempts(world: World, notify: Notify, named: bool) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 5)
    request = contact_pb.SendTestPageRequest(
        user="users/ana", contact_method=f"contactMethods/{hook}" if named else "", urgency=pb.URGENCY_HIGH
    )
    await notify.contacts.SendTestPage(request, metadata=bearer(org))
    await ends(world, "dead")
    assert len(world.hooks.refused) == 5


async def test_without_a_window_a_page_keeps_to_its_attempts(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 5)
    async with world.replica(retry_window_seconds=0.0) as notify:
        await notify.submit(job(org))
        await ends(world, "dead")
    assert len(world.hooks.refused) == 5


async def test_a_cancel_stops_what_waits_for_its_next_try(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 5)
    await notify.submit(job(org, incident))
    await tried(world, 5)
    answer = await notify.cancel(org, incident)
    assert (answer.cancelled, answer.crossed) == (1, 0)
    row = await world.row("SELECT state, state_reason FROM notifications")
    assert tuple(row) == ("cancelled", "acknowledged by users/ana")
    await world.forward(HOURS)
    await a_round(world, notify, org)
    assert world.arrived("ana") == 0
    assert len(world.hooks.refused) == 5


async def test_a_try_that_crosses_with_a_cancel_is_the_last(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 6)
    await notify.submit(job(org, incident))
    await tried(world, 5)
    world.hooks.hang["ana"] = asyncio.Event()
    await world.forward(PACE)
    await until(lambda: world.hooks.held["ana"])
    assert "tried on" in (await world.row("SELECT state_reason FROM notifications"))["state_reason"]
    answer = await notify.cancel(org, incident)
    assert (answer.cancelled, answer.crossed) == (0, 1)
    world.hooks.hang.pop("ana").set()
    await ends(world, "cancelled")
    await world.forward(HOURS)
    await a_round(world, notify, org)
    assert world.arrived("ana") == 0


async def test_a_cancel_waits_for_a_try_that_is_about_to_start_and_none_follows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate holds for the sixth try as for the first, and on another replica (I5)."""
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 100)
    reached, open_, events = asyncio.Event(), asyncio.Event(), list[str]()
    start, send = Calls.start, WebhookChannel.send

    async def held(self: Calls, starts: list[Start], since: float) -> None:
        if any(each.tries > 5 for each in starts):
            reached.set()
            await open_.wait()
        await start(self, starts, since)

    async def noted(self: WebhookChannel, delivery: Delivery, permit: Permit) -> Outcome:
        events.append("call")
        return await send(self, delivery, permit)

    monkeypatch.setattr(Calls, "start", held)
    monkeypatch.setattr(WebhookChannel, "send", noted)
    async with world.replica() as sender, world.replica(works=False) as other:
        await sender.submit(job(org, incident))
        await tried(world, 5)
        await world.forward(PACE)
        await reached.wait()
        cancelling = asyncio.create_task(other.cancel(org, incident))
        done, _ = await asyncio.wait([cancelling], timeout=0.3)
        assert not done, "the cancel returned while a call that nobody can stop had not started"
        open_.set()
        await cancelling
        events.append("cancelled")
        await ends(world, "cancelled")
        await world.forward(HOURS)
        await a_round(world, sender, org)
    assert events[:7] == ["call"] * 6 + ["cancelled"]
    assert len(world.hooks.refused) == 6


async def test_a_cancel_that_fits_between_two_statements_stops_it_when_it_is_due(world: World, notify: Notify) -> None:
    """The conclusion read the fences before there was one, and wrote its row after the cancel had looked."""
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 5)
    await notify.submit(job(org, incident))
    await tried(world, 5)
    row = await world.row("SELECT id, due_time, state_reason FROM notifications")
    await notify.cancel(org, incident)
    await world.admin.execute(
        "UPDATE notifications SET state = 'pending', due_time = $2, state_reason = $3 WHERE id = $1", *row
    )
    await world.forward(PACE)
    await ends(world, "cancelled")
    assert len(world.hooks.refused) == 5
    assert world.arrived("ana") == 0


async def test_a_later_page_of_the_incident_takes_the_place_of_one_that_is_tried_on(
    world: World, notify: Notify
) -> None:
    """A policy repeats while the provider is away: when it is back, one page tells of the incident, not one for each."""
    org, incident = new_org(), new_id()
    await world.method(org, webhook="ana")
    await world.method(org, "users/ben", webhook="ben")
    for path in ("ana", "ben"):
        world.hooks.will_answer(path, [503] * 100)
    for user in ("users/ana", "users/ben"):
        await notify.submit(job(org, incident, user=user))
        await tried(world, 5, user)
    again = job(org, incident, type=pb.NOTIFICATION_TYPE_ESCALATION, level=2)
    await notify.submit(again)
    await until(lambda: len(world.hooks.refused) == 15)
    await ends(world, "cancelled", "pending", "pending")
    rows = await world.admin.fetch("SELECT user_id, state, state_reason FROM notifications ORDER BY create_time, id")
    assert [(row["user_id"], row["state"]) for row in rows] == [
        ("users/ana", "cancelled"),
        ("users/ben", "pending"),
        ("users/ana", "pending"),
    ]
    assert rows[0]["state_reason"] == f"superseded by {again.page}"
    world.hooks.answers.clear()
    await world.forward(PACE)
    await until(lambda: (world.arrived("ana"), world.arrived("ben")) == (1, 1))
    await a_round(world, notify, org)
    assert world.arrived("ana") == 1


async def test_a_later_page_that_waits_for_its_delay_leaves_the_earlier_one_alone(world: World, notify: Notify) -> None:
    """When the provider is back, the person hears of the incident at once."""
    org, incident = new_org(), new_id()
    hook = await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 100)
    await notify.submit(job(org, incident))
    await tried(world, 5)
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 3600))
    await notify.submit(job(org, incident, type=pb.NOTIFICATION_TYPE_ESCALATION, level=2))
    world.hooks.answers.clear()
    await world.forward(PACE)
    await until(lambda: world.arrived("ana") == 1)
    await ends(world, "sent", "pending")


async def test_a_later_page_that_takes_another_way_leaves_the_earlier_one_alone(world: World, notify: Notify) -> None:
    org, incident = new_org(), new_id()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503] * 100)
    await notify.submit(job(org, incident))
    await tried(world, 5)
    mail = await world.method(org, email="ana@example.com")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, mail, 0))
    await notify.submit(job(org, incident, type=pb.NOTIFICATION_TYPE_ESCALATION, level=2))
    await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail")

    async def both() -> bool:
        return sorted(await world.states()) == ["pending", "sent"]

    await until(both)


async def test_the_first_page_that_a_provider_takes_again_wakes_those_that_wait_for_it(world: World) -> None:
    """Of other people as well, with any backoff."""
    org = new_org()
    await world.method(org, webhook="ana")
    await world.method(org, "users/ben", webhook="ben")
    world.hooks.will_answer("ana", [503])
    async with world.replica(backoff_base_seconds=3600.0, backoff_cap_seconds=3600.0) as notify:
        await notify.submit(job(org))

        async def waits() -> bool:
            return await world.states("org_id = $1 AND attempts = 1", org) == ["pending"]

        await until(waits)
        await notify.submit(job(org, user="users/ben"))
        await world.inbox.wait_for(lambda m: m.address == "ana", "the page that was refused before")

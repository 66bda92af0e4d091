"""A storm: pages above a person's budget come as one message, none is lost, and the one message is answered like any other."""

import asyncio
import json
import re
import uuid
from datetime import timedelta
from functools import partial
from typing import Any

import aiohttp
import pytest
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1 import notification_service_pb2 as service_pb
from tocsin.type.v1.severity_pb2 import SEVERITY_ERROR
from tocsin_notify.domain.bundling import BundlePolicy, Pace, place
from tocsin_notify.store.delivery.gate import incident_key
from tocsin_notify.store.pages import bundles as stored_bundles
from tocsin_notify.store.pages.bundles import Asked
from tocsin_testkit.ntfy import NtfyServer
from tocsin_testkit.twilio import TwilioServer

from tests.store.notify.bundling import (
    COLLECTED,
    DELAYED,
    FAILED,
    PUBLIC,
    SENT,
    TWO,
    bundles,
    delayed_bundle,
    incident_of,
    nothing_collects,
    outcomes,
    storm,
)
from tests.store.notify.phones import ANA, running, taken
from tests.store.notify.phones import PUBLIC as PHONES
from tests.store.notify.support import CRITICAL, WARNING, Notify, World, bearer, job, new_org, reads, until


async def test_a_bundle_is_written_in_the_language_of_its_user(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(**TWO) as notify:
        await reads(notify, org, "users/ana", "de")
        await storm(notify, org, WARNING, WARNING, WARNING, SEVERITY_ERROR)
        await world.forward(COLLECTED)
        await until(lambda: len(bundles(world)) == 1)
        told = json.loads(bundles(world)[0].body)["bundle"]
        assert re.fullmatch(r"2 weitere Alarme: 1 Fehler, 1 Warnung, der älteste seit \d\d:\d\d UTC", told["title"])
        assert re.search(r"\d\d:\d\d Fehler: Disk full on db-1", told["text"])


async def test_pages_above_the_budget_come_as_one_message_and_a_critical_one_at_once(world: World) -> None:
    org, other = new_org(), new_org()
    for tenant, user, path in [(org, "users/ana", "ana"), (org, "users/ben", "ben"), (other, "users/ana", "other")]:
        await world.method(tenant, user, webhook=path)
    async with world.replica(**TWO) as notify:
        jobs = await storm(notify, org, WARNING, WARNING, WARNING, SEVERITY_ERROR, WARNING, CRITICAL)
        await notify.submit(job(org, user="users/ben", severity=WARNING), job(other, severity=WARNING))
        await until(lambda: world.arrived("ana") == 3 and world.arrived("ben") == 1 and world.arrived("other") == 1)
        alone = {each.incident for each in world.inbox.messages if each.address == "ana"}
        assert alone == {jobs[0].incident, jobs[1].incident, jobs[5].incident}, "a critical page never waits"
        listed = await notify.notifications.ListNotifications(
            service_pb.ListNotificationsRequest(states=[pb.NOTIFICATION_STATE_BUNDLED]), metadata=bearer(org)
        )
        together = {each.page: each.state_reason for each in listed.notifications}
        assert set(together) == {each.page for each in jobs[2:5]}
        await world.forward(COLLECTED)
        await until(lambda: world.arrived("ana") == 4)
        [bundle] = bundles(world)
        assert re.fullmatch(
            r"\[error\] 3 more pages: 1 error, 2 warning, the oldest since \d\d:\d\d UTC", bundle.subject
        )
        await until(lambda: len(outcomes(world, SENT)) == 8)
        told = outcomes(world, SENT)
        assert {told[each.page] for each in jobs[2:5]} == {"in one message for 3 pages"}
        assert {told[each.page] for each in (*jobs[:2], jobs[5])} == {""}
        row = await world.row(
            "SELECT id, state, incident FROM notifications WHERE incident = page_id AND org_id = $1", org
        )
        assert row["state"] == "sent"
        assert set(together.values()) == {f"sent together with other pages, as pages/{row['incident']}"}
        page = await world.row("SELECT urgency, priority FROM pages WHERE type = 'bundle'")
        assert (page["urgency"], page["priority"]) == ("high", 0), "as its most urgent page"
        assert await notify.submit(*jobs) == 0, "handed over again, nothing is sent again"
        await world.forward(timedelta(seconds=400))
        await storm(notify, org, WARNING)
        await until(lambda: world.arrived("ana") == 5)
        assert len(bundles(world)) == 1, "the storm is over"


async def test_a_budget_with_room_is_taken_from_as_the_domain_says(world: World, notify: Notify) -> None:
    """One statement decides for calm times what `place` decides; both must say the same of every state of a person."""
    org, policy = new_org(), BundlePolicy(pages=3, window=300.0)
    async with notify.runtime.database.transaction(org) as tx:
        now = await tx.now()
    ago = [now - timedelta(seconds=seconds) for seconds in (400, 299, 10)]
    later = now + timedelta(seconds=100)
    states = [
        Pace(alone=(), bundles=2),
        Pace(alone=tuple(ago)),
        Pace(alone=tuple(ago[1:])),
        Pace(alone=tuple(ago), storm_until=now - timedelta(seconds=1), bundles=4),
        Pace(alone=tuple(ago[:1]), storm_until=later, bundles=1),
        Pace(alone=(), storm_until=later, bundle=uuid.uuid4(), bundle_due=later, bundles=1),
    ]
    users = {(org, f"users/u{number}"): pace for number, pace in enumerate(states)}
    for pages in (1, 2, 4):
        async with notify.runtime.database.transaction(org) as tx:
            await stored_bundles.paces(tx, users)
            await stored_bundles.keep(tx, users)
        async with notify.runtime.database.transaction(org) as tx:
            now = await tx.now()
            held = await stored_bundles.take(tx, dict.fromkeys(users, Asked(pages, policy.pages, policy.window)))
            kept = await stored_bundles.paces(tx, users)
        for user, pace in users.items():
            placed = [place(pace, now, policy, uuid.uuid4)]
            while len(placed) < pages:
                placed.append(place(placed[-1].pace, now, policy, uuid.uuid4))
            fits = all(each.bundle is None for each in placed)
            assert (user not in held) == fits, (pace, pages)
            assert kept[user] == (placed[-1].pace if fits else pace)


async def test_a_user_may_have_another_budget_than_all_others(world: World) -> None:
    org = new_org()
    for name in ("ana", "ben", "cem"):
        await world.method(org, f"users/{name}", webhook=name)

    async def choose(notify: Notify, user: str, pages: int) -> None:
        chosen = contact_pb.NotificationSettings(user=user, page_budget=contact_pb.PageBudget(pages=pages))
        request = contact_pb.UpdateNotificationSettingsRequest(notification_settings=chosen)
        await notify.contacts.UpdateNotificationSettings(request, metadata=bearer(org, subject=user))

    async with world.replica(**TWO) as notify:
        for user, pages in (("users/*", 3), ("users/ben", 1), ("users/cem", 0)):
            await choose(notify, user, pages)
        for name in ("ana", "ben", "cem"):
            await storm(notify, org, *[WARNING] * 5, user=f"users/{name}")
        await until(lambda: [world.arrived(name) for name in ("ana", "ben", "cem")] == [3, 1, 5])
        states = await world.admin.fetch("SELECT user_id FROM notifications WHERE state = 'bundled' ORDER BY user_id")
        assert [row["user_id"] for row in states] == ["users/ana"] * 2 + ["users/ben"] * 4


async def test_what_was_answered_meanwhile_is_in_no_message(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    await world.method(org, "users/ben", webhook="ben")
    async with world.replica(**TWO) as notify:
        stopped = uuid.uuid4()
        await notify.cancel(org, stopped)
        await notify.submit(job(org, stopped, severity=WARNING))  # uses nothing of the budget
        jobs = await storm(notify, org, WARNING, WARNING, WARNING, WARNING)
        await until(lambda: world.arrived("ana") == 2)
        bens = await storm(notify, org, WARNING, WARNING, WARNING, user="users/ben")
        for answered in (jobs[2], bens[2]):
            assert (await notify.cancel(org, incident_of(answered))).cancelled == 1
        states = await world.states("page_id = ANY($1::uuid[])", [jobs[2].page[6:], jobs[3].page[6:], bens[2].page[6:]])
        assert sorted(states) == ["bundled", "cancelled", "cancelled"]
        await world.forward(COLLECTED)
        await until(lambda: len(bundles(world)) == 1)
        assert bundles(world)[0].subject == "[warning] 1 more page: Disk full on db-1"
        await until(partial(nothing_collects, world))
        assert bundles(world, "ben") == []


async def test_the_steps_of_a_bundle_end_when_the_last_page_in_it_is_answered(world: World) -> None:
    org = new_org()
    first = await world.method(org, webhook="ana")
    second = await world.method(org, webhook="later")
    async with world.replica(**TWO) as notify:
        await notify.set_rules(org, "users/ana", (pb.URGENCY_LOW, first, 0), (pb.URGENCY_LOW, second, 300))
        jobs = await storm(notify, org, WARNING, WARNING, WARNING, WARNING)
        await world.forward(COLLECTED)
        await until(lambda: len(bundles(world)) == 1)
        later = "incident = page_id AND contact_method = $1"
        for answered, state in ((jobs[2], "pending"), (jobs[3], "cancelled")):
            await notify.cancel(org, incident_of(answered))
            assert await world.states(later, second) == [state]
        states = await world.states("page_id = ANY($1::uuid[])", [jobs[2].page[6:], jobs[3].page[6:]])
        assert set(states) == {"bundled"}, "what was sent stays so"


async def test_the_steps_and_attempts_of_a_bundle_name_no_incident_that_was_answered_meanwhile(world: World) -> None:
    """Two of four are answered; then ana is sent the others by a second attempt, and ben by a step minutes later."""
    org = new_org()
    await world.method(org, webhook="ana")
    first = await world.method(org, "users/ben", webhook="ben")
    second = await world.method(org, "users/ben", webhook="later")
    async with world.replica(**TWO) as notify:
        high, low = pb.URGENCY_HIGH, pb.URGENCY_LOW
        rules = [(urgency, method, wait) for urgency in (high, low) for method, wait in ((first, 0), (second, 300))]
        await notify.set_rules(org, "users/ben", *rules)
        answered: list[pb.NotificationJob] = []
        for user in ("users/ana", "users/ben"):
            jobs = await storm(notify, org, WARNING, WARNING, SEVERITY_ERROR, WARNING, WARNING, WARNING, user=user)
            answered += jobs[2:4]
        await until(lambda: world.arrived("ana") == world.arrived("ben") == 2)
        world.hooks.will_answer("ana", [(503, {"Retry-After": "100"})])
        await world.forward(COLLECTED)
        await until(lambda: world.hooks.refused and bundles(world, "ben"))
        for each in answered:
            await notify.cancel(org, incident_of(each))
        await world.forward(COLLECTED + timedelta(seconds=301))
        await until(lambda: bundles(world) and bundles(world, "later"))
        for message in (bundles(world)[0], bundles(world, "later")[0]):
            assert message.subject.startswith("[warning] 2 pages without an answer: 2 warning, the oldest since ")
            assert json.loads(message.body)["bundle"]["text"].count("\n") == 1


async def test_an_incident_that_was_paged_again_is_one_in_a_bundle(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(**TWO) as notify:
        await storm(notify, org, WARNING, WARNING)
        repeated, other = uuid.uuid4(), uuid.uuid4()
        pages = [job(org, each, severity=WARNING) for each in (repeated, other, repeated, repeated)]
        for each in pages:
            await notify.submit(each)
        await world.forward(COLLECTED)
        await until(lambda: len(bundles(world)) == 1)
        assert bundles(world)[0].subject.startswith("[warning] 2 more pages: 2 warning, ")
        assert json.loads(bundles(world)[0].body)["bundle"]["text"].count("\n") == 1
        await until(lambda: {each.page for each in pages} <= outcomes(world, SENT).keys())
        assert {outcomes(world, SENT)[each.page] for each in pages} == {"in one message for 2 pages"}


async def test_a_bundle_that_no_provider_takes_is_told_of_each_page_in_it(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(**TWO) as notify:
        jobs = await storm(notify, org, WARNING, WARNING)
        await until(lambda: world.arrived("ana") == 2)
        jobs += await storm(notify, org, WARNING, WARNING)
        world.hooks.will_answer("ana", [410] * 10)
        await world.forward(COLLECTED)
        await until(lambda: len(outcomes(world, FAILED)) == 2)
        told = outcomes(world, FAILED)
        assert set(told) == {each.page for each in jobs[2:]}
        assert all("in one message for 2 pages" in reason for reason in told.values())
        letter = await world.row("SELECT reason, page_id FROM dead_letters WHERE org_id = $1", org)
        assert letter["reason"] == "PERMANENT_FAILURE"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([(503, {"Retry-After": "900"})] * 10, "its provider asks to wait 15 min"),
        ([503] * 50, "no other contact method is left, so it is tried on until"),
    ],
)
async def test_a_bundle_that_waits_is_told_of_each_page_in_it(world: World, answers: list[Any], says: str) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(**TWO, attempts=2) as notify:
        jobs = await delayed_bundle(world, notify, org, answers)
        told = outcomes(world, DELAYED)
        assert set(told) == {each.page for each in jobs[2:]}
        for reason in told.values():
            assert reason.startswith("in one message for 2 pages: ")
            assert says in reason


async def test_a_bundle_is_answered_as_a_whole_or_one_by_one(world: World) -> None:
    org = new_org()
    await world.method(org, email="ana@example.com")
    world.escalation.responders.there = True
    async with world.replica(public_url=PUBLIC, **TWO) as notify, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{notify.runtime.http.port}"
        jobs = await storm(notify, org, WARNING, WARNING, WARNING, SEVERITY_ERROR, WARNING)
        await world.forward(COLLECTED)
        mail = await world.inbox.wait_for(lambda m: " more pages: " in m.subject, "the bundle")
        text = mail.body.decode().replace("=\r\n", "").replace("=3D", "=")
        link = next(word for word in text.split() if word.startswith(PUBLIC)).replace(PUBLIC, base)
        async with session.get(link) as page:
            assert page.status == 200
            shown = await page.text()
        single = re.findall(r'<a href="([^"]+)">Disk full on db-1</a>', shown)
        assert len(single) == 3
        assert "3 of 3 wait for an answer." in shown
        async with session.get(f"{base}/p/{single[0]}") as page:
            assert page.status == 200
            assert "Acknowledge: I am on it" in await page.text()
        await notify.cancel(org, incident_of(jobs[2]), reason="acknowledged by users/ben")
        async with session.post(link, data={"action": "resolve"}, allow_redirects=False) as answer:
            assert answer.status == 400
        async with session.post(link, data={"action": "acknowledge"}, allow_redirects=False) as answer:
            assert answer.status == 303
        answered = world.escalation.responders
        assert answered.acted == [("acknowledge", "users/ana", "link")] * 2
        assert {each.incident for each in answered.answers} == {each.incident for each in jobs[3:]}
        async with session.get(link) as page:
            shown = await page.text()
        assert "Acknowledged by ben." in shown
        assert "ana acknowledged it at" in shown
        assert "<form" not in shown


async def test_a_bundle_whose_pages_are_stopped_is_answered_when_that_is_confirmed_and_not_before(
    world: World, twilio: TwilioServer
) -> None:
    """The first press set the fences and was told to come again, for a call was about to start; the second said done."""
    org = new_org()
    await world.method(org, voice=ANA)
    async with running(world, twilio, **{**TWO, "storm_pages": 1}) as notify:
        jobs = await storm(notify, org, WARNING, WARNING, WARNING)
        await until(lambda: len(twilio.calls_to(ANA)) == 1)
        await world.forward(COLLECTED)
        await until(lambda: len(twilio.calls_to(ANA)) == 2)
        for each in jobs[1:]:
            await notify.cancel(org, incident_of(each))
        async with world.admin.transaction():
            await world.admin.execute(
                "SELECT pg_advisory_xact_lock_shared($1)", incident_key(org, incident_of(jobs[1]))
            )
            pressing = asyncio.create_task(twilio.presses(twilio.calls_to(ANA)[1], "1"))
            done, _ = await asyncio.wait([pressing], timeout=0.3)
            assert not done, "a call may be about to start"
        assert "You have acknowledged it" in (await pressing).says[0]


async def test_a_bundle_is_acknowledged_by_a_key_of_the_phone_and_by_a_button(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    await world.method(org, voice=ANA)
    async with NtfyServer(world.inbox) as ntfy, running(world, twilio, **TWO) as notify:
        await world.method(org, "users/ben", ntfy=f"{ntfy.url}/ben")
        ntfy.reach = twilio.reach
        jobs = await storm(notify, org, WARNING, WARNING, WARNING, SEVERITY_ERROR)
        bens = await storm(notify, org, WARNING, WARNING, WARNING, user="users/ben")
        await until(lambda: len(twilio.calls_to(ANA)) == 2 and len(ntfy.to("ben")) == 2)
        await world.forward(COLLECTED)
        await until(lambda: len(twilio.calls_to(ANA)) == 3 and len(ntfy.to("ben")) == 3)
        call = twilio.calls_to(ANA)[2]
        assert call.script.says[0].startswith("Tocsin: error: 2 more pages: 1 error, 1 warning, the oldest since ")
        assert "Press 1 to acknowledge all of them." in call.script.says[0]
        assert "has no meaning" in (await twilio.presses(call, "2")).says[0]
        assert (await twilio.presses(call, "3")).says[0].startswith("Tocsin: error: 2 more pages: ")
        assert "You have acknowledged it" in (await twilio.presses(call, "1")).says[0]
        answered = world.escalation.responders
        assert answered.acted == [("acknowledge", "users/ana", "phone")] * 2
        assert {each.incident for each in answered.answers} == {each.incident for each in jobs[2:]}
        push = ntfy.to("ben")[2]
        assert push.labels == ["Acknowledge all", "Open"]
        assert (await ntfy.presses(push, "Acknowledge all"))[0] == 200
        assert answered.acted[2:] == [("acknowledge", "users/ben", "ntfy")]
        assert answered.answers[-1].incident == bens[2].incident
        row = await world.row(
            """SELECT evidence FROM attempts a JOIN notifications n ON n.id = a.notification_id
               WHERE n.incident = n.page_id AND n.user_id = 'users/ben'"""
        )
        assert row["evidence"] == "answered"


async def test_a_bundle_is_acknowledged_by_a_text_message_and_meant_by_its_code_alone(
    world: World, twilio: TwilioServer
) -> None:
    """A reply without a code meant the incident that had been texted by itself, while its author answered the bundle."""
    org = new_org()
    await world.method(org, sms=ANA)
    async with running(world, twilio, TWILIO_REPLIES=True, **{**TWO, "storm_pages": 1}) as notify:
        jobs = await storm(notify, org, WARNING, WARNING, SEVERITY_ERROR)
        await taken(twilio)
        await world.forward(COLLECTED)
        [code] = re.findall(r" Reply (\d+)a to ack all\.$", (await taken(twilio, count=2)).body)
        answered = world.escalation.responders

        async def says(text: str) -> str:
            status, said = await twilio.receives(ANA, text, f"{PHONES}/v1/twilio/reply")
            assert status == 200
            return said

        assert f"say which. {code} 2 more pages:" in await says("ack")
        assert "several" in await says(f"{code}e")
        assert answered.acted == []
        assert (await says(f"{code}a")).startswith("Acknowledged. 2 more pages: ")
        assert {each.incident for each in answered.answers} == {each.incident for each in jobs[1:]}
        assert set(answered.acted) == {("acknowledge", "users/ana", "sms")}


async def test_replicas_that_page_the_same_person_at_once_share_one_budget_and_one_bundle(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(**TWO) as one, world.replica(**TWO) as other:
        jobs = [job(org, severity=WARNING) for _ in range(20)]
        await asyncio.gather(*((one, other)[number % 2].submit(each) for number, each in enumerate(jobs)))
        await until(lambda: world.arrived("ana") == 2)
        assert len(await world.states("state = 'bundled'")) == 18
        await world.forward(COLLECTED)
        await until(lambda: len(bundles(world)) == 1)
        assert bundles(world)[0].subject.startswith("[warning] 18 more pages: 18 warning,")

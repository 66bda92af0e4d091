"""Users who are disabled or deleted in escalation while pages wait for them here."""

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from aiohttp import ClientSession
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import internal_service_pb2 as internal_pb
from tocsin.notify.v1 import message_service_pb2 as message_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1 import recurring_message_service_pb2 as recurring_pb
from tocsin.type.v1.severity_pb2 import SEVERITY_ERROR
from tocsin.type.v1.weekday_pb2 import Weekday
from tocsin_testkit.mail import text_of
from tocsin_testkit.ntfy import NtfyServer
from tocsin_testkit.slack import SlackServer

from tests.store.notify import phones
from tests.store.notify.bundling import TWO, storm
from tests.store.notify.messages import Sender
from tests.store.notify.support import WARNING, Notify, World, bearer, internal, job, new_org, until

PUBLIC = "https://tocsin.example.com"
METHOD = "SELECT id FROM contact_methods WHERE org_id = $1 AND channel = 'email'"
ENABLED, DISABLED, DELETED = (
    internal_pb.USER_STANDING_ENABLED,
    internal_pb.USER_STANDING_DISABLED,
    internal_pb.USER_STANDING_DELETED,
)


async def changes(notify: Notify, org: str, standing: internal_pb.UserStanding.ValueType, time: datetime) -> None:
    change = internal_pb.UserChange(org_id=org, user="users/ana", standing=standing)
    change.change_time.FromDatetime(time)
    await notify.internal.ApplyUserChanges(internal_pb.ApplyUserChangesRequest(changes=[change]), metadata=internal())


async def now(world: World) -> datetime:
    found: datetime = await world.admin.fetchval("SELECT app_now()")
    return found


@pytest.mark.parametrize(
    ("standing", "told", "why"),
    [
        (DISABLED, "the user is disabled; no other contact method is left", "the user is disabled"),
        (DELETED, "its contact method was deleted", "no verified contact method"),
    ],
)
async def test_nothing_that_waits_for_a_user_who_is_gone_goes_out(
    world: World, notify: Notify, standing: internal_pb.UserStanding.ValueType, told: str, why: str
) -> None:
    """Otherwise who has left gets a page hours later, and the level waits for their answer."""
    org = new_org()
    hooks = [await world.method(org, webhook=f"{org}-{n}") for n in range(2)]
    await notify.set_rules(
        org, "users/ana", *((pb.URGENCY_HIGH, hook, 300.0 * (n + 1)) for n, hook in enumerate(hooks))
    )
    given = job(org)
    await notify.submit(given)
    await changes(notify, org, standing, await now(world))
    outcomes = world.escalation.outcomes
    await until(lambda: [each for each in outcomes if each.org_id == org])
    # Each of its steps says so; escalation takes one of a page and kind.
    heard = {(each.page, each.kind, told in each.reason) for each in outcomes if each.org_id == org}
    assert heard == {(given.page, escalation_pb.PAGE_OUTCOME_KIND_FAILED, True)}
    later = job(org)
    await notify.submit(later)
    await until(lambda: [each for each in outcomes if each.page == later.page])
    [outcome] = [each for each in outcomes if each.page == later.page]
    assert (outcome.kind, outcome.reason) == (escalation_pb.PAGE_OUTCOME_KIND_UNREACHABLE, why)
    await world.forward(timedelta(minutes=11))
    waits = "SELECT count(*) FROM notifications WHERE org_id = $1 AND state IN ('pending', 'sending')"

    async def over() -> bool:
        return bool(await world.admin.fetchval(waits, org) == 0)

    await until(over)
    assert not [each for each in world.inbox.messages if org in each.address]


@pytest.mark.parametrize(
    ("standing", "why"), [(DISABLED, "the user is disabled"), (DELETED, "no verified contact method")]
)
async def test_pages_collected_for_a_user_who_is_gone_are_reported_and_go_to_no_successor(
    world: World, standing: internal_pb.UserStanding.ValueType, why: str
) -> None:
    """Two above the budget, and two in the quiet hours of the organisation, which last another hour."""
    org = new_org()
    await world.method(org, webhook=org)
    async with world.replica(**TWO) as notify:
        jobs = await storm(notify, org, *[SEVERITY_ERROR] * 4, user="users/ana")
        moment = await now(world)
        hours = [f"{moment + timedelta(minutes=minutes):%H:%M}" for minutes in (-60, 60)]
        window = contact_pb.QuietWindow(days=Weekday.values()[1:], start=hours[0], end=hours[1])
        quiet = contact_pb.QuietHours(time_zone="UTC", windows=[window])
        settings = contact_pb.NotificationSettings(user="users/*", quiet_hours=quiet)
        request = contact_pb.UpdateNotificationSettingsRequest(notification_settings=settings)
        await notify.contacts.UpdateNotificationSettings(request, metadata=bearer(org))
        jobs += await storm(notify, org, WARNING, WARNING, user="users/ana")
        await until(lambda: world.arrived(org) == 2)
        await changes(notify, org, standing, moment + timedelta(seconds=1))
        await until(lambda: {each.page for each in jobs[2:]} <= told(world, org).keys())
        assert {told(world, org)[each.page] for each in jobs[2:]} == {why}
        await world.method(org, webhook=f"{org}-new")
        await world.forward(timedelta(hours=2))
        await until(partial(nothing_waits, world))
        assert world.arrived(f"{org}-new") == 0


def told(world: World, org: str) -> dict[str, str]:
    return {each.page: each.reason for each in world.escalation.outcomes if each.org_id == org and each.reason}


async def nothing_waits(world: World) -> bool:
    collects = "SELECT EXISTS (SELECT FROM quiet_bundles) OR EXISTS (SELECT FROM paces WHERE bundle IS NOT NULL)"
    return not await world.admin.fetchval(collects)


async def test_of_several_changes_the_newest_counts_in_any_order_they_come(world: World, notify: Notify) -> None:
    """A call that was answered late by a replica that stood still may come after the next one."""
    org = new_org()
    await world.method(org, webhook=org)
    began = await now(world)
    for standing, seconds in ((DISABLED, 1), (ENABLED, 2), (DISABLED, 1), (ENABLED, 2)):
        await changes(notify, org, standing, began + timedelta(seconds=seconds))
    given = job(org)
    await notify.submit(given)
    await world.inbox.wait_for(lambda m: m.address == org, "the page")


async def test_another_user_of_the_same_id_gets_nothing_of_the_one_before(world: World, notify: Notify) -> None:
    org = new_org()
    hook = await world.method(org, webhook=org)
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 300.0))
    chosen = contact_pb.NotificationSettings(user="users/ana", language="de")
    settings = contact_pb.UpdateNotificationSettingsRequest(notification_settings=chosen)
    await notify.contacts.UpdateNotificationSettings(settings, metadata=bearer(org))
    left = await now(world)
    await changes(notify, org, DELETED, left)
    tables = ("notification_rules", "rule_sets", "notification_settings")
    for table in tables:
        assert await world.admin.fetchval(f"SELECT count(*) FROM {table} WHERE org_id = $1", org) == 0, table
    await world.forward(timedelta(seconds=1))
    new = await world.method(org, webhook=f"{org}-new")
    await changes(notify, org, DELETED, left)
    request = contact_pb.ListContactMethodsRequest(user="users/ana")
    listed = (await notify.contacts.ListContactMethods(request, metadata=bearer(org))).contact_methods
    assert [each.name for each in listed] == [f"contactMethods/{new}"], "a repeat is about the one before"


@pytest.mark.parametrize("standing", [DELETED, DISABLED])
async def test_a_message_to_a_user_who_is_gone_answers_nothing_any_more(
    world: World, standing: internal_pb.UserStanding.ValueType
) -> None:
    """Neither does it show how the incident stands, or add a browser to which the pages of the next user of this id would go."""
    org, sent_to = new_org(), f"{new_org()}@example.com"
    world.escalation.responders.there = True
    async with NtfyServer(world.inbox) as ntfy, world.replica(public_url=PUBLIC) as notify, ClientSession() as http:
        ntfy.reach[PUBLIC] = base = f"http://127.0.0.1:{notify.runtime.http.port}"
        await world.method(org, email=sent_to)
        app = await world.method(org, ntfy=f"{ntfy.url}/{org}")
        high = [(pb.URGENCY_HIGH, method, 0.0) for method in (app, (await world.row(METHOD, org))["id"])]
        await notify.set_rules(org, "users/ana", *high)
        await notify.submit(job(org))
        await until(lambda: ntfy.to(org))
        mail = await world.inbox.wait_for(lambda m: m.address == sent_to, "the page")
        link = next(word for word in text_of(mail).split() if word.startswith(PUBLIC)).replace(PUBLIC, base)
        assert (await http.get(link)).status == 200
        await changes(notify, org, standing, await now(world))
        if standing == DELETED:
            await world.method(org, email=sent_to)  # another user of the same id
        assert (await http.get(link)).status == 404
        assert (await http.post(link, data={"action": "resolve"}, allow_redirects=False)).status == 404
        assert (await http.get(link.replace("/p/", "/d/"))).status == 404
        assert (await ntfy.presses(ntfy.to(org)[0], "Acknowledge"))[0] == 404
        assert world.escalation.responders.acted == []
        await changes(notify, org, ENABLED, await now(world))
        await notify.submit(job(org))
        again = await world.inbox.wait_for(lambda m: m.address == sent_to and m is not mail, "the next page")
        link = next(word for word in text_of(again).split() if word.startswith(PUBLIC)).replace(PUBLIC, base)
        assert (await http.post(link, data={"action": "acknowledge"}, allow_redirects=False)).status == 303
        assert world.escalation.responders.acted == [("acknowledge", "users/ana", "link")]


async def test_an_account_of_a_user_who_is_disabled_is_a_strangers(world: World) -> None:
    """Their own, beside messages to others that they still see: neither a button nor a command does anything by it."""
    org, member = new_org(), "UANA00001"
    async with SlackServer(world.inbox) as slack, world.replica(public_url=phones.PUBLIC, **slack.settings()) as notify:
        world.escalation.responders.there = True
        slack.known |= {member, "CALERTS01"}
        slack.reach[phones.PUBLIC] = f"http://127.0.0.1:{notify.runtime.http.port}"
        await world.method(org, slack=member)
        await world.method(org, "users/team", slack="CALERTS01")
        await notify.submit(job(org, user="users/team"))
        await until(lambda: [each for each in slack.messages if each.buttons])
        [message] = slack.messages
        await changes(notify, org, DISABLED, await now(world))
        assert await slack.presses(message, "Acknowledge", member) == 200
        assert "add this account" in slack.whispers[-1][2]
        assert (await slack.commands("ack all", member))[1].startswith("Add this Slack account")
        assert world.escalation.responders.acted == []
        await changes(notify, org, ENABLED, await now(world))
        assert await slack.presses(message, "Acknowledge", member) == 200
        assert world.escalation.responders.acted == [("acknowledge", "users/ana", "slack")]


async def test_a_message_written_to_a_user_who_left_comes_to_no_successor(world: World, notify: Notify) -> None:
    """A message in an hour, and one of each day; what is written to the successor stays, also when the end is told again."""
    org = new_org()

    async def writes() -> tuple[str, str]:
        await world.method(org, webhook=f"{org}-{uuid.uuid4()}")
        sent = await Sender(notify, world, org).send(later=timedelta(hours=1))
        start = message_pb.LocalTime(date_time="2026-01-05T09:00", time_zone="UTC")
        to_ana = message_pb.Message(user="users/ana", text="Hand over.")
        request = recurring_pb.CreateRecurringMessageRequest(message=to_ana, start=start, rule="FREQ=DAILY")
        made = await notify.recurring_messages.CreateRecurringMessage(request, metadata=bearer(org))
        return sent.name[-36:], made.recurring_message.name[-36:]

    async def standing(names: tuple[str, str]) -> list[str]:
        tables = ("messages", "recurring_messages")
        return [
            await world.admin.fetchval(f"SELECT state FROM {table} WHERE id = $1", uuid.UUID(name))
            for table, name in zip(tables, names, strict=True)
        ]

    first = await writes()
    left = await now(world)
    await changes(notify, org, DELETED, left)
    assert await standing(first) == ["cancelled", "ended"]
    await world.forward(timedelta(seconds=1))
    second = await writes()
    await changes(notify, org, DELETED, left)
    assert await standing(second) == ["scheduled", "active"]


async def test_a_change_of_a_user_without_rows_and_one_that_cannot_be(world: World, notify: Notify) -> None:
    for standing in (DISABLED, ENABLED, DELETED):
        await changes(notify, new_org(), standing, datetime.now(UTC))
    with pytest.raises(Exception, match="change_time"):
        await notify.internal.ApplyUserChanges(
            internal_pb.ApplyUserChangesRequest(
                changes=[internal_pb.UserChange(org_id=f"org-{uuid.uuid4()}", user="users/ana", standing=DELETED)]
            ),
            metadata=internal(),
        )

"""Telegram and Slack over real sockets: buttons act as the user who pressed them, and messages show what happened."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1.incident_pb2 import Incident
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import SEVERITY_ERROR
from tocsin_kit.ids import new_id
from tocsin_notify.channels.base import ChannelSender, Delivery, Target
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.slack import SlackChannel
from tocsin_notify.channels.slack_account import SlackAccount
from tocsin_notify.channels.slack_codes import CONFIGURATION, RECIPIENT
from tocsin_notify.channels.telegram import TelegramChannel
from tocsin_notify.channels.telegram_account import TelegramAccount
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit import slack as slack_kit
from tocsin_testkit import telegram as telegram_kit
from tocsin_testkit.slack import SlackServer
from tocsin_testkit.telegram import TelegramServer

from tests.store.notify.phones import PUBLIC, proven
from tests.store.notify.support import ALLOWED, Notify, World, job, new_org, reads, until

ANA, BEN, GROUP = 11111111, 22222222, -100123456789
TRIGGERED = incident_pb2.INCIDENT_STATE_TRIGGERED
URL_KEYS = [b"k" * 32]


@pytest.fixture
async def telegram(world: World) -> AsyncIterator[TelegramServer]:
    async with TelegramServer(world.inbox) as server:
        server.chats |= {ANA, BEN, GROUP}
        yield server


@pytest.fixture
async def slack(world: World) -> AsyncIterator[SlackServer]:
    async with SlackServer(world.inbox) as server:
        server.known |= {"UANA00001", "UBEN00001", "CALERTS01"}
        yield server


@asynccontextmanager
async def running(world: World, provider: TelegramServer | SlackServer, **overrides: Any) -> AsyncIterator[Notify]:
    """A replica that the provider reaches at its public address, and an escalation that takes answers."""
    world.escalation.responders.there = True
    async with world.replica(public_url=PUBLIC, **provider.settings(), **overrides) as replica:
        provider.reach[PUBLIC] = f"http://127.0.0.1:{replica.runtime.http.port}"
        yield replica


async def send(channel: ChannelSender, address: str, *, kind: Kind = Kind.NEW_INCIDENT) -> Outcome:
    """One attempt by the channel alone."""
    given = pb.NotificationJob(
        page="pages/1", user="users/ana", incident="incidents/1", title="<!channel> *full*", level=2
    )
    target, now = Target(Channel.SLACK, address), datetime(2026, 1, 2, tzinfo=UTC)
    try:
        return await channel.send(
            Delivery("k", uuid.uuid4(), "o" * 255, kind, given, target, 1, now, "123456", "https://x.example/p/1"),
            ALLOWED,
        )
    finally:
        await channel.close()


def to_telegram(server: TelegramServer, token: str = telegram_kit.TOKEN, *, timeout: float = 20.0) -> TelegramChannel:
    account = TelegramAccount(token, (telegram_kit.SECRET,), server.url)
    return TelegramChannel(account, CallbackUrls(PUBLIC, URL_KEYS), timeout=timeout, concurrency=1)


def to_slack(server: SlackServer, token: str = slack_kit.TOKEN, *, timeout: float = 20.0) -> SlackChannel:
    account = SlackAccount(token, (slack_kit.SECRET,), server.url)
    return SlackChannel(account, CallbackUrls(PUBLIC, URL_KEYS), timeout=timeout, concurrency=1)


async def test_what_telegram_gets_and_what_its_answers_mean(telegram: TelegramServer) -> None:
    assert await send(to_telegram(telegram), str(ANA)) == Sent("1")
    message = telegram.messages[0]
    assert message.text == "[critical] <!channel> *full* (level 2)\n\nYou are paged at level 2. Source: unknown."
    assert list(message.buttons) == ["Acknowledge", "Next level", "Open"], "the tenant's name may be long"
    await send(to_telegram(telegram), str(GROUP), kind=Kind.RESOLUTION)
    assert (list(telegram.messages[1].buttons), telegram.messages[1].fields["disable_notification"]) == (["Open"], True)
    answers: list[tuple[Callable[[], web.Response], type[Outcome], float | None]] = [
        (lambda: telegram_kit.error(403, "Forbidden: bot was blocked by the user"), Permanent, None),
        (lambda: telegram_kit.error(400, "Bad Request: chat not found"), Permanent, None),
        (lambda: telegram_kit.error(429, "Too Many Requests: retry after 17", retry_after=17), Retryable, 17.0),
        (lambda: telegram_kit.error(500, "Internal Server Error"), Retryable, None),
        (lambda: web.Response(status=502, text="<html>"), Retryable, None),
    ]
    for answer, expected, after in answers:
        telegram.refuse[str(ANA)] = [answer()]
        outcome = await send(to_telegram(telegram), str(ANA))
        assert isinstance(outcome, expected)
        assert getattr(outcome, "after", None) == after
    wrong = await send(to_telegram(telegram, "1:wrong"), str(ANA))
    assert isinstance(wrong, Retryable)
    assert wrong.after == 60.0
    assert "1:wrong" not in wrong.reason
    assert isinstance(await send(to_telegram(telegram, ""), str(ANA)), Permanent)
    telegram.reset.add(str(ANA))
    assert isinstance(await send(to_telegram(telegram), str(ANA)), Retryable)
    telegram.hang.add(str(BEN))
    assert isinstance(await send(to_telegram(telegram, timeout=0.2), str(BEN)), Retryable)


async def test_what_slack_gets_and_what_its_answers_mean(slack: SlackServer) -> None:
    assert await send(to_slack(slack), "CALERTS01") == Sent("CALERTS01 1700000001.000100")
    message = slack.messages[0]
    assert message.text.startswith("[critical] <!channel> *full* (level 2)\nYou are paged at level 2.")
    assert all(block.get("text", {}).get("type", "plain_text") == "plain_text" for block in message.fields["blocks"])
    assert message.fields["text"].startswith("[critical] &lt;!channel&gt; *full*"), (
        "what is read of it alone mentions nobody"
    )
    assert list(message.buttons) == ["Acknowledge", "Next level", "Open"]
    assert await send(to_slack(slack), "UANA00001") == Sent("DANA00001 1700000002.000100")
    for word in CONFIGURATION:
        slack.refuse["CALERTS01"] = [slack_kit.error(word)]
        outcome = await send(to_slack(slack), "CALERTS01")
        assert isinstance(outcome, Retryable), word
        assert outcome.after == 60.0
    for word in RECIPIENT:
        slack.refuse["CALERTS01"] = [slack_kit.error(word)]
        assert isinstance(await send(to_slack(slack), "CALERTS01"), Permanent), word
    answers: list[tuple[Callable[[], web.Response], type[Outcome], float | None]] = [
        (lambda: slack_kit.error("ratelimited", 429, **{"Retry-After": "30"}), Retryable, 30.0),
        (lambda: slack_kit.error("internal_error"), Retryable, None),
        (lambda: slack_kit.error("a_new_word"), Retryable, None),
        (lambda: web.Response(status=200, text="<html>"), Retryable, None),
        (lambda: web.Response(status=503), Retryable, None),
        (lambda: web.Response(status=404), Permanent, None),
    ]
    for answer, expected, after in answers:
        slack.refuse["CALERTS01"] = [answer()]
        outcome = await send(to_slack(slack), "CALERTS01")
        assert isinstance(outcome, expected), outcome
        assert getattr(outcome, "after", None) == after
    assert isinstance(await send(to_slack(slack, "xoxb-wrong"), "CALERTS01"), Retryable)
    assert isinstance(await send(to_slack(slack, ""), "CALERTS01"), Permanent)
    slack.reset.add("CALERTS01")
    assert isinstance(await send(to_slack(slack), "CALERTS01"), Retryable)
    slack.hang.add("UBEN00001")
    assert isinstance(await send(to_slack(slack, timeout=0.2), "UBEN00001"), Retryable)


async def test_a_telegram_button_acts_as_the_user_who_pressed(world: World, telegram: TelegramServer) -> None:
    org, incident = new_org(), new_id()
    async with running(world, telegram) as notify:
        wanted = contact_pb.ContactMethod(user="users/ana", telegram=contact_pb.TelegramContact(chat_id=str(ANA)))
        await proven(world, notify, org, wanted, str(ANA))
        await world.method(org, "users/team", telegram=str(GROUP))
        await notify.submit(job(org, incident), job(org, incident, user="users/team"))
        await until(lambda: {ANA, GROUP} <= {each.chat for each in telegram.messages if "level" in each.text})
        in_group = next(each for each in telegram.messages if each.chat == GROUP)
        answered = world.escalation.responders
        said = await telegram.presses(in_group, "Acknowledge", BEN)
        assert said["method"] == "answerCallbackQuery"
        assert "add this account" in said["text"]
        assert answered.acted == []
        for _ in range(2):
            assert (await telegram.presses(in_group, "Next level", ANA))["text"] == "The next level is paged."
        assert (await telegram.presses(in_group, "Acknowledge", ANA))["text"] == "Acknowledged."
        assert answered.acted == [("escalate", "users/ana", "telegram"), ("acknowledge", "users/ana", "telegram")]
        for _ in range(2):  # the incident may have been handed back since; the next level is no matter of two presses
            await telegram.presses(in_group, "Acknowledge", ANA, id="another press")
            await telegram.presses(in_group, "Next level", ANA, id="a third press")
        assert [each[0] for each in answered.acted] == ["escalate", "acknowledge", "acknowledge"]
        answered.refuses = ErrorReason.ERROR_REASON_INCIDENT_RESOLVED
        assert "is over" in (await telegram.presses(in_group, "Next level", ANA))["text"]
        await until(lambda: _all_sent(world, org))
        await notify.cancel(org, incident, reason="acknowledged by users/ana (by telegram)")
        await until(lambda: all(each.edits == 1 for each in telegram.messages if "code" not in each.text))
        assert in_group.text == "Disk full on db-1\n\nAcknowledged by ana (by telegram)."
        assert in_group.buttons == {}


async def test_what_happened_is_told_in_the_language_of_the_user(world: World, telegram: TelegramServer) -> None:
    org, incident = new_org(), new_id()
    async with running(world, telegram) as notify:
        await world.method(org, telegram=str(ANA))
        await reads(notify, org, "users/ana", "de")
        await notify.submit(job(org, incident))
        await until(lambda: _all_sent(world, org))
        await notify.cancel(org, incident, reason="acknowledged by users/ben")
        await until(lambda: telegram.messages[0].edits == 1)
        assert telegram.messages[0].text == "Disk full on db-1\n\nÜbernommen von ben."


async def test_what_telegram_did_not_send_is_refused(world: World, telegram: TelegramServer) -> None:
    org = new_org()
    async with running(world, telegram) as notify:
        await world.method(org, telegram=str(ANA))
        await notify.submit(job(org))
        await until(lambda: telegram.messages)
        message = telegram.messages[0]
        good = message.buttons["Acknowledge"]
        update = {"callback_query": {"id": "1", "from": {"id": ANA}, "data": good}}
        for secret in (None, "", "a-secret-of-somebody-else", telegram_kit.SECRET + "x"):
            assert (await telegram.updates(update, secret=secret))[0] == 401
        for data in (
            "x",
            "ü",
            ("B" if good[0] != "B" else "C") + good[1:],
            good + "AA",
            "A" * 64,
            "*" * 10,
        ):
            said = await telegram.presses(message, "Acknowledge", ANA, data=data)
            assert "not one of ours" in said["text"], data
        assert (await telegram.updates(["no object"]))[0] == 400
        for strange in (
            {},
            {"callback_query": 1},
            {"message": {"chat": 1}},
            {"callback_query": {"data": good, "from": 1}},
            {"callback_query": {"id": "\ud800", "data": good, "from": {"id": "\0"}}},
            {"callback_query": {"id": "\0", "data": good, "from": {"id": "\udfff"}}},
        ):
            assert (await telegram.updates(strange))[0] == 200
        assert world.escalation.responders.acted == []
        asked = {"message": {"text": "/start", "chat": {"id": 4711}}}
        _, told = await telegram.updates(asked)
        assert (told["method"], told["chat_id"]) == ("sendMessage", 4711)
        assert "4711" in told["text"]
        await world.forward(timedelta(days=2))
        assert "too old" in (await telegram.presses(message, "Acknowledge", ANA))["text"]


async def test_a_slack_button_acts_as_the_user_who_pressed(world: World, slack: SlackServer) -> None:
    org, incident = new_org(), new_id()
    async with running(world, slack) as notify:
        wanted = contact_pb.ContactMethod(user="users/ana", slack=contact_pb.SlackContact(id="UANA00001"))
        await proven(world, notify, org, wanted, "UANA00001")
        await world.method(org, "users/team", slack="CALERTS01")
        await notify.submit(job(org, incident), job(org, incident, user="users/team"))
        await until(lambda: {"DANA00001", "CALERTS01"} <= {each.channel for each in slack.messages if each.buttons})
        in_channel = next(each for each in slack.messages if each.channel == "CALERTS01")
        answered = world.escalation.responders
        assert await slack.presses(in_channel, "Acknowledge", "UBEN00001") == 200
        [(channel, member, text)] = slack.whispers
        assert (channel, member, "add this account" in text) == ("CALERTS01", "UBEN00001", True)
        assert answered.acted == []
        for _ in range(2):
            assert await slack.presses(in_channel, "Acknowledge", "UANA00001") == 200
        assert await slack.presses(in_channel, "Open", "UBEN00001") == 200
        assert answered.acted == [("acknowledge", "users/ana", "slack")]
        for at in ("1548426418.1", "1548426418.1", "1548426419.2"):
            await slack.presses(in_channel, "Acknowledge", "UANA00001", at=at)
            await slack.presses(in_channel, "Next level", "UANA00001", at=at)
        assert sorted(each[0] for each in answered.acted) == ["acknowledge"] * 3 + ["escalate"]
        assert len(slack.whispers) == 1
        answered.refuses = ErrorReason.ERROR_REASON_NO_NEXT_LEVEL
        await slack.presses(in_channel, "Next level", "UANA00001")
        assert "no further level" in slack.whispers[-1][2]
        await until(lambda: _all_sent(world, org))
        await notify.cancel(org, incident, reason="acknowledged by users/ana (by slack)")
        await until(lambda: all(each.edits == 1 for each in slack.messages if "code" not in each.text))
        assert in_channel.text == "Disk full on db-1\nAcknowledged by ana (by slack)."
        assert in_channel.buttons == {}
        await notify.cancel(org, incident, generation=2, reason="resolved by users/ben")
        await until(lambda: in_channel.edits == 2)
        assert in_channel.text.endswith("Resolved by ben.")


async def test_what_slack_did_not_sign_just_now_is_refused(world: World, slack: SlackServer) -> None:
    org = new_org()
    async with running(world, slack) as notify:
        await world.method(org, slack="UANA00001")
        await notify.submit(job(org))
        await until(lambda: slack.messages)
        message = slack.messages[0]
        assert await slack.presses(message, "Acknowledge", "UANA00001", secret="somebody else's") == 401
        assert await slack.presses(message, "Acknowledge", "UANA00001", age=400) == 401, "recorded, and played again"
        assert await slack.presses(message, "Acknowledge", "UANA00001", age=-400) == 401
        assert await slack.presses(message, "Acknowledge", "UANA00001", body=b"payload=%7B%7D") == 401
        assert await slack.interacts({"type": "view_submission"}) == 200
        assert await slack.interacts(["no object"]) == 400
        for member in ("\0", "\ud800"):
            assert await slack.presses(message, "Acknowledge", member) == 200
        assert await slack.presses(message, "Acknowledge", "UANA00001", value="\ud800") == 200
        value = message.buttons["Acknowledge"]["value"].replace("acknowledge", "escalate")
        assert await slack.presses(message, "Acknowledge", "UANA00001", value=value) == 200
        assert "no longer known" in slack.whispers[-1][2]
        assert world.escalation.responders.acted == []


def open_incident(user: str, title: str, state: incident_pb2.IncidentState.ValueType = TRIGGERED) -> Incident:
    made = Incident(name=f"incidents/{new_id()}", title=title, severity=SEVERITY_ERROR, state=state, assignees=[user])
    made.create_time.FromDatetime(datetime(2026, 3, 1, 3, 12, tzinfo=UTC))
    return made


async def test_a_slack_command_shows_and_acknowledges_what_the_member_is_paged_for(
    world: World, slack: SlackServer
) -> None:
    org, other = new_org(), new_org()
    async with running(world, slack) as notify:
        wanted = contact_pb.ContactMethod(user="users/ana", slack=contact_pb.SlackContact(id="UANA00001"))
        await proven(world, notify, org, wanted, "UANA00001")
        await world.method(other, "users/anna", slack="UANA00001")
        await world.method(other, "users/ben", slack="UANA00001", verified=False)
        disk, deleted = open_incident("users/ana", "Disk full & <!channel>"), open_incident("users/ben", "not hers")
        held = open_incident("users/anna", "Queue is long", incident_pb2.INCIDENT_STATE_ACKNOWLEDGED)
        answered = world.escalation.responders
        answered.incidents = [disk, deleted, held]
        assert (await slack.commands("list", "UBEN00001"))[1].startswith("Add this Slack account")
        _, told = await slack.commands(" ", "UANA00001")
        code = told.partition(":")[0]
        assert told.splitlines() == [
            f"{code}: error: Disk full & <!channel> (waits for an answer, since 2026-03-01 03:12 UTC)",
            f"{told.splitlines()[1].partition(':')[0]}: error: Queue is long (acknowledged, since 2026-03-01 03:12 UTC)",
            '"ack" with a code acknowledges one, "ack all" all.',
        ]
        assert (await slack.commands("make coffee", "UANA00001"))[1].startswith('Say "list"')
        assert (await slack.commands("resolve", "UANA00001"))[1].startswith('Say "list"')
        assert (await slack.commands("ack 0", "UANA00001"))[1].startswith("Nothing was done: you are paged for nothing")
        assert answered.acted == []
        for trigger in ("1.a", "1.a", "2.b"):
            _, told = await slack.commands(f"ACK {code}", "UANA00001", trigger=trigger)
            assert told == "Acknowledged: Disk full & <!channel>"
        assert answered.acted == [("acknowledge", "users/ana", "slack")] * 2
        answered.incidents.append(open_incident("users/anna", "Queue is longer"))
        assert "say which" in (await slack.commands("ack", "UANA00001"))[1]
        assert (await slack.commands("ack all", "UANA00001"))[1] == "Acknowledged: 2 incidents."
        assert set(answered.acted) == {("acknowledge", f"users/{name}", "slack") for name in ("ana", "anna")}
        answered.refuses = ErrorReason.ERROR_REASON_INCIDENT_RESOLVED
        assert (await slack.commands("list", "UANA00001"))[1].startswith("It is not certain")
        first, user = min((org, "users/ana"), (other, "users/anna"))
        await reads(notify, first, user, "de")
        assert (await slack.commands("list", "UANA00001"))[1].startswith("Es ist nicht sicher")
        assert (await slack.commands("make coffee", "UANA00001"))[1].startswith("„list“ zeigt")


async def test_a_slack_command_sees_what_waits_behind_all_that_is_held(world: World, slack: SlackServer) -> None:
    """In a storm: who acknowledged what one call takes was told afterwards that nothing waits any more."""
    async with running(world, slack) as notify:
        wanted = contact_pb.ContactMethod(user="users/ana", slack=contact_pb.SlackContact(id="UANA00001"))
        await proven(world, notify, new_org(), wanted, "UANA00001")
        answered = world.escalation.responders
        held = incident_pb2.INCIDENT_STATE_ACKNOWLEDGED
        answered.incidents = [open_incident("users/ana", f"in hand {n}", held) for n in range(300)]
        answered.incidents += [open_incident("users/ana", f"waits {n}") for n in range(600)]
        _, told = await slack.commands("list", "UANA00001")
        assert ": error: waits 0 (waits for an answer" in told.splitlines()[0]
        assert "and 830 more" in told
        assert (await slack.commands("ack all", "UANA00001"))[1] == "Acknowledged: 600 incidents."
        assert {each.incident for each in answered.answers} == {each.name for each in answered.incidents[300:]}
        answered.incidents = answered.incidents[:300]
        assert "paged for nothing" in (await slack.commands("ack all", "UANA00001", trigger="2.b"))[1]
        assert len(answered.acted) == 600


async def test_a_slack_command_that_was_not_signed_just_now_is_refused(world: World, slack: SlackServer) -> None:
    async with running(world, slack):
        assert (await slack.commands("list", "UANA00001", secret="somebody else's"))[0] == 401
        assert (await slack.commands("list", "UANA00001", age=400))[0] == 401
        assert (await slack.commands("list", "UANA00001", age=-400))[0] == 401
        assert (await slack.commands("list", "", trigger=""))[0] == 400
        assert (await slack.commands("list", "U\0", trigger="\0"))[0] == 200


async def _all_sent(world: World, org: str) -> bool:
    return set(await world.states("org_id = $1", org)) == {"sent"}

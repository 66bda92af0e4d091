"""MessageService through a real socket: what is refused, and whose messages are seen."""

import uuid
from datetime import date, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.notify.v1 import message_service_pb2 as pb
from tocsin.notify.v1 import notification_pb2
from tocsin.notify.v1 import recurring_message_service_pb2 as recurring_pb
from tocsin_notify.app.messages.messages import WITH_ADDRESS
from tocsin_notify.channels.registry import TYPES
from tocsin_testkit.twilio import TwilioServer

from tests.contract.notify.caller import Door, refused
from tests.store.notify.messages import ANA, HOUR, Sender, State, mail_to, sender
from tests.store.notify.phones import twilio
from tests.store.notify.support import World, bearer, new_org

__all__ = ["sender", "twilio"]

_MAIL = "ana@example.com"
_GERMAN, _SWISS = "+4915112345678", "+41791234567"
SMS = notification_pb2.CHANNEL_SMS


@pytest.fixture
def waiting(door: Door) -> Sender:
    """A sender at the shared door, where no message leaves."""
    return Sender(door.notify, door.world, new_org())


def message(**fields: Any) -> pb.Message:
    return pb.Message(**{"user": ANA, "text": "Lunch is ready.", **fields})


def local(date_time: str, time_zone: str = "Europe/Berlin") -> pb.LocalTime:
    return pb.LocalTime(date_time=date_time, time_zone=time_zone)


REFUSED = [
    ("nobody", pb.Message(text="Lunch."), "message.to"),
    ("no text", message(text=""), "message.text"),
    ("white space", message(text=" \n"), "message.text"),
    ("a long text", message(text="x" * 4001), "message.text"),
    ("a long subject", message(subject="x" * 201), "message.subject"),
    ("no user", message(user="ana"), "message.user"),
    ("an odd reference", message(about="users/ana"), "message.about"),
    ("an unknown urgency", message(urgency=7), "message.urgency"),
    ("the past", message(send_time=Timestamp(seconds=1)), "message.send_time"),
    ("far ahead", message(send_time=Timestamp(seconds=32503680000)), "message.send_time"),
    ("no such second", message(send_time=Timestamp(seconds=-999999999999)), "message.send_time"),
    ("two times", message(send_time=Timestamp(seconds=1), local_time=local("2027-01-01T09:00")), "message.local_time"),
    ("no time", message(local_time=local("2027-02-30T09:00")), "message.local_time.date_time"),
    ("an offset", message(local_time=local("2027-02-01T09:00+01:00")), "message.local_time.date_time"),
    ("no zone", message(local_time=local("2027-01-01T09:00", "Mars/Olympus")), "message.local_time.time_zone"),
    ("expires at once", message(expire_after=Duration(seconds=9)), "message.expire_after"),
    ("no address", message(address=pb.Address(channel=SMS)), "message.address.address"),
    ("no channel", message(address=pb.Address(address=_MAIL)), "message.address.channel"),
    ("no mail address", message(address=mail_to("ana at home")), "message.address.address"),
    (
        "no chat",
        message(address=pb.Address(channel=notification_pb2.CHANNEL_WEBHOOK, address=_MAIL)),
        "message.address.channel",
    ),
    ("no provider", message(address=pb.Address(channel=SMS, address=_GERMAN)), "message.address.channel"),
]


@pytest.mark.parametrize(("given", "field"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
async def test_what_cannot_be_sent_names_the_field(door: Door, given: pb.Message, field: str) -> None:
    sender = Sender(door.notify, door.world, new_org())
    error = await refused(sender.call("SendMessage", pb.SendMessageRequest(message=given)))
    assert (error.code, error.reason_name) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in error.fields] == [field]
    assert not (await sender.list()).messages


@pytest.mark.parametrize(
    ("month", "readings"), [(3, ("01:30:00+01:00", "03:30:00+02:00")), (10, ("02:30:00+02:00", "02:30:00+01:00"))]
)
async def test_a_local_time_that_is_not_one_instant_is_refused_with_both(
    door: Door, waiting: Sender, month: int, readings: tuple[str, str]
) -> None:
    """Clocks in Berlin change on the last Sunday of March and of October."""
    year = (await door.world.row("SELECT extract(year FROM app_now())::int + 1 AS year"))["year"]
    last = date(year, month, 31)
    day = last - timedelta(days=(last.weekday() + 1) % 7)
    date_time, both = f"{day}T02:30", [f"{day}T{reading}" for reading in readings]
    await door.world.method(waiting.org, email=_MAIL)
    error = await refused(
        waiting.call("SendMessage", pb.SendMessageRequest(message=message(local_time=local(date_time))))
    )
    assert error.fields[0].field == "message.local_time.date_time"
    for instant in both:
        assert instant in error.fields[0].description
        stamp = Timestamp()
        stamp.FromJsonString(instant)
        assert (await waiting.send(send_time=stamp)).send_time == stamp, "each of them may be given instead"


async def test_a_local_time_is_kept_beside_its_instant_until_either_is_changed(door: Door, waiting: Sender) -> None:
    await door.world.method(waiting.org, email=_MAIL)
    row = await door.world.row("SELECT extract(year FROM app_now())::int + 1 AS year")
    made = await waiting.send(local_time=local(f"{row['year']}-07-01T09:00"))
    assert made.send_time.ToJsonString() == f"{row['year']}-07-01T07:00:00Z"
    made.text = "Dinner."
    made = await waiting.update(made, "text")
    assert made.local_time.date_time == f"{row['year']}-07-01T09:00"
    made.local_time.time_zone = "UTC"
    made = await waiting.update(made, "local_time.time_zone")
    assert made.send_time.ToJsonString() == f"{row['year']}-07-01T09:00:00Z"
    made.send_time.CopyFrom(await waiting.at(HOUR))
    changed = await waiting.update(made, "send_time")
    assert (changed.HasField("local_time"), changed.send_time) == (False, made.send_time)


async def test_a_user_without_a_way_to_be_reached_is_refused_at_once(door: Door, waiting: Sender) -> None:
    request = pb.SendMessageRequest(message=message())
    assert (await refused(waiting.call("SendMessage", request))).reason_name == "CONTACT_METHOD_NOT_FOUND"
    await door.world.method(waiting.org, email=_MAIL, verified=False)
    assert (await refused(waiting.call("SendMessage", request))).reason_name == "NOT_VERIFIED"
    await door.world.method(waiting.org, voice=_GERMAN)
    error = await refused(waiting.call("SendMessage", request))
    assert error.reason_name == "NOT_VERIFIED", "nobody is called for a message"


async def test_a_text_message_goes_to_numbers_of_allowed_countries_alone(world: World, twilio: TwilioServer) -> None:
    async with world.replica(**twilio.settings(), message_countries="DE,AT") as notify:
        sender = Sender(notify, world, new_org())
        abroad = pb.SendMessageRequest(message=message(address=pb.Address(channel=SMS, address=_SWISS)))
        error = await refused(sender.call("SendMessage", abroad))
        assert error.fields[0].field == "message.address.address"
        assert "AT, DE" in error.fields[0].description
        assert "CH" in error.fields[0].description
        sent = await sender.send(subject="Lunch", address=pb.Address(channel=SMS, address="+49 151 1234 5678"))
        assert sent.address.address == _GERMAN
        got = await world.inbox.wait_for(lambda m: m.address == _GERMAN, "the text message")
        assert got.subject == "Lunch: Standup moves to ten."
        await sender.becomes(sent, State.MESSAGE_STATE_SENT)


async def test_what_is_not_scheduled_any_more_cannot_be_changed(world: World, sender: Sender) -> None:
    await world.method(sender.org, email=_MAIL)
    cancelled, sent = await sender.send(later=HOUR), await sender.send()
    assert await sender.cancel(cancelled)
    await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    for over in (cancelled, sent):
        over.etag = ""
        error = await refused(sender.update(over, "text"))
        assert (error.code, error.reason_name) == (grpc.StatusCode.FAILED_PRECONDITION, "MESSAGE_STATE")


async def test_a_change_is_checked_as_a_whole_and_by_its_etag(door: Door, waiting: Sender) -> None:
    await door.world.method(waiting.org, email=_MAIL)
    made = await waiting.send(later=HOUR)
    stale = pb.Message()
    stale.CopyFrom(made)
    made.subject = "Standup"
    made = await waiting.update(made, "subject")
    assert (await refused(waiting.update(stale, "subject"))).reason_name == "ETAG_MISMATCH"
    assert (await refused(waiting.update(made, "colour"))).reason_name == "UPDATE_MASK_INVALID"
    made.text = ""
    assert (await refused(waiting.update(made, "text"))).fields[0].field == "message.text"
    made.user = "users/nobody"
    assert (await refused(waiting.update(made, "user"))).reason_name == "CONTACT_METHOD_NOT_FOUND"
    moved = pb.Message(name=made.name, address=mail_to("press@example.com"))
    after = await waiting.update(moved, "address")
    assert (after.WhichOneof("to"), after.subject) == ("address", "Standup")


async def test_messages_of_another_tenant_do_not_exist(door: Door, waiting: Sender) -> None:
    await door.world.method(waiting.org, email=_MAIL)
    made = await waiting.send(later=HOUR)
    stranger = Sender(door.notify, door.world, new_org())
    calls = [stranger.get(made), stranger.cancel(made), stranger.update(made, "text")]
    for call in calls:
        error = await refused(call)
        assert (error.code, error.reason_name) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    assert not (await stranger.list()).messages
    request = pb.SendMessageRequest(message=message())
    assert (await refused(stranger.call("SendMessage", request))).reason_name == "CONTACT_METHOD_NOT_FOUND"
    assert await waiting.state(made) == State.MESSAGE_STATE_SCHEDULED


async def test_messages_are_listed_by_time_page_by_page(door: Door, waiting: Sender) -> None:
    await door.world.method(waiting.org, email=_MAIL)
    await door.world.method(waiting.org, "users/ben", email="ben@example.com")
    made = [await waiting.send(later=HOUR + timedelta(minutes=minutes)) for minutes in (30, 10, 20)]
    other = await waiting.send(user="users/ben", later=HOUR)
    by_time = [made[1].name, made[2].name, made[0].name]

    async def listed(**fields: Any) -> list[str]:
        names, token = [], ""
        for _ in range(10):
            answer = await waiting.list(page_size=2, page_token=token, **fields)
            names += [each.name for each in answer.messages]
            token = answer.next_page_token
            if not token:
                return names
        raise AssertionError("no end")

    assert await listed(scheduled=True) == [other.name, *by_time]
    assert await listed() == [*reversed(by_time), other.name]
    assert await listed(user=ANA, scheduled=True) == by_time
    token = (await waiting.list(page_size=1)).next_page_token
    error = await refused(waiting.list(page_size=1, page_token=token, scheduled=True))
    assert error.reason_name == "PAGE_TOKEN_INVALID"


async def test_a_tenant_may_have_so_many_scheduled_messages_and_send_so_many_to_addresses(world: World) -> None:
    limits: dict[str, Any] = {"tenant_scheduled_messages": 2, "tenant_addressed_messages_per_minute": 1}
    async with world.replica(**limits) as notify:
        sender = Sender(notify, world, new_org())
        await world.method(sender.org, email=_MAIL)
        first = await sender.send(later=HOUR, address=mail_to("press@example.com"))
        error = await refused(sender.send(later=HOUR, address=mail_to("press@example.com")))
        assert (error.reason_name, error.metadata["limit"]) == ("RATE_LIMITED", "addressed_messages_per_minute")
        await sender.send(later=HOUR)
        error = await refused(sender.send(later=HOUR))
        assert (error.reason_name, dict(error.metadata)) == (
            "LIMIT_REACHED",
            {"limit": "scheduled_messages", "allowed": "2"},
        )
        await sender.cancel(first)
        await sender.send(later=HOUR)
        other = Sender(notify, world, new_org())
        await other.send(later=HOUR, address=mail_to("press@example.com"))


async def test_a_name_that_was_used_for_another_message_is_refused(door: Door, waiting: Sender) -> None:
    await door.world.method(waiting.org, email=_MAIL)
    id = str(uuid.uuid4())
    await waiting.send(request_id=id, text="One.", user=ANA)
    assert (await refused(waiting.send(request_id=id, text="Two.", user=ANA))).reason_name == "REQUEST_ID_REUSED"


RECURRING: list[tuple[str, dict[str, Any], str]] = [
    ("no rule", {"rule": ""}, "rule"),
    ("an unknown part", {"rule": "FREQ=DAILY;BYHOUR=9"}, "rule"),
    ("a rule that no day fits", {"rule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "rule"),
    ("a rule that is over", {"rule": "FREQ=DAILY;UNTIL=20200101T000000Z"}, "rule"),
    ("no start", {"start": None}, "start"),
    ("no such day", {"start": local("2027-02-30T09:00")}, "start.date_time"),
    ("long ago", {"start": local("1999-12-31T09:00")}, "start.date_time"),
    ("far ahead", {"start": local("9999-12-31T09:00")}, "start.date_time"),
    ("no zone", {"start": local("2026-01-01T09:00", "Mars/Olympus")}, "start.time_zone"),
    ("a time of its own", {"message": message(send_time=Timestamp(seconds=1))}, "message.send_time"),
    ("nobody", {"message": pb.Message(text="Lunch.")}, "message.to"),
    ("no mail address", {"message": pb.Message(text="x", address=mail_to("ana at home"))}, "message.address.address"),
]


@pytest.mark.parametrize(("given", "field"), [each[1:] for each in RECURRING], ids=[each[0] for each in RECURRING])
async def test_what_cannot_recur_names_the_field(
    door: Door, waiting: Sender, given: dict[str, Any], field: str
) -> None:
    await door.world.method(waiting.org, email=_MAIL)
    fields = {"message": message(), "start": local("2026-01-01T09:00"), "rule": "FREQ=DAILY", **given}
    request = recurring_pb.CreateRecurringMessageRequest(**fields)
    error = await refused(door.notify.recurring_messages.CreateRecurringMessage(request, metadata=bearer(waiting.org)))
    assert (error.code, error.reason_name) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in error.fields] == [field]


async def test_a_recurring_message_is_its_tenants_alone_and_ends_for_good(door: Door, waiting: Sender) -> None:
    await door.world.method(waiting.org, email=_MAIL)
    stub, mine, theirs = door.notify.recurring_messages, bearer(waiting.org), bearer(new_org())
    request = recurring_pb.CreateRecurringMessageRequest(
        request_id=str(uuid.uuid4()), message=message(), start=local("2026-01-01T09:00"), rule="FREQ=DAILY"
    )
    made = (await stub.CreateRecurringMessage(request, metadata=mine)).recurring_message
    assert (await stub.CreateRecurringMessage(request, metadata=mine)).recurring_message == made
    named: list[tuple[Any, Any]] = [
        (stub.GetRecurringMessage, recurring_pb.GetRecurringMessageRequest(name=made.name)),
        (stub.PauseRecurringMessage, recurring_pb.PauseRecurringMessageRequest(name=made.name)),
        (stub.ResumeRecurringMessage, recurring_pb.ResumeRecurringMessageRequest(name=made.name)),
        (stub.EndRecurringMessage, recurring_pb.EndRecurringMessageRequest(name=made.name)),
    ]
    for call, asked in named:
        assert (await refused(call(asked, metadata=theirs))).reason_name == "RECURRING_MESSAGE_NOT_FOUND"
    everything = recurring_pb.ListRecurringMessagesRequest()
    assert not (await stub.ListRecurringMessages(everything, metadata=theirs)).recurring_messages
    assert list((await stub.ListRecurringMessages(everything, metadata=mine)).recurring_messages) == [made]
    for call, asked in named:
        await call(asked, metadata=mine)
    for call, asked in named[1:3]:
        assert (await refused(call(asked, metadata=mine))).reason_name == "ALREADY_ENDED"


def test_addresses_are_taken_of_channels_whose_address_says_all() -> None:
    for channel, type_ in TYPES.items():
        secret = bool(type_.hidden_field) or type_.mask is not None or not type_.address_field
        assert not (channel in WITH_ADDRESS and secret)

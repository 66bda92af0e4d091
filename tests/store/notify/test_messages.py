"""Messages of users and machines: sent at once and at their time, changed, cancelled, late."""

import asyncio
import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tocsin.notify.v1 import message_service_pb2 as pb_message
from tocsin.notify.v1 import notification_pb2
from tocsin.notify.v1 import notification_service_pb2 as pb
from tocsin.notify.v1 import recurring_message_service_pb2 as pb_recurring
from tocsin_notify.work.retention import Retention

from tests.rounds import LONG
from tests.store.notify.messages import ANA, HOUR, Sender, State, in_waves, mail_to, sender
from tests.store.notify.support import Notify, World, bearer, job, new_org, until

__all__ = ["sender"]


_MAIL = "ana@example.com"
_RACES = 10_020 if LONG else 60


async def test_a_message_to_a_user_is_sent_at_once_through_one_contact_method(world: World, sender: Sender) -> None:
    await world.method(sender.org, email=_MAIL)
    await world.method(sender.org, webhook="ana")
    about = f"incidents/{uuid.uuid4()}"
    sent = await sender.send(subject="Standup", about=about)
    mail = await world.inbox.wait_for(lambda m: m.address == _MAIL, "the message")
    assert mail.subject == "[message] Standup"
    assert mail.body is not None
    assert "Standup moves to ten." in mail.body.decode()
    assert f"About: {about}\r\nSent by users/ana with Tocsin." in mail.body.decode()
    read = await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert read.message.sender == ANA
    assert [attempt.outcome for each in read.notifications for attempt in each.attempts] == [
        notification_pb2.ATTEMPT_OUTCOME_SENT
    ]
    assert world.arrived("ana") == 0, "one contact method is enough"


@pytest.mark.parametrize("about", [f"incidents/{uuid.UUID(int=7)}", "incidents/42"])
async def test_a_message_names_no_incident_that_its_tenant_does_not_have(
    world: World, notify: Notify, sender: Sender, about: str
) -> None:
    await world.method(sender.org, email=_MAIL)
    world.escalation.unknown_incidents = {about}
    known = f"incidents/{uuid.uuid4()}"
    waits = await sender.send(later=HOUR, about=known)
    assert (await sender.send(later=HOUR, about="alerts/7")).about == "alerts/7", "those are ingest's"
    who = bearer(sender.org)
    wrong = pb_message.Message(user=ANA, text="-", about=about)
    moved = pb_message.UpdateMessageRequest(message=pb_message.Message(name=waits.name, about=about))
    again = pb_recurring.CreateRecurringMessageRequest(message=wrong, rule="FREQ=DAILY")
    again.start.date_time, again.start.time_zone = "2099-01-05T09:00", "UTC"
    for refused in (
        sender.send(about=about),
        notify.messages.UpdateMessage(moved, metadata=who),
        notify.recurring_messages.CreateRecurringMessage(again, metadata=who),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=f"message.about: {about} does not exist") as caught:
            await refused
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    batch = pb_message.BatchSendMessagesRequest(messages=[pb_message.Message(user=ANA, text="-", about=known), wrong])
    results = (await notify.messages.BatchSendMessages(batch, metadata=who)).results
    assert [each.WhichOneof("result") for each in results] == ["message", "error"]
    assert (await sender.get(waits)).message.about == known


async def test_while_escalation_does_not_answer_a_message_goes_with_any_incident_it_names(
    world: World, sender: Sender
) -> None:
    world.escalation.tells_no_stops = True
    about = f"incidents/{uuid.uuid4()}"
    world.escalation.unknown_incidents = {about}
    assert (await sender.send(address=mail_to("press@example.com"), about=about)).about == about


async def test_a_message_to_an_address_goes_there(world: World, sender: Sender) -> None:
    sent = await sender.send(address=mail_to("press@example.com"))
    mail = await world.inbox.wait_for(lambda m: m.address == "press@example.com", "the message")
    assert mail.subject == "[message] Standup moves to ten."
    read = await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert read.message.address.address == "press@example.com"


async def test_a_scheduled_message_waits_for_its_time(world: World, sender: Sender) -> None:
    await world.method(sender.org, email=_MAIL)
    sent = await sender.send(later=HOUR)
    other = await sender.send(later=2 * HOUR, text="Later still.")
    assert sent.state == State.MESSAGE_STATE_SCHEDULED
    listed = await sender.list(scheduled=True)
    assert [each.name for each in listed.messages] == [sent.name, other.name]
    await world.forward(HOUR)
    read = await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert read.notifications[0].lateness.ToTimedelta() >= timedelta(0)
    assert await sender.state(other) == State.MESSAGE_STATE_SCHEDULED
    assert [each.name for each in (await sender.list(scheduled=True)).messages] == [other.name]
    assert [each.name for each in (await sender.list()).messages] == [other.name, sent.name]
    assert world.arrived(_MAIL) == 1


async def test_the_first_attempt_begins_in_the_transaction_that_makes_the_page(world: World, sender: Sender) -> None:
    """As the times of the two tell: it is not looked for and claimed by a second one."""
    await world.method(sender.org, email=_MAIL)
    sent = await sender.send()
    await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    row = await world.row(
        """SELECT a.start_time = p.create_time AS together FROM pages p JOIN notifications n ON n.page_id = p.id
           JOIN attempts a ON a.notification_id = n.id WHERE p.org_id = $1""",
        sender.org,
    )
    assert row["together"]


async def test_the_same_request_twice_is_one_message(world: World, sender: Sender) -> None:
    await world.method(sender.org, email=_MAIL)
    id = str(uuid.uuid4())
    first, second = await asyncio.gather(sender.send(request_id=id), sender.send(request_id=id))
    assert first == second
    await sender.becomes(first, State.MESSAGE_STATE_SENT)
    assert world.arrived(_MAIL) == 1


async def test_what_was_changed_is_sent_and_what_was_cancelled_is_not(world: World, sender: Sender) -> None:
    await world.method(sender.org, email=_MAIL)
    changed, cancelled = await sender.send(later=HOUR), await sender.send(later=HOUR, text="Never mind.")
    changed.text = "Standup moves to eleven."
    changed.send_time.CopyFrom(await sender.at(3 * HOUR))
    after = await sender.update(changed, "text", "send_time")
    assert after.etag != changed.etag
    assert await sender.cancel(cancelled)
    assert await sender.cancel(cancelled), "a repeat says the same"
    await world.forward(2 * HOUR)
    marker = await sender.send(text="A marker: what was due before it has been looked at.")
    await sender.becomes(marker, State.MESSAGE_STATE_SENT)
    assert await sender.state(changed) == State.MESSAGE_STATE_SCHEDULED
    read = await sender.get(cancelled)
    assert (read.message.state, read.message.state_reason) == (
        State.MESSAGE_STATE_CANCELLED,
        "cancelled by users/ana",
    )
    await world.forward(4 * HOUR)
    await sender.becomes(changed, State.MESSAGE_STATE_SENT)
    bodies = [message.body.decode() for message in world.inbox.messages if message.body]
    assert sum("eleven" in body for body in bodies) == 1
    assert not any("ten" in body.split() or "Never mind" in body for body in bodies)


async def test_a_message_that_was_sent_cannot_be_cancelled_in_time(world: World, sender: Sender) -> None:
    await world.method(sender.org, email=_MAIL)
    sent = await sender.send()
    await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert not await sender.cancel(sent)
    assert not await sender.cancel(sent)
    assert await sender.state(sent) == State.MESSAGE_STATE_SENT


async def test_a_cancel_ends_what_is_tried_again(world: World) -> None:
    async with world.replica(backoff_base_seconds=3600.0, backoff_cap_seconds=3600.0) as notify:
        sender = Sender(notify, world, new_org())
        await world.method(sender.org, email=_MAIL)
        world.mail.refuse[_MAIL] = "450 later"
        sent = await sender.send()

        async def waits() -> bool:
            return await world.states("org_id = $1 AND attempts > 0", sender.org) == ["pending"]

        await until(waits)
        assert not await sender.cancel(sent), "an attempt was made"
        await sender.becomes(sent, State.MESSAGE_STATE_CANCELLED)
        world.mail.refuse.clear()
        await world.forward(2 * HOUR)
        await sender.becomes(await sender.send(text="A marker."), State.MESSAGE_STATE_SENT)
        assert world.arrived(_MAIL) == 1, "the marker alone"


async def test_a_cancel_while_the_attempt_is_under_way_lets_no_other_follow(world: World, sender: Sender) -> None:
    """The attempt fails after the cancel has returned: its retry is not made."""
    await world.method(sender.org, webhook="ana")
    held = world.hooks.hang["ana"] = asyncio.Event()
    world.hooks.will_answer("ana", [503])
    sent = await sender.send()
    await until(lambda: world.hooks.held["ana"])
    assert not await sender.cancel(sent)
    held.set()
    await sender.becomes(sent, State.MESSAGE_STATE_CANCELLED)
    assert (len(world.hooks.refused), world.arrived("ana")) == (1, 0)


async def test_what_was_due_while_everything_was_down_is_sent_once_or_skipped(world: World) -> None:
    org = new_org()
    await world.method(org, email=_MAIL)
    async with world.replica() as notify:
        before = Sender(notify, world, org)
        late = await before.send(later=HOUR, text="Late is better than never.")
        skipped = await before.send(later=HOUR, text="Lunch is ready.", expire_after=Duration(seconds=600))
        in_time = await before.send(later=HOUR, text="Still fresh.", expire_after=Duration(seconds=7200))
    await world.forward(HOUR + timedelta(minutes=30))
    async with world.replica() as one, world.replica() as other:
        sender = Sender(one, world, org)
        await sender.becomes(late, State.MESSAGE_STATE_SENT)
        await Sender(other, world, org).becomes(in_time, State.MESSAGE_STATE_SENT)
        read = await sender.becomes(skipped, State.MESSAGE_STATE_SKIPPED)
        assert read.message.state_reason == "the time in which it may be sent is over"
        assert await sender.cancel(skipped), "nothing of it was tried, and nothing will be"
    assert world.arrived(_MAIL) == 2


async def test_a_message_is_failed_with_a_dead_letter_when_its_user_cannot_be_reached_any_more(
    world: World, sender: Sender, notify: Notify
) -> None:
    method = await world.method(sender.org, email=_MAIL)
    sent = await sender.send(later=HOUR)
    await world.admin.execute("UPDATE contact_methods SET disabled = true WHERE id = $1", method)
    await world.forward(HOUR)
    read = await sender.becomes(sent, State.MESSAGE_STATE_FAILED)
    assert "disabled" in read.message.state_reason
    await world.admin.execute("UPDATE contact_methods SET disabled = false WHERE id = $1", method)
    await redrive_all(notify, sender.org)
    await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert world.arrived(_MAIL) == 1


async def test_a_message_that_failed_and_was_cancelled_is_not_sent_by_a_redrive(
    world: World, sender: Sender, notify: Notify
) -> None:
    method = await world.method(sender.org, email=_MAIL)
    sent = await sender.send(later=HOUR)
    await world.admin.execute("UPDATE contact_methods SET disabled = true WHERE id = $1", method)
    await world.forward(HOUR)
    await sender.becomes(sent, State.MESSAGE_STATE_FAILED)
    assert not await sender.cancel(sent), "it was over"
    await world.admin.execute("UPDATE contact_methods SET disabled = false WHERE id = $1", method)
    await redrive_all(notify, sender.org)

    async def stopped() -> bool:
        return await world.states("org_id = $1", sender.org) == ["cancelled"]

    await until(stopped)
    assert await sender.state(sent) == State.MESSAGE_STATE_CANCELLED


async def test_a_method_that_fails_gives_way_to_the_next(world: World, sender: Sender) -> None:
    await world.method(sender.org, webhook="ana")
    await world.method(sender.org, email=_MAIL)
    world.hooks.will_answer("ana", [410])
    sent = await sender.send()
    read = await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert [each.state for each in read.notifications] == [
        notification_pb2.NOTIFICATION_STATE_DEAD,
        notification_pb2.NOTIFICATION_STATE_SENT,
    ]


async def test_a_cancel_at_the_instant_of_sending_says_what_is_so(world: World) -> None:
    """Some are cancelled before, some while they are released and sent by two replicas, some after."""
    org = new_org()
    settings: dict[str, Any] = {
        "attempt_timeout_seconds": 60.0,
        "lease_seconds": 90.0,
        "tenant_notifications_per_minute": 100_000,
    }
    settings |= {"tenant_addressed_messages_per_minute": 100_000, "tenant_scheduled_messages": 100_000}
    # A plain stub does not repeat a call whose connection is sent away.
    settings["grpc_max_connection_age_seconds"] = 600.0
    async with world.replica(**settings) as one, world.replica(**settings) as other:
        senders = [Sender(one, world, org), Sender(other, world, org)]

        send_time = await senders[0].at(HOUR)

        async def send(number: int) -> pb_message.Message:
            return await senders[number % 2].send(send_time=send_time, address=mail_to(f"{number}@example.com"))

        made = await in_waves(map(send, range(_RACES)))
        early, racing, late = made[:10], made[10:-10], made[-10:]
        answers = {message.name: await senders[0].cancel(message) for message in early}
        assert all(answers.values())
        await world.forward(HOUR)

        async def race(number: int) -> None:
            answers[racing[number].name] = await senders[number % 2].cancel(racing[number])

        await in_waves(race(number) for number in range(len(racing)))
        for message in late:
            await senders[0].becomes(message, State.MESSAGE_STATE_SENT)
            answers[message.name] = await senders[1].cancel(message)
            assert not answers[message.name]

        async def settled() -> bool:
            waiting = "org_id = $1 AND state IN ('pending', 'sending')"
            return not await world.states(waiting, org)

        await until(settled, 60.0)
        states = await in_waves(senders[0].state(message) for message in made)
    arrivals = Counter(message.address for message in world.inbox.messages)
    arrived = {number for number in range(_RACES) if arrivals[f"{number}@example.com"]}
    told_in_time = {number for number, message in enumerate(made) if answers[message.name]}
    assert not arrived & told_in_time, "in time, and sent all the same"
    assert arrived | told_in_time == set(range(_RACES)), "too late, and not sent"
    assert {number for number, state in enumerate(states) if state == State.MESSAGE_STATE_SENT} == arrived
    assert arrivals.total() == len(arrived), "none twice"


async def redrive_all(notify: Notify, org: str) -> None:
    """Every dead letter of the tenant."""
    letters = await notify.notifications.ListDeadLetters(pb.ListDeadLettersRequest(), metadata=bearer(org))
    names = [letter.name for letter in letters.dead_letters]
    assert names
    request = pb.RedriveDeadLettersRequest(names=names)
    await notify.notifications.RedriveDeadLetters(request, metadata=bearer(org))


async def test_the_address_of_a_message_is_forgotten_and_its_row_goes_with_the_last_page_of_its_time(
    world: World, notify: Notify, sender: Sender
) -> None:
    sent = await sender.send(address=mail_to("press@example.com"))
    await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    retention = Retention(notify.runtime.database, days=30, fence_days=30, event_days=30)
    lives = await world.method(sender.org, webhook="ana")
    await notify.set_rules(sender.org, ANA, (notification_pb2.URGENCY_HIGH, lives, 86_400))
    await notify.submit(job(sender.org))

    async def addresses() -> list[str]:
        await retention()
        found = await world.admin.fetch("SELECT address FROM contact_methods WHERE id <> $1", lives)
        return [row["address"] for row in found]

    assert await addresses() == ["press@example.com"]
    await _age(world, "contact_methods", "create_time", 2)
    assert await addresses() == [""], "a day after it was needed"
    await _age(world, "contact_methods", "delete_time", 29)
    assert await addresses() == [""]
    await _age(world, "contact_methods", "delete_time", 9)
    await _age(world, "pages", "create_time", 40)
    assert await addresses() == [""], "a page of that time still waits for something"
    await world.admin.execute("UPDATE notifications SET state = 'cancelled', due_time = NULL WHERE state = 'pending'")
    assert await addresses() == []
    assert await world.admin.fetchval("SELECT count(*) FROM contact_methods WHERE id = $1", lives) == 1
    assert (await sender.get(sent)).message.address.address == "press@example.com", "the message itself says it"


async def _age(world: World, table: str, column: str, days: int) -> None:
    await world.admin.execute(f"UPDATE {table} SET {column} = {column} - $1::interval", timedelta(days=days))

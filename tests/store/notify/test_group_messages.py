"""Messages to teams and to those who are on call: who gets them, once, and what the sender is told."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tocsin.notify.v1 import message_service_pb2 as pb_message
from tocsin.notify.v1 import notification_service_pb2 as pb
from tocsin.notify.v1 import recurring_message_service_pb2 as pb_recurring
from tocsin_kit.db.pool import Tx
from tocsin_notify.domain.message import Stored
from tocsin_notify.store.messages import messages

from tests.rounds import LONG
from tests.store.notify.messages import HOUR, Sender, State, in_waves, sender
from tests.store.notify.support import Notify, World, bearer, new_org, until

__all__ = ["sender"]

TEAM, PRIMARY = "teams/web", "schedules/primary"
_RACES = 2_000 if LONG else 40


async def people(world: World, org: str, *names: str, target: str = TEAM) -> None:
    """Each has an address, and all of them are now the team or those on call."""
    for name in names:
        await world.method(org, f"users/{name}", email=mail_of(org, name))
    world.escalation.people[org, target] = [f"users/{name}" for name in names]


def mail_of(org: str, name: str) -> str:
    return f"{name}@{org}.example.com"


async def received(world: World, org: str, *names: str) -> list[int]:
    """How many mails each got."""
    return [world.arrived(mail_of(org, name)) for name in names]


async def test_each_member_of_a_team_gets_a_message_of_their_own_and_the_sender_sees_one(
    world: World, sender: Sender
) -> None:
    await people(world, sender.org, "ana", "ben")
    world.escalation.people[sender.org, TEAM] = ["users/ana", "users/ben", "users/cem"]  # Cem has no address
    sent = await sender.send(team=TEAM, subject="Standup")
    assert (sent.team, sent.state) == (TEAM, State.MESSAGE_STATE_SCHEDULED)
    read = await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert list(read.receivers) == ["users/ana", "users/ben", "users/cem"]
    assert read.message.state_reason == "users/cem: no verified contact method"
    assert await received(world, sender.org, "ana", "ben") == [1, 1]
    assert [each.name for each in (await sender.list()).messages] == [sent.name]
    parts = (await sender.list(parent=sent.name)).messages
    assert {each.user: each.state for each in parts} == {
        "users/ana": State.MESSAGE_STATE_SENT,
        "users/ben": State.MESSAGE_STATE_SENT,
        "users/cem": State.MESSAGE_STATE_FAILED,
    }
    [of_ben] = (await sender.list(user="users/ben")).messages
    assert (of_ben.parent, len((await sender.get(of_ben)).notifications)) == (sent.name, 1)


async def test_who_is_on_call_when_it_is_sent_gets_it_and_not_who_was_when_it_was_written(
    world: World, sender: Sender
) -> None:
    await people(world, sender.org, "ana", target=PRIMARY)
    sent = await sender.send(schedule=PRIMARY, later=HOUR)
    sent.text = "Standup moves to eleven."
    await sender.update(sent, "text")
    await people(world, sender.org, "ben", target=PRIMARY)
    await world.forward(HOUR)
    read = await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert list(read.receivers) == ["users/ben"]
    assert await received(world, sender.org, "ana", "ben") == [0, 1]


async def test_a_replica_that_dies_and_two_that_race_send_it_once(
    world: World, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people(world, sender.org, "ana", "ben")
    real, died = messages.end, []

    async def dies(tx: Tx, ends: Sequence[tuple[UUID, Stored, str]]) -> None:
        await real(tx, ends)
        died.append(len(ends))
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(messages, "end", dies)
        sent = [await sender.send(team=TEAM) for _ in range(5)]
        await until(lambda: sum(died) == len(sent))
    assert not (await sender.list(parent=sent[0].name)).messages, "nothing was committed"
    async with world.replica():
        await world.forward(timedelta(seconds=70))
        for each in sent:
            await sender.becomes(each, State.MESSAGE_STATE_SENT)
    assert await received(world, sender.org, "ana", "ben") == [5, 5]


async def test_a_team_that_does_not_exist_is_refused_and_nothing_is_kept_when_escalation_cannot_say(
    world: World, sender: Sender
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await sender.send(team="teams/nobody")
    assert unknown.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert unknown.value.details() == "message.team: teams/nobody does not exist; create it first"
    world.escalation.knows_nobody_of.add(sender.org)
    with pytest.raises(grpc.aio.AioRpcError) as away:
        await sender.send(schedule=PRIMARY)
    assert away.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not (await sender.list()).messages


async def test_a_team_without_members_is_told_and_a_redrive_sends_it_to_who_is_there_then(
    world: World, notify: Notify, sender: Sender
) -> None:
    await people(world, sender.org)
    sent = await sender.send(team=TEAM)
    read = await sender.becomes(sent, State.MESSAGE_STATE_FAILED)
    assert read.message.state_reason == "teams/web has no member who is not disabled"
    assert not await sender.cancel(sent), "it is over"
    stub: Any = notify.notifications
    metadata = bearer(sender.org)
    [letter] = (await stub.ListDeadLetters(pb.ListDeadLettersRequest(), metadata=metadata)).dead_letters
    assert letter.detail == read.message.state_reason
    await people(world, sender.org, "ana")
    await stub.RedriveDeadLetters(pb.RedriveDeadLettersRequest(names=[letter.name]), metadata=metadata)
    await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert await received(world, sender.org, "ana") == [1]


async def test_while_escalation_is_away_a_message_waits_or_is_skipped_and_holds_up_no_other_tenant(
    world: World, notify: Notify, sender: Sender
) -> None:
    other = Sender(notify, world, new_org())
    for org in (sender.org, other.org):
        await people(world, org, "ana")
    waits = await sender.send(team=TEAM, later=HOUR)
    skipped = await sender.send(team=TEAM, later=HOUR, expire_after=Duration(seconds=60))
    goes = await other.send(team=TEAM, later=HOUR)
    world.escalation.knows_nobody_of.add(sender.org)
    await world.forward(HOUR)
    await other.becomes(goes, State.MESSAGE_STATE_SENT)

    async def says_why() -> bool:
        return (await sender.get(waits)).message.state_reason.startswith("waits for escalation")

    await until(says_why)
    await world.forward(HOUR + timedelta(seconds=130))
    read = await sender.becomes(skipped, State.MESSAGE_STATE_SKIPPED)
    assert read.message.state_reason == (
        "not sent within expire_after: escalation could not be asked who the receivers are"
    )
    world.escalation.knows_nobody_of.clear()
    await world.forward(HOUR + timedelta(seconds=260))
    await sender.becomes(waits, State.MESSAGE_STATE_SENT)
    assert await received(world, sender.org, "ana") == [1]


async def test_a_cancel_in_time_reaches_no_user_and_one_that_is_late_says_so(world: World, sender: Sender) -> None:
    await people(world, sender.org, "ana", "ben")
    scheduled = await sender.send(team=TEAM, later=HOUR)
    assert await sender.cancel(scheduled)
    await world.forward(HOUR)
    sent = await sender.send(team=TEAM)
    await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    assert not await sender.cancel(sent)
    assert await sender.state(sent) == State.MESSAGE_STATE_SENT
    assert await sender.state(scheduled) == State.MESSAGE_STATE_CANCELLED
    assert await received(world, sender.org, "ana", "ben") == [1, 1]


async def test_a_cancel_at_the_instant_of_sending_says_what_is_so_of_the_whole_group(world: World) -> None:
    """Some are cancelled before they are divided, some while they are divided and sent by two replicas, some after."""
    org = new_org()
    settings: dict[str, Any] = {
        "attempt_timeout_seconds": 60.0,
        "lease_seconds": 90.0,
        "tenant_notifications_per_minute": 100_000,
    }
    async with (
        world.replica(**settings, tenant_scheduled_messages=100_000) as one,
        world.replica(**settings, tenant_scheduled_messages=100_000) as other,
    ):
        senders = [Sender(one, world, org), Sender(other, world, org)]
        for number in range(_RACES):
            await people(world, org, f"a{number}", f"b{number}", target=f"teams/t{number}")
        send_time = await senders[0].at(HOUR)
        made = await in_waves(
            senders[number % 2].send(send_time=send_time, team=f"teams/t{number}") for number in range(_RACES)
        )
        in_time = {number: await senders[0].cancel(made[number]) for number in range(5)}
        assert all(in_time.values())
        await world.forward(HOUR)

        async def race(number: int) -> None:
            in_time[number] = await senders[number % 2].cancel(made[number])

        await in_waves(race(number) for number in range(5, _RACES - 5))
        for number in range(_RACES - 5, _RACES):
            await senders[0].becomes(made[number], State.MESSAGE_STATE_SENT)
            await race(number)
            assert not in_time[number]

        async def settled() -> bool:
            return not await world.states("org_id = $1 AND state IN ('pending', 'sending')", org)

        await until(settled, 60.0)
    arrived = {number: sum(await received(world, org, f"a{number}", f"b{number}")) for number in range(_RACES)}
    assert not [number for number, told in in_time.items() if told and arrived[number]], (
        "in time, and sent all the same"
    )
    assert not [number for number, told in in_time.items() if not told and not arrived[number]], (
        "too late, and not sent"
    )
    assert max(arrived.values()) == 2, "none twice"


async def test_what_its_people_were_not_yet_sent_is_cancelled_with_it(world: World) -> None:
    async with world.replica(backoff_base_seconds=3600.0, backoff_cap_seconds=3600.0) as notify:
        sender = Sender(notify, world, new_org())
        await people(world, sender.org, "ana", "ben")
        world.mail.refuse[mail_of(sender.org, "ben")] = "450 later"
        sent = await sender.send(team=TEAM)

        async def ben_waits() -> bool:
            states = await world.states("org_id = $1 AND attempts > 0", sender.org)
            return sorted(states) == ["pending", "sent"]

        await until(ben_waits)
        assert await sender.state(sent) == State.MESSAGE_STATE_SENDING
        assert not await sender.cancel(sent), "Ana has it"
        parts = (await sender.list(parent=sent.name)).messages
        assert {each.user: each.state for each in parts} == {
            "users/ana": State.MESSAGE_STATE_SENT,
            "users/ben": State.MESSAGE_STATE_CANCELLED,
        }


async def test_a_recurring_message_goes_to_who_is_on_call_each_time(
    world: World, notify: Notify, sender: Sender
) -> None:
    await people(world, sender.org, "ana", target=PRIMARY)
    start = (await sender.at(HOUR)).ToDatetime().replace(microsecond=0)
    request = pb_recurring.CreateRecurringMessageRequest(
        message=pb_message.Message(schedule=PRIMARY, text="Check the backups."),
        start=pb_message.LocalTime(date_time=start.isoformat(), time_zone="UTC"),
        rule="FREQ=DAILY",
    )
    stub: Any = notify.recurring_messages
    made = (await stub.CreateRecurringMessage(request, metadata=bearer(sender.org))).recurring_message
    assert made.message.schedule == PRIMARY
    await world.forward(HOUR)
    await until(lambda: world.arrived(mail_of(sender.org, "ana")) == 1)
    await people(world, sender.org, "ben", target=PRIMARY)
    await world.forward(timedelta(days=1) + HOUR)
    await until(lambda: world.arrived(mail_of(sender.org, "ben")) == 1)
    assert await received(world, sender.org, "ana") == [1]

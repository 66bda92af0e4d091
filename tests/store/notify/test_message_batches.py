"""Messages that are sent and cancelled together: by one call, or by calls that arrive at the same time."""

import asyncio
import uuid

import pytest
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from tocsin.notify.v1 import message_service_pb2 as pb
from tocsin_notify.app.messages import release

from tests.store.notify.messages import ANA, HOUR, Sender, State, mail_to, sender
from tests.store.notify.support import Notify, World, new_org, until

__all__ = ["sender"]


async def test_each_message_of_a_batch_is_answered_by_itself(world: World, sender: Sender) -> None:
    await world.method(sender.org, email="ana@example.com")
    later = await sender.at(HOUR)
    request = pb.BatchSendMessagesRequest(
        request_id=str(uuid.uuid4()),
        messages=[
            pb.Message(user=ANA, text="One.", send_time=later),
            pb.Message(user="users/nobody", text="Two.", send_time=later),
            pb.Message(address=mail_to("press@example.com"), text="Three."),
            pb.Message(team="teams/unknown", text="Four."),
            pb.Message(address=mail_to("not an address"), text="Five."),
        ],
    )
    answer = await sender.call("BatchSendMessages", request)
    assert [_said(each) for each in answer.results] == [
        State.MESSAGE_STATE_SCHEDULED,
        "CONTACT_METHOD_NOT_FOUND",
        State.MESSAGE_STATE_SCHEDULED,
        "TEAM_NOT_FOUND",
        "INVALID_FIELD",
    ]
    assert await sender.call("BatchSendMessages", request) == answer, "a repeat makes nothing"
    waiting, sent = answer.results[0].message, answer.results[2].message
    await sender.becomes(sent, State.MESSAGE_STATE_SENT)
    listed = await sender.list()
    assert [each.name for each in listed.messages] == [waiting.name, sent.name]
    unknown = f"messages/{uuid.uuid4()}"
    cancel = pb.BatchCancelMessagesRequest(names=[sent.name, unknown, waiting.name])
    ended = await sender.call("BatchCancelMessages", cancel)
    assert [each.name for each in ended.results] == list(cancel.names)
    assert [each.cancelled.in_time for each in ended.results] == [False, False, True]
    assert _said(ended.results[1]) == "MESSAGE_NOT_FOUND"
    assert ended.results[2].cancelled.message.state == State.MESSAGE_STATE_CANCELLED


async def test_messages_that_are_due_together_wait_for_room_and_are_claimed_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a look is old before its first round has ended: the channel goes on, so there will be room."""
    monkeypatch.setattr(release, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(release, "_SLOW_SECONDS", 30.0)
    org, many = new_org(), 200
    await world.method(org, email="ana@example.com")
    async with world.replica(works=False) as door:
        sender = Sender(door, world, org)
        await sender.call(
            "BatchSendMessages",
            pb.BatchSendMessagesRequest(messages=[pb.Message(user=ANA, text="Standup.") for _ in range(many)]),
        )
    async with world.replica(SMTP_CONNECTIONS=60, org_concurrency=150, org_rate_per_second=0.0):
        await until(lambda: world.arrived("ana@example.com") == many)
        together = await world.admin.fetchval(
            """SELECT count(*) FROM pages p JOIN notifications n ON n.page_id = p.id JOIN attempts a ON a.notification_id = n.id
               WHERE a.start_time = p.create_time"""
        )
    assert together == many


async def test_calls_that_arrive_together_share_transactions_and_are_each_answered_and_noted(
    world: World, notify: Notify
) -> None:
    org = new_org()
    sender = Sender(notify, world, org)
    before = await world.admin.fetchval("SELECT count(DISTINCT xmin::text) FROM messages")
    later = await sender.at(HOUR)
    refused = asyncio.gather(sender.send(user="users/nobody"), return_exceptions=True)
    messages = await asyncio.gather(
        *(sender.send(address=mail_to(f"{number}@example.com"), send_time=later) for number in range(40))
    )
    assert "no contact method" in str(await refused)
    assert len({each.name for each in messages}) == 40
    transactions = await world.admin.fetchval("SELECT count(DISTINCT xmin::text) FROM messages") - before
    assert transactions < 20
    answers = await asyncio.gather(*(sender.cancel(each) for each in messages))
    assert all(answers)
    entries = await world.admin.fetch("SELECT method, resources, actor FROM audit_entries WHERE org_id = $1", org)
    noted = [(entry["method"].rpartition("/")[2], *entry["resources"], entry["actor"]) for entry in entries]
    assert sorted(noted) == sorted(
        (method, each.name, ANA) for each in messages for method in ("SendMessage", "CancelMessage")
    )


def _said(result: pb.SendMessageResult | pb.CancelMessageResult) -> int | str:
    """The state of the message, or the reason of the error."""
    if isinstance(result, pb.SendMessageResult) and result.HasField("message"):
        return result.message.state
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in result.error.details)
    reason: str = info.reason
    return reason

"""What people are told about a message."""

import uuid
from datetime import UTC, datetime

import pytest
from tocsin.notify.v1 import message_service_pb2 as pb
from tocsin_notify.domain.message import Step, Stored
from tocsin_notify.domain.page import State, Urgency
from tocsin_notify.rpc.message_mapping import message_to
from tocsin_notify.store.messages.messages import Message

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reached", "state", "reason"),
    [
        (State.SENT, pb.MESSAGE_STATE_SENT, ""),
        (State.CANCELLED, pb.MESSAGE_STATE_CANCELLED, "cancelled by users/ben"),
    ],
)
def test_a_cancel_that_came_too_late_is_no_reason(
    reached: State, state: pb.MessageState.ValueType, reason: str
) -> None:
    row = Message(
        user_id="users/ana",
        channel=None,
        address="",
        subject="Hello",
        body="",
        about="",
        urgency=Urgency.LOW,
        send_time=NOW,
        local_time="",
        time_zone="",
        expire_seconds=None,
        id=uuid.UUID(int=1),
        org_id="acme",
        sender="users/ben",
        state=Stored.STOPPED,
        state_reason="cancelled by users/ben",
        version=2,
        create_time=NOW,
        update_time=NOW,
    )
    told = message_to(row, [Step(reached, "", begun=reached is State.SENT)])
    assert (told.state, told.state_reason) == (state, reason)

"""Messages to the contract and back."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from tocsin.notify.v1 import message_service_pb2 as pb
from tocsin.notify.v1.contact_service_pb2 import EmailContact
from tocsin.notify.v1.notification_pb2 import CHANNEL_UNSPECIFIED, URGENCY_UNSPECIFIED
from tocsin_kit.errors import TocsinError, invalid, to_status
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import duration, timestamp
from tocsin_kit.rpc.validation import validate

from tocsin_notify.app.messages.messages import Cancelled, MessageInput
from tocsin_notify.app.pages.jobs import CHANNELS
from tocsin_notify.domain.message import GROUP, MessageState, Step, Stored, state_of, state_of_group
from tocsin_notify.domain.page import Channel, Urgency
from tocsin_notify.rpc.mapping import CHANNELS_OF, URGENCIES, URGENCIES_OF
from tocsin_notify.store.messages.messages import Content, Message

_STATES: Final = {state: pb.MessageState.Value(f"MESSAGE_STATE_{state.name}") for state in MessageState}
_UNREAD: Final = datetime.min.replace(tzinfo=UTC)


def message_to(row: Message, steps: Sequence[Step]) -> pb.Message:
    """A message with what became of it."""
    state = state_of_group(row.state, steps) if row.group else state_of(row.state, steps)
    # A cancel that came too late leaves its reason in the row.
    kept = "" if state is MessageState.SENT and row.state is Stored.STOPPED else row.state_reason
    message = pb.Message(
        name=f"messages/{row.id}",
        subject=row.subject,
        text=row.body,
        about=row.about,
        urgency=URGENCIES_OF.get(row.urgency, URGENCY_UNSPECIFIED),
        send_time=timestamp(row.send_time),
        expire_after=duration(None if row.expire_seconds is None else timedelta(seconds=row.expire_seconds)),
        state=_STATES[state],
        state_reason=kept or next((step.reason for step in reversed(steps) if step.reason), ""),
        sender=row.sender,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
        parent=f"messages/{row.parent}" if row.parent else "",
    )
    set_receiver(message, row.user_id, row.channel, row.address)
    if row.local_time:
        message.local_time.date_time = row.local_time
        message.local_time.time_zone = row.time_zone
    return message


def set_receiver(message: pb.Message, user: str, channel: Channel | None, address: str) -> None:
    """Say whom it is for."""
    if channel is None:
        message.user = user
    elif channel == GROUP:
        setattr(message, address.partition("s/")[0], address)
    else:
        message.address.channel = CHANNELS_OF.get(channel, CHANNEL_UNSPECIFIED)
        message.address.address = address


def sent_to(answer: Message | TocsinError) -> pb.SendMessageResult:
    """What came of one of a batch."""
    if isinstance(answer, TocsinError):
        return pb.SendMessageResult(error=to_status(answer))
    message = message_to(answer, ())
    return pb.SendMessageResult(name=message.name, message=message)


def cancelled_to(cancelled: Cancelled) -> pb.CancelMessageResponse:
    """What came of a cancel."""
    return pb.CancelMessageResponse(message=message_to(cancelled.message, cancelled.steps), in_time=cancelled.in_time)


def cancel_result_to(name: str, answer: Cancelled | TocsinError) -> pb.CancelMessageResult:
    """What came of one of a batch."""
    if isinstance(answer, TocsinError):
        return pb.CancelMessageResult(name=name, error=to_status(answer))
    return pb.CancelMessageResult(name=name, cancelled=cancelled_to(answer))


def sent_from(message: pb.Message) -> MessageInput:
    """As `given_from`, of a message that is new. Raises INVALID_FIELD."""
    if message.HasField("send_time") and message.HasField("local_time"):
        raise invalid("message.local_time", "must not be set together with send_time; give one of them")
    return given_from(message)


def try_sent_from(message: pb.Message) -> MessageInput | TocsinError:
    """The same for one of a batch."""
    try:
        return sent_from(message)
    except TocsinError as error:
        return error


def given_from(message: pb.Message) -> MessageInput:
    """What the caller asks for; the annotations hold. Raises INVALID_FIELD for what they cannot say."""
    if not message.text.strip():
        raise invalid("message.text", "must say something: it is white space alone")
    channel = CHANNELS[message.address.channel] if message.HasField("address") else None
    address = message.address.address
    if message.team or message.schedule:
        channel, address = GROUP, message.team or message.schedule
    if channel is Channel.EMAIL:
        _require_mail_address(message.address.address)
    local = message.local_time if message.HasField("local_time") else pb.LocalTime()
    content = Content(
        user_id=message.user,
        channel=channel,
        address=address,
        subject=message.subject,
        body=message.text,
        about=message.about,
        urgency=URGENCIES.get(message.urgency, Urgency.LOW),
        send_time=_UNREAD,
        local_time=local.date_time,
        time_zone=local.time_zone,
        expire_seconds=message.expire_after.ToTimedelta() / timedelta(seconds=1)
        if message.HasField("expire_after")
        else None,
    )
    return MessageInput(content, _send_time(message))


def _send_time(message: pb.Message) -> datetime | None:
    if not message.HasField("send_time"):
        return None
    try:
        return message.send_time.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid("message.send_time", "must be a time of the years 1 to 9999") from error


def _require_mail_address(address: str) -> None:
    """The one rule for mail addresses is that of contact methods."""
    try:
        validate(EmailContact(address=address))
    except TocsinError as error:
        raise invalid("message.address.address", error.fields[0].description) from error

"""The chapter about what comes later: a message that is cancelled in time, and a reminder."""

import time

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import reminder_service_pb2
from tocsin.notify.v1 import message_service_pb2

from tocsin_testkit.demo.story import Story, short
from tocsin_testkit.demo.tell import BLUE, GREEN

HOUR = 3600


async def later(story: Story) -> None:
    """Both are rows with a time."""
    story.tell.chapter("Later: a scheduled message and a reminder")
    await _cancelled(story)
    await _reminded(story)


async def _cancelled(story: Story) -> None:
    calls = story.tenant.admin.messages
    at = Timestamp(seconds=round(time.time()) + HOUR)
    message = message_service_pb2.Message(user=story.ben.name, text="The database moves tonight.", send_time=at)
    made = (await calls.SendMessage(message_service_pb2.SendMessageRequest(message=message))).message
    story.tell.happens(f"{short(made.name)} for ben is to be sent in an hour")
    answer = await calls.CancelMessage(message_service_pb2.CancelMessageRequest(name=made.name))
    assert answer.in_time, "the message was cancelled an hour before its time"
    story.tell.happens("it is cancelled, and in time: it will not be sent", GREEN)


async def _reminded(story: Story) -> None:
    reminder = reminder_service_pb2.Reminder(
        incident=story.exhausted, user=story.cem.name, text="Run the billing again."
    )
    request = reminder_service_pb2.CreateReminderRequest(reminder=reminder, delay=Duration(seconds=1))
    await story.tenant.admin.reminders.CreateReminder(request)
    story.tell.happens("cem is to be reminded of the failed billing run in a second …")
    received = await story.cem.is_told(story.exhausted, "message")
    story.tell.happens(f"cem gets {received.subject}", BLUE)

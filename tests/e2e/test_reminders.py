"""Reminders through the running services, to the phones of people."""

import json

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import reminder_service_pb2 as pb
from tocsin_testkit.tenant import Tenant

HOUR = Duration(seconds=3600)


async def test_ben_is_reminded_until_ana_acknowledges(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], minutes=10_000))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    wanted = pb.Reminder(incident=incident, user=ben.name, text="Call the vendor.", every=HOUR)
    made = (await ana.own.reminders.CreateReminder(pb.CreateReminderRequest(reminder=wanted))).reminder
    await tenant.passes(minutes=61)
    told = await ben.is_told(incident, "message")
    assert (told.subject, json.loads(told.body)["message"]) == (
        "[message] Reminder: db down",
        {"title": "Reminder: db down", "text": "Call the vendor.", "about": incident},
    )
    await ben.own.reminders.SnoozeReminder(pb.SnoozeReminderRequest(name=made.name, duration=Duration(seconds=7200)))
    await tenant.passes(minutes=61)
    assert ben.told(incident, "message") == [told], "it was moved"
    await tenant.passes(minutes=61)
    await ben.is_told(incident, "message")
    await ana.acknowledges(incident)
    await tenant.passes(minutes=121)
    [left] = (await ana.own.reminders.ListReminders(pb.ListRemindersRequest(incident=incident))).reminders
    assert (left.state, left.sent_count) == (pb.REMINDER_STATE_STOPPED, 2)
    assert left.state_reason == "the incident was acknowledged by users/ana"
    wanted = pb.Reminder(incident=incident, user=ana.name, text="Still yours.", every=HOUR, until_resolved=True)
    await ben.own.reminders.CreateReminder(pb.CreateReminderRequest(reminder=wanted))
    for _ in range(2):
        await tenant.passes(minutes=61)
        await ana.is_told(incident, "message")
    await ana.resolves(incident)
    await tenant.passes(minutes=121)

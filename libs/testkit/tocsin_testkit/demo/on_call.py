"""The chapter about schedules: who is on call, another user steps in, and the page goes to the right person."""

import aiohttp
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import calendar_service_pb2, incident_service_pb2, schedule_pb2, schedule_service_pb2

from tocsin_testkit.demo.story import Story, short
from tocsin_testkit.demo.tell import BLUE, GREEN

HOUR = 3600


async def who_is_on_call(story: Story) -> None:
    """Ana and ben take weeks in turn; cem takes an hour, and that hour's page."""
    tenant, tell = story.tenant, story.tell
    tell.chapter("A schedule: ana and ben take weeks in turn, and cem steps in for an hour")
    name = await tenant.schedule("web", story.ana, story.ben)
    calls = tenant.admin.schedules
    [found] = (await calls.ListOnCalls(schedule_service_pb2.ListOnCallsRequest(schedules=[name]))).on_calls
    until = found.segment.end_time.ToDatetime()
    following = ", ".join(found.next.users)
    tell.happens(
        f"{name} has {', '.join(found.segment.users)} on call until {until:%Y-%m-%d %H:%M} UTC, then {following}"
    )
    schedule = (await calls.GetSchedule(schedule_service_pb2.GetScheduleRequest(name=name))).schedule
    now = schedule.create_time.seconds // 60 * 60
    override = schedule_pb2.Override(
        schedule=name,
        start_time=Timestamp(seconds=now),
        end_time=Timestamp(seconds=now + HOUR),
        users=[story.cem.name],
        reason="dentist",
    )
    made = (await calls.CreateOverride(schedule_service_pb2.CreateOverrideRequest(override=override))).override
    tell.happens(f"{short(made.name)} puts {story.cem.name} on call for an hour ({made.reason})")
    sender = await tenant.integration(await tenant.policy([name], name="web"))
    incident = await sender.triggers("checkout is slow")
    page = await story.cem.is_paged(incident, level=1)
    story.pages[incident] = [(story.cem.id, 1)]
    tell.happens(f"level 1: cem paged by {page.channel}: {page.subject}", BLUE)
    [why] = [entry.message for entry in await tenant.timeline(incident) if entry.pages]
    tell.happens(f"the timeline says why it was him: {why}")
    asked = incident_service_pb2.ExplainPageRequest(incident=incident, user=story.ben.name)
    tell.happens(f"ExplainPage for ben: {(await tenant.admin.incidents.ExplainPage(asked)).summary}")
    await story.cem.resolves(incident)
    tell.happens("cem resolves it", GREEN)
    await _calendar(story, name)


async def _calendar(story: Story, schedule: str) -> None:
    """What a calendar program shows of the next days."""
    feed = calendar_service_pb2.CalendarFeed(schedule=schedule, display_name="web")
    request = calendar_service_pb2.CreateCalendarFeedRequest(calendar_feed=feed)
    path = (await story.tenant.admin.calendars.CreateCalendarFeed(request)).url
    url = story.tenant.world.stack.services["escalation"][0].http_url + path
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        lines = (await answer.text()).splitlines()
    first = lines[lines.index("BEGIN:VEVENT") :]
    shown = [line for line in first if line.startswith(("SUMMARY", "DTSTART", "DTEND"))][:3]
    story.tell.happens(f"the calendar feed has {lines.count('BEGIN:VEVENT')} shifts; the first: {', '.join(shown)}")

"""A calendar program reads who is on call from a secret URL, and from nothing else."""

from datetime import UTC
from typing import Any

import aiohttp
import grpc
import icalendar
import pytest
from tocsin.escalation.v1 import calendar_service_pb2 as pb
from tocsin.escalation.v1 import schedule_service_pb2 as sp
from tocsin_testkit.clients import Clients
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure

Code = grpc.StatusCode
AT_ONCE = 20


def wanted(**fields: Any) -> pb.CreateCalendarFeedRequest:
    return pb.CreateCalendarFeedRequest(calendar_feed=pb.CalendarFeed(**fields))


async def feed(tenant: Tenant, **fields: Any) -> tuple[str, str]:
    """The name of a new feed, and its whole URL."""
    made = await tenant.admin.calendars.CreateCalendarFeed(wanted(**fields))
    assert made.url.startswith("/calendars/tck_")
    return made.calendar_feed.name, http_of(tenant) + made.url


def http_of(tenant: Tenant) -> str:
    return str(tenant.world.stack.services["escalation"][0].http_url)


async def test_a_calendar_program_follows_who_is_on_call_until_the_feed_is_deleted(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    schedule = await tenant.schedule("web", ana, ben)
    name, url = await feed(tenant, schedule=schedule, display_name="phone")
    async with aiohttp.ClientSession() as program:
        async with program.get(url) as answer:
            assert (answer.status, answer.content_type, answer.charset) == (200, "text/calendar", "utf-8")
            assert answer.headers["Cache-Control"] == "private, no-cache"
            tag, text = answer.headers["ETag"], await answer.text()
        shown: list[Any] = list(icalendar.Calendar.from_ical(text).walk("VEVENT"))
        request = sp.ResolveScheduleRequest(name=schedule)
        request.start_time.FromDatetime(shown[0].start)
        request.end_time.FromDatetime(shown[-1].end)
        segments = (await tenant.admin.schedules.ResolveSchedule(request)).segments
        assert [(each.start, each.end, str(each["SUMMARY"])) for each in shown] == [
            (
                each.start_time.ToDatetime(UTC),
                each.end_time.ToDatetime(UTC),
                f"{each.users[0].removeprefix('users/').title()}: web",
            )
            for each in segments
        ]
        for known in (tag, f'W/{tag}, "other"', "*"):
            async with program.get(url, headers={"If-None-Match": known}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
                assert answer.headers["ETag"] == tag
        async with program.head(url) as answer:
            assert (answer.status, answer.headers["ETag"]) == (200, tag)

        [listed] = (await tenant.admin.calendars.ListCalendarFeeds(pb.ListCalendarFeedsRequest())).calendar_feeds
        assert (listed.name, listed.schedule, listed.display_name, listed.author) == (
            name,
            schedule,
            "phone",
            "users/operator",
        )
        assert listed.HasField("last_fetch_time")
        assert listed.prefix in url
        await tenant.admin.calendars.DeleteCalendarFeed(pb.DeleteCalendarFeedRequest(name=name))
        answers = set()
        # Deleted, never made, no secret at all, and another kind of key.
        secret = url.rpartition("/")[2].removesuffix(".ics")
        for each in (secret, "tck_" + "A" * 43, "x", "tak_" + "A" * 43):
            async with program.get(f"{http_of(tenant)}/calendars/{each}.ics") as answer:
                answers.add((answer.status, answer.headers["Content-Type"], await answer.text()))
        [(status, _, body)] = answers
        assert (status, "CALENDAR_FEED_NOT_FOUND" in body) == (404, True)
        assert secret not in "".join(path.read_text() for path in tenant.world.stack.log_dir.iterdir())


async def test_who_reads_too_often_is_told_to_wait_and_others_are_not(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    _, url = await feed(tenant, user=ana.name)
    _, other = await feed(tenant, user=ana.name)
    async with aiohttp.ClientSession() as program:
        for _ in range(AT_ONCE):
            async with program.head(url):
                pass
        for _ in range(60):  # on a slow machine shares come back meanwhile
            async with program.get(url) as answer:
                if answer.status == 200:
                    continue
                assert (answer.status, int(answer.headers["Retry-After"]) >= 1) == (429, True)
                break
        else:
            pytest.fail("never refused")
        async with program.get(other) as answer:
            assert answer.status == 200


async def test_people_make_feeds_of_their_own_shifts_and_managers_of_anybodys(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    schedule = await tenant.schedule("web", ana)
    world = tenant.world
    scopes = ("schedules:self", "schedules:read")
    own = Clients(world.channels, world.token(tenant.org_id, scopes, subject=ana.name)).calendars
    mine = (await own.CreateCalendarFeed(wanted(user=ana.name))).calendar_feed.name
    others = (await tenant.admin.calendars.CreateCalendarFeed(wanted(user=ben.name))).calendar_feed.name
    for call in (
        own.CreateCalendarFeed(wanted(user=ben.name)),
        own.CreateCalendarFeed(wanted(schedule=schedule)),
        own.DeleteCalendarFeed(pb.DeleteCalendarFeedRequest(name=others)),
    ):
        error = await failure(call)
        assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "SCOPE_MISSING")
    listed = await own.ListCalendarFeeds(pb.ListCalendarFeedsRequest(user=ana.name))
    assert [each.name for each in listed.calendar_feeds] == [mine]
    await own.DeleteCalendarFeed(pb.DeleteCalendarFeedRequest(name=mine))
    listed = await own.ListCalendarFeeds(pb.ListCalendarFeedsRequest())
    assert [each.name for each in listed.calendar_feeds] == [others]


async def test_a_repeat_is_the_same_feed_and_is_not_told_the_secret_again(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    request = wanted(user=ana.name)
    request.request_id = "6f1c2a52-8f0e-4bb0-9c53-0c3c1a8a1e11"
    first = await tenant.admin.calendars.CreateCalendarFeed(request)
    again = await tenant.admin.calendars.CreateCalendarFeed(request)
    assert again.calendar_feed == first.calendar_feed
    assert (bool(first.url), again.url) == (True, "")


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({}, "INVALID_FIELD", "calendar_feed.about"),
        ({"user": "ana"}, "INVALID_FIELD", "calendar_feed.user"),
        ({"schedule": "schedules/Web"}, "INVALID_FIELD", "calendar_feed.schedule"),
        ({"user": "users/nobody"}, "USER_NOT_FOUND", "calendar_feed.user"),
        ({"schedule": "schedules/nothing"}, "SCHEDULE_NOT_FOUND", "calendar_feed.schedule"),
        ({"user": "users/nobody", "display_name": "x" * 256}, "INVALID_FIELD", "calendar_feed.display_name"),
    ],
)
async def test_a_feed_that_cannot_be(tenant: Tenant, fields: dict[str, str], reason: str, field: str) -> None:
    error = await failure(tenant.admin.calendars.CreateCalendarFeed(wanted(**fields)))
    assert (error.code, error.reason, list(error.fields)) == (Code.INVALID_ARGUMENT, reason, [field])


async def test_feeds_that_are_not_there(tenant: Tenant) -> None:
    calls = tenant.admin.calendars
    absent = pb.DeleteCalendarFeedRequest(name="calendarFeeds/018f0000-0000-7000-8000-000000000001")
    error = await failure(calls.DeleteCalendarFeed(absent))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "CALENDAR_FEED_NOT_FOUND")
    error = await failure(calls.DeleteCalendarFeed(pb.DeleteCalendarFeedRequest(name="calendarFeeds/1")))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")

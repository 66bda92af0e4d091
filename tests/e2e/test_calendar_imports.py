"""A schedule whose shifts come from a calendar of others: who is paged, and what happens when it cannot be read."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.escalation.v1 import calendar_service_pb2 as cp
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin_testkit.busy import until
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure
from tests.e2e.schedule_calls import now, on_call

PATIENCE = 20.0


class CalendarServer:
    """Serves one calendar, or an error."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.fails = False
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        if self.fails:
            raise web.HTTPInternalServerError
        lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x"]
        for event in self.events:
            lines += ["BEGIN:VEVENT", *event.split("\n"), "END:VEVENT"]
        return web.Response(text="\r\n".join([*lines, "END:VCALENDAR", ""]), content_type="text/calendar")


@pytest.fixture
async def others() -> AsyncIterator[CalendarServer]:
    server = CalendarServer()
    app = web.Application()
    app.router.add_get("/secret/a.ics", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/secret/a.ics"
    yield server
    await runner.cleanup()


def event(start: datetime, end: datetime, summary: str, more: str = "") -> str:
    times = f"DTSTART:{start:%Y%m%dT%H%M00Z}\nDTEND:{end:%Y%m%dT%H%M00Z}"
    return f"UID:{summary}\n{times}\nSUMMARY:{summary}" + (f"\n{more}" if more else "")


async def imported(tenant: Tenant, **fields: Any) -> cp.CalendarImport:
    wanted = cp.CalendarImport(schedule="schedules/web", **fields)
    answer = await tenant.admin.calendars.CreateCalendarImport(cp.CreateCalendarImportRequest(calendar_import=wanted))
    return answer.calendar_import  # type: ignore[no-any-return]


async def read(tenant: Tenant, name: str) -> cp.CalendarImport:
    answer = await tenant.admin.calendars.GetCalendarImport(cp.GetCalendarImportRequest(name=name))
    return answer.calendar_import  # type: ignore[no-any-return]


async def test_the_user_in_the_calendar_is_paged_also_while_it_cannot_be_read(
    tenant: Tenant, others: CalendarServer
) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = await now(tenant)
    await tenant.schedule("web", ben, start=f"{began - timedelta(days=1):%Y-%m-%dT%H:%M}")
    day = timedelta(days=1)
    others.events = [
        event(began - day, began + day, "Primary", "ATTENDEE;CN=Ana:mailto:a.silva@corp.example"),
        event(began + day, began + 2 * day, "somebody else"),
    ]
    made = await imported(tenant, url=others.url, rank=1, names={"a.silva@corp.example": ana.name})
    assert (made.url, made.host) == ("", "127.0.0.1"), "the URL is a secret"

    async def is_read() -> bool:
        return (await read(tenant, made.name)).HasField("read_time")

    await until(is_read, PATIENCE)
    segment = await on_call(tenant, "schedules/web")
    assert list(segment.users) == [ana.name]
    [source] = segment.sources
    assert (source.kind, source.source) == (sp.ON_CALL_SOURCE_KIND_CALENDAR, made.name)
    shown = await read(tenant, made.name)
    assert (shown.shift_count, list(shown.unmatched), shown.error) == (1, ["somebody else"], "")
    shifts = pb.ListShiftsRequest(user=ana.name, start_time=segment.start_time, end_time=segment.end_time)
    assert (await tenant.admin.schedules.ListShifts(shifts)).shifts

    others.fails = True
    await tenant.passes(minutes=16)

    async def fails() -> bool:
        return bool((await read(tenant, made.name)).error)

    await until(fails, PATIENCE)
    assert (await read(tenant, made.name)).error == "127.0.0.1 answers with 500"
    sender = await tenant.integration(await tenant.policy(["schedules/web"], name="web"))
    await ana.is_paged(await sender.triggers("the last good copy counts"), level=1)
    warnings = await warnings_of(tenant)
    assert [each for each in warnings if "or that name no known user: somebody else" in each]
    assert not [each for each in warnings if "could not be read" in each]
    await tenant.passes(minutes=6 * 60 + 1)
    [stale] = [each for each in await warnings_of(tenant) if "could not be read since" in each]
    assert stale.startswith(f"{made.name} (127.0.0.1) could not be read since ")
    assert stale.endswith(": 127.0.0.1 answers with 500")

    [listed] = (
        await tenant.admin.calendars.ListCalendarImports(cp.ListCalendarImportsRequest(schedule="schedules/web"))
    ).calendar_imports
    assert listed.name == made.name
    await tenant.admin.calendars.DeleteCalendarImport(cp.DeleteCalendarImportRequest(name=made.name))
    assert list((await on_call(tenant, "schedules/web")).users) == [ben.name]
    error = await failure(tenant.admin.calendars.GetCalendarImport(cp.GetCalendarImportRequest(name=made.name)))
    assert error.reason == "CALENDAR_IMPORT_NOT_FOUND"


async def test_an_import_that_is_changed_is_read_at_once(tenant: Tenant, others: CalendarServer) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = await now(tenant)
    day = timedelta(days=1)
    await tenant.schedule("web", ben, start=f"{began - day:%Y-%m-%dT%H:%M}")
    others.events = [event(began - day, began + day, "First in line")]
    made = await imported(tenant, url=others.url, rank=1)

    async def unmatched() -> bool:
        return list((await read(tenant, made.name)).unmatched) == ["First in line"]

    await until(unmatched, PATIENCE)
    assert list((await on_call(tenant, "schedules/web")).users) == [ben.name]
    named = await updated(tenant, name=made.name, etag=made.etag, names={"first in line": ana.name})
    assert (named.host, named.rank, dict(named.names)) == ("127.0.0.1", 1, {"first in line": ana.name})

    async def ana_is_on_call() -> bool:
        return list((await on_call(tenant, "schedules/web")).users) == [ana.name]

    await until(ana_is_on_call, PATIENCE)
    with_ben = await updated(tenant, name=made.name, etag=named.etag, mode=sp.LAYER_MODE_ADD, rank=0)
    assert with_ben.shift_count == 1
    assert set((await on_call(tenant, "schedules/web")).users) == {ana.name, ben.name}
    error = await failure(updated(tenant, name=made.name, etag=named.etag, rank=2))
    assert error.reason == "ETAG_MISMATCH"
    others.events = []
    moved = await updated(tenant, name=made.name, url=others.url + "?another", schedule="schedules/another")
    assert moved.schedule == "schedules/web"

    async def ben_is_alone() -> bool:
        return list((await on_call(tenant, "schedules/web")).users) == [ben.name]

    await until(ben_is_alone, PATIENCE)


async def updated(tenant: Tenant, *paths: str, **fields: Any) -> cp.CalendarImport:
    request = cp.UpdateCalendarImportRequest(
        calendar_import=cp.CalendarImport(**fields), update_mask=FieldMask(paths=paths)
    )
    return (await tenant.admin.calendars.UpdateCalendarImport(request)).calendar_import  # type: ignore[no-any-return]


async def warnings_of(tenant: Tenant) -> list[str]:
    answer = await tenant.admin.schedules.GetSchedule(pb.GetScheduleRequest(name="schedules/web"))
    return list(answer.schedule.warnings)


async def test_imports_that_cannot_be(tenant: Tenant, others: CalendarServer) -> None:
    await tenant.schedule("web")
    for change, reason, field in (
        ({"url": ""}, "INVALID_FIELD", "url"),
        ({"url": "ftp://example.com/a.ics"}, "INVALID_FIELD", "url"),
        ({"url": "https://user:password@example.com/a.ics"}, "INVALID_FIELD", "url"),
        ({"url": "https://example.com/" + "x" * 2048}, "INVALID_FIELD", "url"),
        ({"schedule": "web"}, "INVALID_FIELD", "schedule"),
        ({"schedule": "schedules/nothing"}, "SCHEDULE_NOT_FOUND", "schedule"),
        ({"rank": 101}, "INVALID_FIELD", "rank"),
        ({"mode": 9}, "INVALID_FIELD", "mode"),
        ({"time_zone": "Mars/Olympus"}, "INVALID_FIELD", "time_zone"),
        ({"names": {"ana": "users/nobody"}}, "USER_NOT_FOUND", "names[ana]"),
        ({"names": {f"n{n}": "users/ana" for n in range(201)}}, "INVALID_FIELD", "names"),
        ({"display_name": "x" * 256}, "INVALID_FIELD", "display_name"),
    ):
        fields: dict[str, Any] = {"schedule": "schedules/web", "url": others.url, **change}
        request = cp.CreateCalendarImportRequest(calendar_import=cp.CalendarImport(**fields))
        error = await failure(tenant.admin.calendars.CreateCalendarImport(request))
        assert error.reason == reason, change
        assert f"calendar_import.{field}" in error.fields, (change, error.fields)
    made = await imported(tenant, url="webcal://calendar.example/a.ics")
    for change, reason, field in (
        ({"url": ""}, "INVALID_FIELD", "calendar_import.url"),
        ({"url": "ftp://example.com/a.ics"}, "INVALID_FIELD", "calendar_import.url"),
        ({"rank": 101}, "INVALID_FIELD", "calendar_import.rank"),
        ({"time_zone": "Mars/Olympus"}, "INVALID_FIELD", "calendar_import.time_zone"),
        ({"names": {"ana": "users/nobody"}}, "USER_NOT_FOUND", "calendar_import.names[ana]"),
        ({"colour": ""}, "UPDATE_MASK_INVALID", "update_mask"),
        ({"name": "calendarImports/1"}, "INVALID_FIELD", "calendar_import.name"),
    ):
        given = {"name": made.name, **{each: value for each, value in change.items() if each != "colour"}}
        error = await failure(updated(tenant, *change, **given))
        assert (error.reason, *error.fields) == (reason, field), change
    error = await failure(updated(tenant, name="calendarImports/018f0000-0000-7000-8000-000000000001", rank=1))
    assert error.reason == "CALENDAR_IMPORT_NOT_FOUND"
    assert (await read(tenant, made.name)).etag == made.etag, "nothing of it was changed"
    for _ in range(4):
        await imported(tenant, url="webcal://calendar.example/a.ics")
    error = await failure(imported(tenant, url=others.url))
    assert error.reason == "LIMIT_REACHED"

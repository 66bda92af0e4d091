"""Calendars of others: what is read in them, whom their events are about, and what is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from tocsin_escalation import calendar_reader
from tocsin_escalation.calendar_reader import NoCalendar, read
from tocsin_escalation.clients import calendar_source
from tocsin_escalation.clients.calendar_source import CalendarSource
from tocsin_escalation.domain.calendars.matching import NotRead, Reading, people_of
from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import FixedShift, Imported, Mode, Schedule
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.words import tell

from tests.unit.escalation.schedules.writing import DAILY, layer, shift, told, utc

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SINCE, UNTIL = "2026-11-29 00:00", "2027-01-20 00:00"
KNOWN = {"ana": "ana", "ben": "ben", "ana maria silva": "ana", "oncall@example.com": "ben"}


def calendar(*events: str, zone: str = "") -> bytes:
    head = f"X-WR-TIMEZONE:{zone}\n" if zone else ""
    lines = "".join(f"BEGIN:VEVENT\n{event.strip()}\nEND:VEVENT\n" for event in events)
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n{head}{lines}END:VCALENDAR\n".replace("\n", "\r\n").encode()


def found(*events: str, zone: str = "", otherwise: str = "UTC", most: int = 500) -> list[str]:
    events_found, _, _ = read(calendar(*events, zone=zone), utc(SINCE), utc(UNTIL), otherwise, most)
    return [f"{time_of(start):%m-%d %H:%M} {time_of(end):%m-%d %H:%M} {text}" for start, end, _, text in events_found]


WEEKLY = """
UID:1
SUMMARY:ana
DTSTART;TZID=W. Europe Standard Time:20261102T090000
DTEND;TZID=W. Europe Standard Time:20261102T170000
RRULE:FREQ=WEEKLY;COUNT=9
EXDATE;TZID=W. Europe Standard Time:20261207T090000
"""
LATER = """
UID:1
SUMMARY:ben
RECURRENCE-ID;RANGE=THISANDFUTURE;TZID=W. Europe Standard Time:20261221T090000
DTSTART;TZID=W. Europe Standard Time:20261221T100000
DTEND;TZID=W. Europe Standard Time:20261221T170000
"""
ONCE = """
UID:1
SUMMARY:cem
RECURRENCE-ID;TZID=W. Europe Standard Time:20261214T090000
DTSTART;TZID=W. Europe Standard Time:20261215T090000
DTEND;TZID=W. Europe Standard Time:20261215T170000
"""


def test_rules_with_exceptions_and_changed_events_in_a_zone_with_a_windows_name() -> None:
    assert found(WEEKLY, ONCE, LATER) == [
        "11-30 08:00 11-30 16:00 ana",
        "12-15 08:00 12-15 16:00 cem",
        "12-21 09:00 12-21 16:00 ben",
        "12-28 09:00 12-28 16:00 ben",
    ]


WHOLE_DAYS = "UID:2\nSUMMARY:ben\nDTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261227"
FLOATING = "UID:3\nSUMMARY:ana\nDTSTART:20261224T120000\nDURATION:PT90M"
CANCELLED = "UID:4\nSUMMARY:no\nDTSTART:20261224T120000Z\nDTEND:20261224T130000Z\nSTATUS:CANCELLED"
ONE_DAY = "UID:5\nSUMMARY:cem\nDTSTART;VALUE=DATE:20261230"


def test_whole_days_and_events_without_a_zone_are_in_that_of_the_calendar_or_else_of_the_schedule() -> None:
    assert found(WHOLE_DAYS, FLOATING, CANCELLED, ONE_DAY, otherwise="America/New_York") == [
        "12-24 05:00 12-27 05:00 ben",
        "12-24 17:00 12-24 18:30 ana",
        "12-30 05:00 12-31 05:00 cem",
    ]
    assert found(WHOLE_DAYS, FLOATING, zone="Europe/Berlin", otherwise="America/New_York") == [
        "12-23 23:00 12-26 23:00 ben",
        "12-24 11:00 12-24 12:30 ana",
    ]


def test_what_is_no_calendar_or_costs_too_much_is_refused() -> None:
    often = "UID:1\nSUMMARY:x\nDTSTART:20261224T120000Z\nRRULE:FREQ=SECONDLY"
    for content, said in (
        (b"<html>sign in</html>", "no calendar"),
        (calendar(often), "each minute or second"),
        (calendar(*["UID:1\nDTSTART:20261224T120000Z"] * 5001), "more than 5000 events"),
        (b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART:nonsense\r\nEND:VEVENT", "cannot be read"),
    ):
        with pytest.raises(NoCalendar, match=said):
            read(content, utc(SINCE), utc(UNTIL), "UTC", 500)
    hourly = "UID:1\nSUMMARY:x\nDTSTART:20261201T120000Z\nDTEND:20261201T123000Z\nRRULE:FREQ=HOURLY"
    events, cut, _ = read(calendar(hourly), utc(SINCE), utc(UNTIL), "UTC", 10)
    assert (len(events), cut) == (10, True)


FITS = "UID:6\nSUMMARY:ana\nDTSTART:20261201T090000Z\nDTEND:20261201T170000Z"
FIT = "12-01 09:00 12-01 17:00 ana"


@pytest.mark.parametrize(
    "unfit",
    [
        "",
        "DTSTART:2026-12-02\nDTEND:hello",
        "DTSTART:20261202T090000Z\nDTEND:20261202T100000Z\nRRULE:FREQ=FORTNIGHTLY",
        "DTSTART:99990101T000000Z\nDURATION:P400D",
        "DTSTART:20261202T090000Z\nDTEND:hello",
    ],
)
def test_an_event_that_cannot_be_read_is_told_and_costs_no_other(unfit: str) -> None:
    """A person who can invite to one of its events could make a whole calendar unreadable, or an event was silently left out."""
    bad = f"UID:7\nSUMMARY:ben\n{unfit}"
    span = utc(SINCE), utc(UNTIL)
    events, cut, unread = read(calendar(FITS, bad, WEEKLY), *span, "UTC", 500)
    assert (len(events), events[1][3], cut, unread) == (5, "ana", False, ["ben"])
    with pytest.raises(NoCalendar, match="cannot be read"):
        read(calendar(bad), *span, "UTC", 500)


@pytest.mark.parametrize(
    ("named", "hour"),
    [
        ("Eastern Standard Time", 14),
        ("America/New_York\nX-WR-TIMEZONE:Asia/Tokyo", 14),
        ("Nowhere/Atall", 8),
        ("../../etc/localtime", 8),
    ],
)
def test_the_zone_of_a_calendar_may_have_a_windows_name_and_one_that_is_unknown_is_none(named: str, hour: int) -> None:
    floating = "UID:8\nSUMMARY:ana\nDTSTART:20261201T090000\nDURATION:PT1H"
    wanted = [f"12-01 {hour:02}:00 12-01 {hour + 1:02}:00 ana"]
    assert found(floating, zone=named, otherwise="Europe/Berlin") == wanted


@pytest.mark.parametrize(
    ("attendees", "summary", "people"),
    [
        (["ana@corp.example"], "on call", "ana"),
        (["ONCALL@example.com", "Ben@corp.example"], "ana", "ben"),
        (["stranger@corp.example"], "ana", "ana"),
        ([], "Ana  Maria Silva", "ana"),
        ([], "[L2] On call: Ben", "ben"),
        ([], "ana / ben", "ana ben"),
        ([], "ana@corp.example (primary)", "ana"),
        ([], "stranger", ""),
        ([], "", ""),
    ],
)
def test_whom_an_event_is_about(attendees: list[str], summary: str, people: str) -> None:
    assert " ".join(people_of(attendees, summary, KNOWN)) == people


def test_the_shifts_of_a_calendar_are_a_layer_of_their_schedule() -> None:
    def imported(rank: int, mode: Mode, *shifts: FixedShift) -> Schedule:
        base = layer("cem", turn=DAILY, start="2026-01-01 00:00")
        return Schedule("web", "UTC", (base,), imported=(Imported("i", rank, mode, shifts),))

    two = (
        shift("2026-01-05 08:00", "2026-01-05 12:00", "ana"),
        shift("2026-01-05 10:00", "2026-01-05 14:00", "ben"),
    )
    masked = imported(1, Mode.MASK, *two)
    span = "2026-01-05 00:00", "2026-01-06 00:00"
    assert told(masked, *span) == [
        "01-05 00:00 cem",
        "01-05 08:00 ana",
        "01-05 10:00 ana+ben",
        "01-05 12:00 ben",
        "01-05 14:00 cem",
    ]
    assert told(imported(0, Mode.ADD, *two), *span)[1] == "01-05 08:00 cem+ana"
    [here] = resolve(masked, utc("2026-01-05 08:00"), utc("2026-01-05 09:00"))
    assert tell("web", here).endswith("(calendarImports/i)")


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """A server of calendars: `url = await serve(handler)`."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/a.ics"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_calendar_is_fetched_and_read_within_bounds(
    serve: Callable[[Handler], Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = "UID:1\nSUMMARY:x\nDTSTART:20261201T120000Z\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"
    hang = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/a.ics":
                raise web.HTTPFound("/b.ics")
            case "/b.ics":
                return web.Response(body=calendar(WHOLE_DAYS))
            case "/round":
                raise web.HTTPFound("/round")
            case "/large":
                return web.Response(body=b"x" * (calendar_source.MOST_BYTES + 1))
            case "/hangs":
                await hang.wait()
            case "/never":
                return web.Response(body=calendar(never))
        raise web.HTTPNotFound

    url = await serve(handle)
    source = CalendarSource(allow_private=True)
    span = utc(SINCE), utc(UNTIL), "UTC", 500
    reading = await source.read(url, *span)
    [event], cut = reading.events, reading.cut
    assert (event.start, event.end, event.summary, cut) == (
        utc("2026-12-24 00:00"),
        utc("2026-12-27 00:00"),
        "ben",
        False,
    )
    assert await source.read(url.replace("a.ics", "never"), *span) == Reading([], False, [])
    for path, said in (
        ("nothing", "127.0.0.1 answers with 404"),
        ("round", "leads on more than"),
        ("large", "larger than"),
    ):
        with pytest.raises(NotRead, match=said):
            await source.read(url.replace("a.ics", path), *span)
    with monkeypatch.context() as patched:
        patched.setattr(calendar_source, "FETCH_SECONDS", 0.5)
        with pytest.raises(NotRead, match=r"no answer within 0\.5 s"):
            await source.read(url.replace("a.ics", "hangs"), *span)
    monkeypatch.setattr(calendar_source, "READ_SECONDS", 0.01)
    with pytest.raises(NotRead, match="takes too long to be read"):
        await source.read(url, *span)
    hang.set()
    guarded = CalendarSource(allow_private=False)
    for place in (url, "http://localhost/a.ics", "http://[::1]/a.ics", "http://169.254.169.254/latest"):
        with pytest.raises(NotRead, match="private address"):
            await guarded.read(place, *span)
    await source.close()
    await guarded.close()


@pytest.mark.parametrize(
    ("begins", "goes_on", "why"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "the answer does not begin within 32768 bytes"),
        (CHUNKED, b"1\r\nx\r\n", "its chunks are too small"),
        (CHUNKED, b"10\r\nsixteen letters!\r\n", "the calendar is larger than 2097152 bytes"),
    ],
)
async def test_a_host_whose_answer_costs_more_than_it_says_is_left_at_once(
    begins: bytes, goes_on: bytes, why: str
) -> None:
    """It would keep the whole process busy until the fetch is over."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begins)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(goes_on * 10_000)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    source = CalendarSource(allow_private=True)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.ics"
    with pytest.raises(NotRead, match=why):
        await source.read(url, utc(SINCE), utc(UNTIL), "UTC", 500)
    await source.close()
    server.close()
    await server.wait_closed()


def test_a_calendar_that_takes_all_that_it_may_is_read_in_time_beside_a_busy_process() -> None:
    """On the same core; each step of niceness is a quarter of the weight (sched(7))."""
    share = 1 / (1 + 1.25**calendar_reader.NICE)
    assert calendar_reader.CPU_SECONDS / share < calendar_source.READ_SECONDS

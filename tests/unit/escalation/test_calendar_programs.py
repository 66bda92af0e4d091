"""Calendar programs read a feed as it is meant: icalendar, vobject (of Radicale) and libical (of Evolution, GNOME and KDE)."""

import ctypes
import ctypes.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

import icalendar
import pytest
import vobject
from tocsin_escalation.domain.calendars.feed import Event, Shift, events_of, shifts_of
from tocsin_escalation.domain.calendars.ical import Names, document
from tocsin_escalation.domain.schedules.clock import minute_of, time_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.resolve import resolve

from tests.unit.escalation.schedules.random_schedules import random_schedule
from tests.unit.escalation.schedules.writing import DAILY, layer, override, utc

ORG = "acme"
NAMES = Names("On call: web", {}, {}, of_user=False)
ODD = 'Ana; Müller, \\ "the" night\n' + "größer " * 20


class Seen(NamedTuple):
    """One event as a program has it."""

    uid: str
    sequence: int
    status: str
    summary: str
    start: datetime
    end: datetime


def by_icalendar(text: str) -> list[Seen]:
    events: list[Any] = list(icalendar.Calendar.from_ical(text).walk("VEVENT"))
    return [
        Seen(
            str(e["UID"]),
            int(e["SEQUENCE"]),
            str(e["STATUS"]),
            str(e["SUMMARY"]),
            e.start.astimezone(UTC),
            e.end.astimezone(UTC),
        )
        for e in events
    ]


def by_vobject(text: str) -> list[Seen]:
    calendar = vobject.readOne(text)
    return [
        Seen(
            e.uid.value,
            int(e.sequence.value),
            e.status.value,
            e.summary.value,
            e.dtstart.value.astimezone(UTC),
            e.dtend.value.astimezone(UTC),
        )
        for e in getattr(calendar, "vevent_list", [])
    ]


class _Span(ctypes.Structure):
    _fields_ = (("start", ctypes.c_longlong), ("end", ctypes.c_longlong), ("busy", ctypes.c_int))


def _libical() -> Any:
    name = ctypes.util.find_library("ical")
    if name is None:
        pytest.skip("libical is not installed (Debian: libical3)")
    library = ctypes.CDLL(name)
    pointer, number, words = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for function, result, arguments in (
        ("icalparser_parse_string", pointer, [words]),
        ("icalcomponent_get_first_component", pointer, [pointer, number]),
        ("icalcomponent_get_next_component", pointer, [pointer, number]),
        ("icalcomponent_get_uid", words, [pointer]),
        ("icalcomponent_get_summary", words, [pointer]),
        ("icalcomponent_get_sequence", number, [pointer]),
        ("icalcomponent_get_status", number, [pointer]),
        ("icalcomponent_get_span", _Span, [pointer]),
        ("icalcomponent_count_errors", number, [pointer]),
        ("icalrestriction_check", number, [pointer]),
        ("icalcomponent_free", None, [pointer]),
        ("icalcomponent_string_to_kind", number, [words]),
        ("icalproperty_status_to_string", words, [number]),
    ):
        found = getattr(library, function)
        found.restype, found.argtypes = result, arguments
    return library


def by_libical(text: str) -> list[Seen]:
    ical = _libical()
    # With METHOD:PUBLISH the check asks for an ORGANIZER, with which programs would take a shift for an invitation.
    assert "METHOD:PUBLISH\r\n" in text
    calendar = ical.icalparser_parse_string(text.replace("METHOD:PUBLISH\r\n", "").encode())
    try:
        assert ical.icalcomponent_count_errors(calendar) == 0
        assert ical.icalrestriction_check(calendar) == 1, "what RFC 5545 asks of each event"
        kind = ical.icalcomponent_string_to_kind(b"VEVENT")
        found = []
        event = ical.icalcomponent_get_first_component(calendar, kind)
        while event:
            span = ical.icalcomponent_get_span(event)
            found.append(
                Seen(
                    ical.icalcomponent_get_uid(event).decode(),
                    ical.icalcomponent_get_sequence(event),
                    ical.icalproperty_status_to_string(ical.icalcomponent_get_status(event)).decode(),
                    ical.icalcomponent_get_summary(event).decode(),
                    datetime.fromtimestamp(span.start, UTC),
                    datetime.fromtimestamp(span.end, UTC),
                )
            )
            event = ical.icalcomponent_get_next_component(calendar, kind)
        return found
    finally:
        ical.icalcomponent_free(calendar)


Program = Callable[[str], list[Seen]]
PROGRAMS = [by_icalendar, by_vobject, by_libical]


def meant(events: Sequence[Event], names: Names = NAMES) -> list[Seen]:
    return [
        Seen(
            each.uid(ORG),
            each.sequence,
            "CANCELLED" if each.cancelled else "CONFIRMED",
            f"{names.users.get(each.shift.user, each.shift.user)}: {each.shift.schedule}",
            time_of(each.shift.start),
            time_of(each.shift.end),
        )
        for each in events
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_shifts_over_a_change_of_the_clocks_and_one_that_was_taken_over(program: Program) -> None:
    """The night in which Berlin's clocks go forward; then carla takes it, and ana's event is cancelled."""
    since, until = utc("2026-03-28 00:00"), utc("2026-03-31 00:00")
    web = Schedule("web", "Europe/Berlin", (replace(layer("ana", "ben", turn=DAILY), zone="Europe/Berlin"),))
    before = events_of((), shifts_of("web", resolve(web, since, until)), since, since)
    taken = replace(web, overrides=(override("2026-03-28 20:00", "2026-03-29 07:00", "carla"),))
    after = events_of(before, shifts_of("web", resolve(taken, since, until)), since, since + 60)
    assert {each.sequence for each in after} == {0, 1}
    assert any(each.cancelled for each in events_of(after, [], since, since + 90))
    lengths = {(each.end - each.start) // 60 for each in (event.shift for event in before)}
    assert 23 in lengths, "a day of 23 hours is among them"
    for events in (before, after, events_of(after, [], since, since + 90)):
        assert program(document(ORG, NAMES, events, until)) == meant(events)


@pytest.mark.parametrize("program", PROGRAMS)
def test_names_with_signs_that_iCalendar_uses_itself(program: Program) -> None:
    names = Names(ODD, {"ana": ODD}, {}, of_user=False)
    now = minute_of(datetime(2026, 11, 29, tzinfo=UTC))
    events = events_of((), [Shift("web", "ana", now, now + 60)], now, now)
    assert program(document(ORG, names, events, now)) == meant(events, names)


@pytest.mark.parametrize("program", PROGRAMS)
def test_any_feed_however_its_schedule_changed(program: Program) -> None:
    for number in range(15):
        random = Random(f"programs/{number}")
        schedule, since, until = random_schedule(random, 24)
        published: list[Event] = []
        for step in range(3):
            start = min(since + 60 * step, until - 1)
            published = events_of(published, shifts_of("web", resolve(schedule, start, until)), start, since + step)
            assert program(document(ORG, NAMES, published, until)) == meant(published), f"{number}/{step}"
            schedule, _, _ = random_schedule(random, 24)

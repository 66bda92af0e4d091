"""What a calendar feed shows, read by a calendar library, is what `resolve` says."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import icalendar
from hypothesis import given
from hypothesis import strategies as st
from tocsin_escalation.domain.calendars import feed, ical
from tocsin_escalation.domain.calendars.feed import Event, Shift, events_of, shifts_of, window
from tocsin_escalation.domain.calendars.ical import Names, document
from tocsin_escalation.domain.schedules.clock import DAY, WEEK, minute_of, time_of
from tocsin_escalation.domain.schedules.model import Coverage, Segment, Source, SourceKind
from tocsin_escalation.domain.schedules.resolve import resolve

from tests.unit.escalation.schedules.random_schedules import random_schedule

ORG = "acme"
NOBODY = Names("On call: night", {}, {}, of_user=False)
NOW = minute_of(datetime(2026, 11, 28, 18, 21, tzinfo=UTC))
ROUNDS = 150


def read(events: Sequence[Event], names: Names = NOBODY) -> list[Any]:
    """The events as a calendar program sees them."""
    calendar = icalendar.Calendar.from_ical(document(ORG, names, events, NOW))
    assert not calendar.errors
    return list(calendar.walk("VEVENT"))


def shifts_in(shown: Sequence[Any]) -> list[tuple[str, datetime, datetime]]:
    """Who is on from when until when, by the events. Their names are their ids here."""
    on = [event for event in shown if event["STATUS"] == "CONFIRMED"]
    return [(str(event["SUMMARY"]).partition(":")[0], event.start, event.end) for event in on]


def test_the_feed_says_what_resolve_says_at_any_instant_however_the_schedule_changed() -> None:
    for number in range(ROUNDS):
        random = Random(f"feed/{number}")
        hours = 72 if number % 10 == 0 else 6
        schedule, since, until = random_schedule(random, hours)
        published: list[Event] = []
        for step in range(3):
            # The window moves on, and each time the schedule is another one: more than any change of it.
            start = min(since + step * random.randint(0, 60), until - 1)
            segments = resolve(schedule, start, until)
            before, published = published, events_of(published, shifts_of("night", segments), start, since + step)
            shown = read(published)
            shifts = shifts_in(shown)
            for segment in segments:
                for minute in (segment.start, random.randrange(segment.start, segment.end), segment.end - 1):
                    time = time_of(minute)
                    on_call = {user for user, start_time, end_time in shifts if start_time <= time < end_time}
                    assert on_call == set(segment.people), f"{number}/{step} at {minute}"
            keeps_its_promises(before, published, shown, start)
            schedule, _, _ = random_schedule(random, hours)


def keeps_its_promises(before: Sequence[Event], now: Sequence[Event], shown: Sequence[Any], since: int) -> None:
    """What a calendar program relies on: one event for one UID, none that vanishes, no change without a higher SEQUENCE."""
    found = {str(event["UID"]): event for event in shown}
    assert len(found) == len(shown)
    kept = {event.uid(ORG): event for event in now}
    for event in before:
        if event.shift.end <= since:
            continue
        later = kept[event.uid(ORG)]
        assert later == event or later.sequence == event.sequence + 1
        assert int(found[event.uid(ORG)]["SEQUENCE"]) == later.sequence


def test_a_shift_taken_over_is_cancelled_and_comes_back_as_the_same_event() -> None:
    ana, ben = Shift("web", "ana", NOW, NOW + 60), Shift("web", "ben", NOW, NOW + 60, "override", "ana")
    first = events_of((), [ana], NOW, NOW)
    second = events_of(first, [ben], NOW, NOW + 1)
    assert [(each.shift.user, each.cancelled, each.sequence) for each in second] == [
        ("ana", True, 1),
        ("ben", False, 0),
    ]
    assert events_of(second, [ben], NOW, NOW + 2) == second, "what has not changed is not changed again"
    third = events_of(second, [ana], NOW, NOW + 3)
    assert [(each.shift.user, each.cancelled, each.sequence) for each in third] == [("ana", False, 2), ("ben", True, 1)]
    assert third[0].uid(ORG) == first[0].uid(ORG) != third[1].uid(ORG)
    assert first[0].uid(ORG) != first[0].uid("other"), "of two tenants with the same names"


def test_a_shift_that_began_before_the_window_stays_the_same_event_while_the_window_moves() -> None:
    first = events_of((), [Shift("web", "ana", NOW, NOW + 99)], NOW, NOW)
    assert events_of(first, [Shift("web", "ana", NOW + 50, NOW + 99)], NOW + 50, NOW + 50) == first
    assert events_of(first, [], NOW + 99, NOW + 99) == [], "what has ended is forgotten"


def test_what_others_do_does_not_divide_a_shift_and_two_turns_of_one_user_are_two_shifts() -> None:
    def why(turn: int, *people: str) -> Source:
        return Source(SourceKind.LAYER, "week", people, turn)

    helper = Source(SourceKind.LAYER, "help", ("ben",), 7)
    segments = [
        Segment(0, 10, ("ana",), (why(0, "ana"),), Coverage.ON_CALL),
        Segment(10, 20, ("ana", "ben"), (why(0, "ana"), helper), Coverage.ON_CALL),
        Segment(20, 30, ("ana",), (why(1, "ana"),), Coverage.ON_CALL),
    ]
    ana, again, ben = Shift("web", "ana", 0, 20), Shift("web", "ana", 20, 30), Shift("web", "ben", 10, 20)
    assert shifts_of("web", segments) == [ana, ben, again]
    assert shifts_of("web", segments, "ana") == [ana, again]


def test_the_window_is_bounded_and_moves_in_whole_days_and_weeks() -> None:
    since, until = window(NOW)
    assert (time_of(since).time(), time_of(until).time(), time_of(until).weekday()) == (
        datetime.min.time(),
        datetime.min.time(),
        0,
    )
    assert NOW - since <= 8 * DAY
    assert 11 * WEEK <= until - NOW < 12 * WEEK
    for later in range(0, 3 * WEEK, 61):
        start, end = window(NOW + later)
        assert end - start <= 92 * DAY, "as much as ResolveSchedule answers at once"
        assert time_of(end).weekday() == 0


def test_a_feed_with_too_many_events_ends_earlier_and_cancels_nothing_behind_its_end() -> None:
    shifts = [Shift("web", "ana", NOW + each, NOW + each + 1) for each in range(feed.MOST_EVENTS + 10)]
    first = events_of((), shifts[:-10], NOW, NOW)
    second = events_of(first, [Shift("web", "ben", NOW, NOW + 1), *shifts], NOW, NOW)
    assert len(second) == feed.MOST_EVENTS
    assert not any(event.cancelled for event in second)
    gone = events_of(first, [], NOW, NOW)
    assert len(gone) == feed.MOST_CANCELLED


LINES = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from('\r\n\0\x1b;,:\\"\u2028\U0001f4a3é')), max_size=120
)


@given(LINES, LINES)
def test_any_name_is_read_back_and_no_name_breaks_a_line(schedule: str, user: str) -> None:
    event = Event(Shift("web", "ana", NOW, NOW + 60, "override", "ben"), 3, NOW)
    names = Names(f"On call: {schedule}", {"ana": user, "ben": schedule}, {"web": schedule}, of_user=False)
    text = document(ORG, names, [event], NOW)
    lines = text.split("\r\n")
    assert lines.pop() == ""
    assert max(len(line.encode()) for line in lines) <= 75
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", "".join(lines)), "no line end of another kind either"
    [found] = read([event], names)
    assert str(found["SUMMARY"]) == plain(f"{user or 'ana'}: {schedule or 'web'}")
    assert len(list(icalendar.Calendar.from_ical(text).walk())) == 2


def plain(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", " ", text)


def test_the_calendar_says_how_often_to_look_and_what_each_event_is() -> None:
    event = Event(Shift("web", "ben", NOW, NOW + DAY, "override", "ana"), 3, NOW + 5)
    names = Names("On call: Ben", {"ana": "Ana", "ben": "Ben"}, {"web": "Web"}, of_user=True, left_out=True)
    calendar = icalendar.Calendar.from_ical(document(ORG, names, [event], NOW))
    assert (str(calendar["METHOD"]), str(calendar["VERSION"])) == ("PUBLISH", "2.0")
    assert str(calendar["NAME"]) == str(calendar["X-WR-CALNAME"]) == "On call: Ben"
    assert calendar.decoded("REFRESH-INTERVAL") == timedelta(minutes=15)
    assert str(calendar["X-PUBLISHED-TTL"]) == ical.REFRESH
    assert "Only the first 100 schedules" in str(calendar["X-WR-CALDESC"])
    shown: Any = calendar.walk("VEVENT")[0]
    assert (shown.start, shown.end) == (time_of(NOW), time_of(NOW + DAY))
    assert shown.decoded("LAST-MODIFIED") == shown.decoded("DTSTAMP") == time_of(NOW + 5)
    assert str(shown["SUMMARY"]) == "On call: Web"
    assert str(shown["DESCRIPTION"]) == "Ben is on call for schedules/web by an override instead of Ana"
    assert (str(shown["STATUS"]), str(shown["TRANSP"])) == ("CONFIRMED", "TRANSPARENT")

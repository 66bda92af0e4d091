"""Reads an external calendar (RFC 5545) and returns its events: a program of its own, `python -m
tocsin_escalation.calendar_reader`.

Recurrence rules of others may have no end, and libraries search for a rule's next day until the year 9999. So this runs as its
own process, with limits on processor time and memory, and the service goes on when it is killed.

It reads one line of JSON, `{"since": …, "until": …, "zone": …, "most": …}` with instants in minutes, and then the calendar. It
writes one JSON object: `{"events": [[start, end, [attendees], summary], …], "cut": …, "unread": [summary, …]}`, or
`{"error": "…"}`.
"""

import json
import os
import re
import resource
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

MOST_EVENTS: Final = 5000
"""Events as written, a recurring one counted once."""
CPU_SECONDS: Final = 5
NICE: Final = 5
"""With this niceness it gets a third of the processor beside a busy process (sched(7)). With 19 it would get a seventieth: beside
one busy process on the same core, a calendar of 0.4 s of work would take half a minute, and would count as unreadable."""
MEMORY_BYTES: Final = 1 << 29
LONGEST: Final = timedelta(days=366)
"""A longer event is no shift."""
MOST_ATTENDEES: Final = 20
MOST_UNREAD: Final = 20
_TEXT: Final = 255
_TOO_OFTEN: Final = re.compile(rb"FREQ=(SECONDLY|MINUTELY)", re.IGNORECASE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE: Final = timedelta(minutes=1)


class NoCalendar(ValueError):
    """The text cannot be read; the message says why."""


_UNFIT: Final = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)
"""The exceptions of libraries for texts that violate RFC 5545."""
_ZONE: Final = "X-WR-TIMEZONE"


def read(content: bytes, since: int, until: int, zone: str, most: int) -> tuple[list[list[Any]], bool, list[str]]:
    """The events within [since, until) by start, whether there are more than `most`, and the summaries of those that cannot be
    read.

    Raises NoCalendar, also when there are events and none can be read. `zone`: for events without a zone and for whole days, if
    the calendar itself names none.
    """
    import icalendar

    if b"BEGIN:VCALENDAR" not in content[:4096].upper():
        raise NoCalendar("the answer is no calendar (iCalendar, RFC 5545)")
    if content.upper().count(b"BEGIN:VEVENT") > MOST_EVENTS:
        raise NoCalendar(f"the calendar has more than {MOST_EVENTS} events")
    if _TOO_OFTEN.search(content):
        raise NoCalendar("an event recurs each minute or second")
    try:
        calendar = icalendar.Calendar.from_ical(content)
    except _UNFIT as error:
        raise _cannot(error) from error
    named = _zone_of(calendar)
    local = ZoneInfo(named or zone)
    span = _time(since), _time(until)
    unread: dict[str, None] = {}
    try:
        events = _within(calendar, span, local)
    except _UNFIT:
        events = []
        for series, summary in _series(calendar):
            try:
                events += _within(series, span, local)
            except _UNFIT as error:
                unread[summary[:_TEXT]] = None
                last = error
        if unread and not events:
            raise _cannot(last) from last
    events.sort(key=lambda each: (each[0], each[1], each[3]))
    return events[:most], len(events) > most, list(unread)[:MOST_UNREAD]


def _cannot(error: Exception) -> NoCalendar:
    return NoCalendar(f"the calendar cannot be read: {error}"[:_TEXT])


def _within(calendar: Any, span: tuple[datetime, datetime], local: ZoneInfo) -> list[list[Any]]:
    import recurring_ical_events

    return [event for each in recurring_ical_events.of(calendar).between(*span) if (event := _event(each, local))]


def _series(calendar: Any) -> Iterator[tuple[Any, str]]:
    """The events of each UID as a calendar of their own, and the summary of the first: one that cannot be read affects no other."""
    by_uid: dict[str, list[Any]] = {}
    others = []
    for part in calendar.subcomponents:
        if part.name == "VEVENT":
            by_uid.setdefault(str(part.get("UID", "")), []).append(part)
        else:
            others.append(part)
    for parts in by_uid.values():
        series = calendar.copy()
        series.subcomponents = [*others, *parts]
        yield series, str(parts[0].get("SUMMARY", ""))


def _event(event: Any, local: ZoneInfo) -> list[Any] | None:
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return None
    begins = event["DTSTART"].dt
    ends = event["DTEND"].dt if "DTEND" in event else begins + (timedelta() if isinstance(begins, datetime) else _DAY)
    start, end = _minute(begins, local), _minute(ends, local)
    if not start < end or (end - start) * _MINUTE > LONGEST:
        return None
    return [start, end, _attendees(event), str(event.get("SUMMARY", ""))[:_TEXT]]


_DAY: Final = timedelta(days=1)


def _attendees(event: Any) -> list[str]:
    """The addresses of those who have not declined."""
    found = event.get("ATTENDEE", [])
    return [
        re.sub("(?i)^mailto:", "", str(each))[:_TEXT]
        for each in (found if isinstance(found, list) else [found])
        if str(each.params.get("PARTSTAT", "")).upper() != "DECLINED"
    ][:MOST_ATTENDEES]


def _minute(time: date, local: ZoneInfo) -> int:
    if not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)  # noqa: DTZ001  # the zone follows
    if time.tzinfo is None:
        time = time.replace(tzinfo=local)
    return (time - _EPOCH) // _MINUTE


def _time(minute: int) -> datetime:
    return _EPOCH + minute * _MINUTE


def _zone_of(calendar: Any) -> str:
    """The zone that the calendar names for events without one; empty without a known zone. Windows has names of its own.

    The calendar's own entry is replaced by the IANA name, or removed: the libraries fail on other names.
    """
    from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

    named = calendar.pop(_ZONE, "")
    text = str(named[0] if isinstance(named, list) else named).strip()
    text = WINDOWS_TO_OLSON.get(text, text)
    try:
        ZoneInfo(text)
    except (ValueError, OSError, LookupError):
        return ""
    calendar.add(_ZONE, text)
    return text


def main() -> None:
    """One calendar, with a lower priority than other processes."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    wanted = json.loads(sys.stdin.buffer.readline())
    try:
        events, cut, unread = read(sys.stdin.buffer.read(), **wanted)
        answer: dict[str, object] = {"events": events, "cut": cut, "unread": unread}
    except NoCalendar as error:
        answer = {"error": str(error)}
    except (MemoryError, RecursionError):
        answer = {"error": "the calendar takes too much memory to be read"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()

"""Reads a calendar of others (RFC 5545) and says which events it has: a program of its own, `python -m
tocsin_escalation.calendar_reader`.

Rules of others may recur without end, and libraries look for a rule's next day until the year 9999. So this runs beside the
service, with bounds on its processor time and memory, and whoever started it goes on when it is killed.

It reads one line of JSON, `{"since": …, "until": …, "zone": …, "most": …}` with instants in minutes, and then the calendar. It
writes one JSON object: `{"events": [[start, end, [attendees], summary], …], "cut": …}`, or `{"error": "…"}`.
"""

import json
import os
import re
import resource
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

MOST_EVENTS: Final = 5000
"""Events as they are written, a recurring one counted once."""
CPU_SECONDS: Final = 5
MEMORY_BYTES: Final = 1 << 29
LONGEST: Final = timedelta(days=366)
"""A longer event is no shift."""
MOST_ATTENDEES: Final = 20
_TEXT: Final = 255
_TOO_OFTEN: Final = re.compile(rb"FREQ=(SECONDLY|MINUTELY)", re.IGNORECASE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE: Final = timedelta(minutes=1)


class NoCalendar(ValueError):
    """The text is none that can be read; the message says why."""


def read(content: bytes, since: int, until: int, zone: str, most: int) -> tuple[list[list[Any]], bool]:
    """The events within [since, until) by start, and whether there are more than `most`. Raises NoCalendar.

    `zone`: of events without one and of whole days, where the calendar itself names none.
    """
    import icalendar
    import recurring_ical_events

    if b"BEGIN:VCALENDAR" not in content[:4096].upper():
        raise NoCalendar("the answer is no calendar (iCalendar, RFC 5545)")
    if content.upper().count(b"BEGIN:VEVENT") > MOST_EVENTS:
        raise NoCalendar(f"the calendar has more than {MOST_EVENTS} events")
    if _TOO_OFTEN.search(content):
        raise NoCalendar("an event recurs each minute or second")
    try:
        calendar = icalendar.Calendar.from_ical(content)
        local = _zone(str(calendar.get("X-WR-TIMEZONE", "")), zone)
        found = recurring_ical_events.of(calendar, skip_bad_series=True).between(_time(since), _time(until))
        events = sorted(
            filter(None, (_event(each, local) for each in found)), key=lambda each: (each[0], each[1], each[3])
        )
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise NoCalendar(f"the calendar cannot be read: {error}"[:_TEXT]) from error
    return events[:most], len(events) > most


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


def _zone(named: str, otherwise: str) -> ZoneInfo:
    try:
        return ZoneInfo(named or otherwise)
    except (ValueError, OSError, LookupError):
        return ZoneInfo(otherwise)


def main() -> None:
    """One calendar, behind everything else that the machine has to do."""
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    wanted = json.loads(sys.stdin.buffer.readline())
    try:
        events, cut = read(sys.stdin.buffer.read(), **wanted)
        answer: dict[str, object] = {"events": events, "cut": cut}
    except NoCalendar as error:
        answer = {"error": str(error)}
    except (MemoryError, RecursionError):
        answer = {"error": "the calendar takes too much memory to be read"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()

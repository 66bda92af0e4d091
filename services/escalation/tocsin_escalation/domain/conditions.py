"""Which incidents a level is for, and when."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY, WEEK, UnknownZone, clock, minute_of
from tocsin_escalation.domain.schedules.model import Window
from tocsin_escalation.domain.schedules.windows import Interval, merged, opened

SEVERITIES: Final = {1: "critical", 2: "error", 3: "warning", 4: "info"}
"""The words of tocsin.type.v1.Severity's numbers."""
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Condition:
    """Everything that is set must hold. `severities`: one of these; empty for any. `windows`: hours of the week in `zone`."""

    severities: tuple[int, ...] = ()
    windows: tuple[Window, ...] = ()
    zone: str = ""

    def is_for(self, severity: int) -> bool:
        """For an incident of this severity, at some time."""
        return not self.severities or severity in self.severities

    def holds(self, severity: int, now: datetime) -> bool:
        """For an incident of this severity, now."""
        return not self.why_not(severity, now)

    def why_not(self, severity: int, now: datetime) -> str:
        """In words; empty when it holds."""
        if not self.is_for(severity):
            named = ", ".join(SEVERITIES[each] for each in sorted(self.severities))
            return f"it is for {named}, and the incident is of severity {SEVERITIES.get(severity, str(severity))}"
        minute = minute_of(now)
        if self.windows and not self.times(minute, minute + 1):
            return f"it is for {'; '.join(map(_told, self.windows))} in {self.zone}, and it is another time"
        return ""

    def times(self, since: int, until: int) -> list[Interval]:
        """When the windows are open within [since, until), in minutes.

        Always, for a zone that the time zone database has no more: then users are paged.
        """
        if not self.windows:
            return [(since, until)]
        try:
            there = clock(self.zone)
        except UnknownZone:
            return [(since, until)]
        return list(opened(self.windows, there, since, until))

    def problem(self) -> tuple[str, str] | None:
        """The field, and what is wrong with it beyond its shape."""
        if not self.severities and not self.windows:
            return "", "must name severities or windows; leave it out for a level that is for all incidents, always"
        if bool(self.zone) != bool(self.windows):
            return ".time_zone", "must be set exactly when windows are: it is their time zone"
        for number, window in enumerate(self.windows):
            if not 0 < window.length <= WEEK:
                return f".windows[{number}]", "must end after its start, and last a week at most"
        if self.zone:
            try:
                clock(self.zone)
            except UnknownZone:
                return ".time_zone", f"{self.zone!r} is no IANA time zone; write for example Europe/Berlin"
        return None


ALWAYS: Final = Condition()


def left_out(conditions: Iterable[Condition], severity: int, since: int) -> Interval | None:
    """The first stretch of the week from `since` on, in minutes, in which none of these holds for the severity."""
    fitting = [each for each in conditions if each.is_for(severity)]
    until = since + WEEK
    at = since
    for start, end in merged(interval for each in fitting for interval in each.times(since, until)):
        if start > at:
            return at, start
        at = end
    return (at, until) if at < until else None


def _told(window: Window) -> str:
    days = ", ".join(_DAYS[day] for day in sorted(window.days))
    end = window.start + window.length
    later = f" ({end // DAY} days later)" if end > 2 * DAY else ""
    return f"{days} {_hours(window.start)} to {_hours(end if end <= DAY else end % DAY)}{later}"


def _hours(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"

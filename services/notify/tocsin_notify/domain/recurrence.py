"""Recurrence rules: RFC 5545 §3.3.10, only the parts that choose days; the time of day is that of the start.

Written here, not taken from a library, because every search must end soon: for a rule that fits no day, such as 30
February, `python-dateutil` searches to the year 9999, which takes seconds. The tests compare both for rules that do
fit.
"""

import calendar
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

from tocsin_notify.domain.wall_time import as_wall_time, earliest_instant_of
from tocsin_notify.domain.words import Word

DAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_MOST_BARREN: Final = 3660
"""After this many days in a row that a rule does not choose, it counts as one that chooses none: days or years of a
decade, or the Februaries of a century. 29 February may be eight years of a yearly rule ahead."""
MOST_COUNT: Final = 1000
MOST_INTERVAL: Final = 366
_DAY: Final = timedelta(days=1)
_BY_DAY: Final = re.compile(r"([+-]?[1-9][0-9]?)?(MO|TU|WE|TH|FR|SA|SU)")
_UNTIL: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_KNOWN: Final = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "BYMONTH", "BYMONTHDAY", "BYDAY", "BYSETPOS", "WKST")


class BadRule(ValueError):
    """A rule that is not supported. The text continues the field's name: `must be …`."""


class RecurringState(Word):
    """Where a recurring message is; the words are those of the table."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"


class Frequency(StrEnum):
    """The words are those of RFC 5545."""

    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"
    YEARLY = "YEARLY"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it was read. An empty part chooses nothing. `by_day`: (ordinal or 0, weekday from 0 for Monday)."""

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    by_month: frozenset[int] = frozenset()
    by_month_day: frozenset[int] = frozenset()
    by_day: frozenset[tuple[int, int]] = frozenset()
    by_set_position: frozenset[int] = frozenset()
    week_start: int = 0


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A rule with its start, a local time in a zone of the IANA database."""

    rule: Rule
    start: datetime
    time_zone: str

    def next_after(self, moment: datetime) -> datetime | None:
        """The first occurrence after `moment`, in UTC; None when there is none.

        A local time that the clocks skip is read with the offset before the gap. Of a time that occurs twice the first
        one counts (RFC 5545 §3.3.5). Raises BadTime when the zone is unknown.
        """
        return self.around(moment, moment)[1]

    def around(self, since: datetime, until: datetime) -> tuple[datetime | None, datetime | None]:
        """The last occurrence after `since` and not after `until`, and the first one after `until`. Raises as `next_after` does."""
        latest = None
        near = as_wall_time(since, self.time_zone).date() - 2 * _DAY
        for number, day in enumerate(_days(self.rule, self.start.date(), near), 1):
            if self.rule.count is not None and number > self.rule.count:
                break
            if day < near:
                continue
            instant = earliest_instant_of(datetime.combine(day, self.start.time()), self.time_zone)
            if self.rule.until is not None and instant > self.rule.until:
                break
            if instant > until:
                return latest, instant
            if instant > since:
                latest = instant
        return latest, None


def read_rule(text: str) -> Rule:
    """A rule such as `FREQ=WEEKLY;BYDAY=MO,WE`. Raises BadRule."""
    parts: dict[str, str] = {}
    for part in text.removeprefix("RRULE:").split(";"):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise BadRule("must be parts such as FREQ=WEEKLY, joined by semicolons")
        if key in parts:
            raise BadRule(f"must not give {key} twice")
        if key not in _KNOWN:
            raise BadRule(f"must be made of {', '.join(_KNOWN)}; {key[:40]} is not understood")
        parts[key] = value
    if parts.get("FREQ") not in list(Frequency):
        raise BadRule(f"must give FREQ, one of {', '.join(Frequency)}")
    if "COUNT" in parts and "UNTIL" in parts:
        raise BadRule("must not give both COUNT and UNTIL")
    frequency = Frequency(parts["FREQ"])
    rule = Rule(
        frequency,
        interval=_number(parts, "INTERVAL", MOST_INTERVAL) or 1,
        count=_number(parts, "COUNT", MOST_COUNT),
        until=_until(parts.get("UNTIL")),
        by_month=_numbers(parts, "BYMONTH", 12, signed=False),
        by_month_day=_numbers(parts, "BYMONTHDAY", 31),
        by_day=_by_day(parts.get("BYDAY"), frequency),
        by_set_position=_numbers(parts, "BYSETPOS", 366),
        week_start=_weekday(parts.get("WKST", "MO")),
    )
    if rule.by_month_day and frequency is Frequency.WEEKLY:
        raise BadRule("must not give BYMONTHDAY with FREQ=WEEKLY")
    if rule.by_set_position and not (rule.by_month or rule.by_month_day or rule.by_day):
        raise BadRule("must give another BY part with BYSETPOS")
    return rule


def _days(rule: Rule, start: date, near: date) -> Iterator[date]:
    """The days of a rule from its start on. Without COUNT those long before `near` are left out."""
    chosen = _Chosen.by(rule, start)
    ahead = 0
    if rule.count is None and near > start:
        ahead = max(0, _periods_between(rule, start, near) // rule.interval - 1) * rule.interval
    barren = 0
    while barren <= _MOST_BARREN:
        try:
            first, last = _period(rule, start, ahead)
        except (OverflowError, ValueError):
            return  # after the year 9999, where dates end
        fitting = chosen.days(first, last)
        if rule.by_set_position:
            size = len(fitting)
            at = {position - 1 if position > 0 else size + position for position in rule.by_set_position}
            fitting = [day for index, day in enumerate(fitting) if index in at]
        yield from (day for day in fitting if start <= day)
        barren = 0 if fitting else barren + (last - first).days + 1
        ahead += rule.interval


def _period(rule: Rule, start: date, ahead: int) -> tuple[date, date]:
    """First and last day of the period that lies `ahead` days, weeks, months or years after that of the start."""
    match rule.frequency:
        case Frequency.DAILY:
            day = start + ahead * _DAY
            return day, day
        case Frequency.WEEKLY:
            first = start - (start.weekday() - rule.week_start) % 7 * _DAY + 7 * ahead * _DAY
            return first, first + 6 * _DAY
        case Frequency.MONTHLY:
            years, month = divmod(start.month - 1 + ahead, 12)
            first = date(start.year + years, month + 1, 1)
            return first, first.replace(day=calendar.monthrange(first.year, first.month)[1])
        case Frequency.YEARLY:
            return date(start.year + ahead, 1, 1), date(start.year + ahead, 12, 31)


def _periods_between(rule: Rule, start: date, day: date) -> int:
    match rule.frequency:
        case Frequency.DAILY:
            return (day - start).days
        case Frequency.WEEKLY:
            return (day - start).days // 7
        case Frequency.MONTHLY:
            return (day.year - start.year) * 12 + day.month - start.month
        case Frequency.YEARLY:
            return day.year - start.year


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The days that the BY parts choose; parts that the frequency needs and that are missing come from the start. An
    empty part chooses all.

    `of_year`: ordinals of weekdays count within the year.
    """

    months: frozenset[int]
    month_days: frozenset[int]
    weekdays: frozenset[tuple[int, int]]
    of_year: bool

    @classmethod
    def by(cls, rule: Rule, start: date) -> "_Chosen":
        """What a rule chooses."""
        months, month_days, weekdays = rule.by_month, rule.by_month_day, rule.by_day
        if not month_days and not weekdays:
            if rule.frequency is Frequency.WEEKLY:
                weekdays = frozenset({(0, start.weekday())})
            elif rule.frequency is not Frequency.DAILY:
                month_days = frozenset({start.day})
                if rule.frequency is Frequency.YEARLY and not months:
                    months = frozenset({start.month})
        return cls(months, month_days, weekdays, rule.frequency is Frequency.YEARLY and not rule.by_month)

    def days(self, first: date, last: date) -> list[date]:
        """Those of a period, in order. Months that are not chosen are skipped as a whole."""
        found: list[date] = []
        while True:
            ends = (first.year, first.month) == (last.year, last.month)
            if not self.months or first.month in self.months:
                found += self._of_month(first, last.day if ends else 31)
            if ends:
                return found
            first = date(first.year + first.month // 12, first.month % 12 + 1, 1)

    def _of_month(self, first: date, last: int) -> Iterator[date]:
        """Those of the days of one month from `first` to that with the number `last`, or to the end of the month."""
        length = calendar.monthrange(first.year, first.month)[1]
        numbers: Iterable[int] = range(first.day, min(last, length) + 1)
        if self.month_days:
            named = {number if number > 0 else length + number + 1 for number in self.month_days}
            numbers = sorted(named.intersection(numbers))
        for number in numbers:
            day = first.replace(day=number)
            if self._is_weekday(day, length):
                yield day

    def _is_weekday(self, day: date, length: int) -> bool:
        if not self.weekdays or (0, day.weekday()) in self.weekdays:
            return True
        if self.of_year:
            before, after = (day - date(day.year, 1, 1)).days, (date(day.year, 12, 31) - day).days
        else:
            before, after = day.day - 1, length - day.day
        return bool({(before // 7 + 1, day.weekday()), (-(after // 7) - 1, day.weekday())} & self.weekdays)


def _number(parts: dict[str, str], key: str, most: int) -> int | None:
    if key not in parts:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", parts[key]) or not 1 <= int(parts[key]) <= most:
        raise BadRule(f"must give {key} as a number from 1 to {most}")
    return int(parts[key])


def _numbers(parts: dict[str, str], key: str, most: int, *, signed: bool = True) -> frozenset[int]:
    found = set()
    for text in parts[key].split(",") if key in parts else ():
        if not re.fullmatch(r"[+-]?[0-9]{1,3}" if signed else r"[0-9]{1,3}", text) or not 1 <= abs(int(text)) <= most:
            raise BadRule(f"must give {key} as numbers from {f'-{most} to ' if signed else '1 to '}{most}, without 0")
        found.add(int(text))
    return frozenset(found)


def _by_day(text: str | None, frequency: Frequency) -> frozenset[tuple[int, int]]:
    found = set()
    for part in text.split(",") if text else ():
        match = _BY_DAY.fullmatch(part)
        if match is None or abs(int(match[1] or 0)) > 53:
            raise BadRule(
                "must give BYDAY as days such as MO, or 1MO and -1FR for the first Monday and the last Friday"
            )
        if match[1] and frequency not in (Frequency.MONTHLY, Frequency.YEARLY):
            raise BadRule("must give BYDAY without ordinals unless FREQ is MONTHLY or YEARLY")
        found.add((int(match[1] or 0), DAYS.index(match[2])))
    return frozenset(found)


def _weekday(text: str) -> int:
    if text not in DAYS:
        raise BadRule(f"must give WKST as one of {', '.join(DAYS)}")
    return DAYS.index(text)


def _until(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if not _UNTIL.fullmatch(text):
            raise ValueError(text)
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadRule("must give UNTIL as an instant in UTC, such as 20271231T230000Z") from error

"""Questions about the past, and the answers."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class Group(StrEnum):
    """By what figures are grouped."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    HOUR_OF_DAY = "hour_of_day"
    DAY_OF_WEEK = "day_of_week"
    POLICY = "policy"
    TEAM = "team"
    SEVERITY = "severity"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Question:
    """`start` and `end` are at full quarters of an hour. An empty filter matches all.

    `zone`: the zone of days, weeks, months and hours; empty for figures of people: each person's own.
    """

    start: datetime
    end: datetime
    zone: str
    groups: tuple[Group, ...]
    policies: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Keys:
    """The group of one row; None for dimensions that are not grouped by.

    `first_day`: of a day, week (Monday) or month. `day_of_week`: 1 is Monday.
    """

    first_day: date | None = None
    hour_of_day: int | None = None
    day_of_week: int | None = None
    policy: str | None = None
    team: str | None = None
    severity: int | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class IncidentFigures:
    """Of incidents that were opened in a time. Times to answer are summed over the incidents that have one."""

    keys: Keys
    opened: int
    acknowledged: int
    acknowledge_ms: int
    resolved: int
    resolve_ms: int
    exhausted: int


@dataclass(frozen=True, slots=True)
class PageFigures:
    """Of pages in a time. `interruptions`: quarters of an hour with a page for a person; the last three add up to them."""

    keys: Keys
    pages: int
    acknowledged: int
    interruptions: int
    business_hours: int
    off_hours: int
    sleep_hours: int


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """One that is not over. `in_hand`: acknowledged or snoozed."""

    title: str
    severity: int
    create_time: datetime
    in_hand: bool


@dataclass(frozen=True, slots=True)
class Noise:
    """The incidents of one title, and the number of their alerts."""

    title: str
    incidents: int
    alerts: int


@dataclass(frozen=True, slots=True)
class DigestFigures:
    """The part that a tenant's digests of one time have in common. Times to answer are summed; `open` is counted up to a limit."""

    opened: int
    acknowledged: int
    acknowledge_ms: int
    ended: int
    open: int
    unanswered: int
    oldest: tuple[OpenIncident, ...]
    noisiest: tuple[Noise, ...]


@dataclass(frozen=True, slots=True)
class OwnShift:
    """A user is on call in a schedule, which has this name, within [start, end) without a break. Instants are minutes."""

    schedule: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class DigestPerson:
    """The part of a digest for one user. `shifts_incomplete`: more schedules name these users than are resolved."""

    user: str
    pages: int
    acknowledged: int
    shifts: tuple[OwnShift, ...]
    shifts_incomplete: bool

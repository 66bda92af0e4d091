"""When digests are due, and which time each of them covers."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final
from uuid import UUID, uuid5

from tocsin_notify.domain import recurrence
from tocsin_notify.domain.recurrence import Recurrence, Rule
from tocsin_notify.domain.wall_time import BadTime, as_wall_time
from tocsin_notify.domain.words import Word

_A_MONDAY: Final = datetime.fromisoformat("2001-01-01")
_IDS: Final = UUID("6f0e8f0a-3a3c-5a0e-9c39-6f1d0a7e9b52")
"""The namespace of the ids of digests' pages."""


class Frequency(Word):
    """How often; the words are those of the table."""

    DAILY = "daily"
    WEEKLY = "weekly"


class WhenEmpty(Word):
    """What is sent when there is nothing to report; the words are those of the table."""

    NOTHING = "nothing"
    ONE_LINE = "one_line"


_LENGTHS: Final = {Frequency.DAILY: timedelta(days=1), Frequency.WEEKLY: timedelta(days=7)}


@dataclass(frozen=True, slots=True)
class Rhythm:
    """At which hour of which zone a digest is due. `weekday`: from 1 for Monday; 0 for a daily one."""

    frequency: Frequency
    hour: int
    weekday: int
    time_zone: str

    def next_after(self, moment: datetime) -> datetime:
        """The first time it is due after a moment, in UTC. Raises BadTime when the zone is unknown."""
        found = self._recurrence().next_after(moment)
        if found is None:
            raise BadTime("time_zone", "leads out of the years 1 to 9999")
        return found

    def latest_until(self, planned: datetime, now: datetime) -> tuple[datetime, datetime]:
        """The latest of the times from `planned` until now, and the one after it."""
        latest, following = self._recurrence().around(planned, max(planned, now))
        if following is None:
            raise BadTime("time_zone", "leads out of the years 1 to 9999")
        return latest or planned, following

    def start_of(self, planned: datetime) -> datetime:
        """The start of the time that this digest covers: the time of the digest before it."""
        longer = _LENGTHS[self.frequency] + timedelta(days=1)
        before, _ = self._recurrence().around(planned - longer, planned - timedelta.resolution)
        assert before is not None, "one in every day or week"
        return before

    def _recurrence(self) -> Recurrence:
        start = datetime.combine(_A_MONDAY.date(), time(self.hour))
        if self.frequency is Frequency.DAILY:
            return Recurrence(Rule(recurrence.Frequency.DAILY), start, self.time_zone)
        days = frozenset({(0, self.weekday - 1)})
        return Recurrence(Rule(recurrence.Frequency.WEEKLY, by_day=days), start, self.time_zone)


def page_id(org_id: str, user: str, frequency: Frequency, planned: datetime) -> UUID:
    """The id of the page of one digest. Computed, so that two replicas make one page."""
    return uuid5(_IDS, f"{org_id}\n{user}\n{frequency}\n{planned.isoformat()}")


def why_not_now(planned: datetime, now: datetime, latest: timedelta, time_zone: str) -> str:
    """Why a digest that is due is left out; empty when it is sent."""
    late = now - planned
    if late <= latest:
        return ""
    wall = as_wall_time(planned, time_zone)
    return f"left out: it was due at {wall:%Y-%m-%d %H:%M} and could not be made for {late // timedelta(hours=1)} hours"

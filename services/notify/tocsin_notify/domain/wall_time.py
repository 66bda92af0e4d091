"""A local time of an IANA zone as an instant.

Zone data comes from the pinned package `tzdata` and never from the host, so that all replicas agree.
"""

from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

_FIRST_YEAR: Final = 2000


class BadTime(ValueError):
    """The local time is not exactly one instant. `field` says which part is wrong; the text continues its name: `must
    be …`."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def instant_of(date_time: str, time_zone: str) -> datetime:
    """The instant, in UTC, at which clocks in the zone show `2026-03-29T09:00`.

    Raises BadTime for an unknown zone, for text that is no time, and for a time that the clocks skip or show twice (PEP
    495). The text then names both possible instants.
    """
    zone = _known(time_zone)
    try:
        wall = datetime.fromisoformat(date_time)
        readings = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    except (ValueError, OverflowError) as error:
        raise BadTime("date_time", "must be a date and time that exist, such as 2026-03-29T09:00") from error
    if readings[0] == readings[1]:
        return readings[0]
    exists = readings[0].astimezone(zone).replace(tzinfo=None) == wall
    both = " or ".join(each.astimezone(zone).isoformat() for each in sorted(readings))
    why = "comes twice" if exists else "does not exist"
    raise BadTime("date_time", f"{date_time} {why} in {time_zone}; give an instant as send_time instead: {both}")


def wall_time_of(date_time: str) -> datetime:
    """A date and time without a zone, such as `2026-03-29T09:00`. Raises BadTime."""
    try:
        wall = datetime.fromisoformat(date_time)
    except ValueError as error:
        raise BadTime("date_time", "must be a date and time that exist, such as 2026-03-29T09:00") from error
    if wall.tzinfo is not None or wall.year < _FIRST_YEAR:
        raise BadTime("date_time", f"must be a local time without an offset, from the year {_FIRST_YEAR} on")
    return wall


def as_wall_time(moment: datetime, time_zone: str) -> datetime:
    """What clocks in the zone show at an instant. Raises BadTime for an unknown zone."""
    return moment.astimezone(_known(time_zone)).replace(tzinfo=None)


def shown_in(moment: datetime, time_zone: str) -> datetime:
    """The same instant as clocks in the zone show it; in UTC, if the zone is empty or unknown."""
    try:
        return moment.astimezone(_known(time_zone) if time_zone else UTC)
    except BadTime:
        return moment.astimezone(UTC)


def earliest_instant_of(wall: datetime, time_zone: str) -> datetime:
    """The instant, in UTC, of a local time: the first one if it comes twice; with the offset before the gap if it is skipped.

    Raises BadTime for an unknown zone.
    """
    return wall.replace(tzinfo=_known(time_zone), fold=0).astimezone(UTC)


def check_zone(time_zone: str) -> None:
    """Raises BadTime for an unknown zone."""
    _known(time_zone)


def _known(time_zone: str) -> ZoneInfo:
    try:
        return _zone(time_zone)
    except (LookupError, OSError, ValueError) as error:
        raise BadTime("time_zone", "must be a zone of the IANA database, such as Europe/Berlin") from error


@lru_cache(1)
def _zones() -> frozenset[str]:
    return frozenset((files("tzdata") / "zones").read_text().split())


@lru_cache(1024)
def _zone(name: str) -> ZoneInfo:
    if name not in _zones():
        raise LookupError(name)
    with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)

"""Local time of an IANA zone and back, in whole minutes.

An instant is an `int`: minutes since 1970-01-01 00:00 UTC. A local time is an `int` as well: minutes since 1970-01-01 00:00 in
local time. Zone data comes from the pinned package `tzdata` and never from the host, so that all replicas agree.
"""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

DAY: Final = 1440
WEEK: Final = 7 * DAY
EPOCH: Final = datetime.fromisoformat("1970-01-01")
"""Used for local times; as an instant it is in UTC."""
_MINUTE: Final = timedelta(minutes=1)
_BLOCK: Final = 19
"""Zone tables are made for 2^19 minutes (364 days) at a time."""
_STEP: Final = 6 * 60
"""No zone changes its clocks twice within six hours."""
_REACH: Final = 15 * 60
"""Offsets lie between -12 and +14 hours."""


class UnknownZone(ValueError):
    """The name is no zone of the IANA database."""


class Clock:
    """One zone's clock. Use `clock`, which keeps them."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self._info = _load(zone)
        self._blocks: dict[int, tuple[list[int], list[int]]] = {}

    def offset(self, minute: int) -> int:
        """Minutes from UTC to local time at this instant."""
        starts, offsets = self._block(minute >> _BLOCK)
        return offsets[bisect_right(starts, minute) - 1]

    def local(self, minute: int) -> int:
        """The local time at this instant."""
        return minute + self.offset(minute)

    def instant(self, local: int, *, last: bool = False) -> int:
        """The instant of the local time `local`.

        For a time that the clocks skip it is the first instant after the gap. For a time that they show twice it is the first
        instant, or the second with `last`.
        """
        starts, offsets = self._block(local + _REACH >> _BLOCK)
        position = bisect_right(starts, local - _REACH)
        if position and (position == len(starts) or starts[position] > local + _REACH):
            return local - offsets[position - 1]  # most times are far from any change
        before, after = self.offset(local - _REACH), self.offset(local + _REACH)
        if before == after:
            return local - before
        change = self._change_before(local + _REACH)
        earlier, later = local - before, local - after
        if earlier < change and (later < change or not last):
            return earlier
        return max(later, change)

    def candidates(self, local: int) -> tuple[int, ...]:
        """Every instant with the local time `local`: none when the clocks skip it, two when they show it twice."""
        found = {local - self.offset(local - _REACH), local - self.offset(local + _REACH)}
        return tuple(sorted(minute for minute in found if self.local(minute) == local))

    def _change_before(self, minute: int) -> int:
        starts, _ = self._block(minute >> _BLOCK)
        position = bisect_right(starts, minute) - 1
        if position:
            return starts[position]
        # The block begins here: the change, if there is one, is before it.
        return self._change_before(starts[0] - 1) if self.offset(starts[0] - 1) == self.offset(starts[0]) else starts[0]

    def _block(self, number: int) -> tuple[list[int], list[int]]:
        found = self._blocks.get(number)
        if found is None:
            found = self._blocks[number] = self._table(number << _BLOCK, number + 1 << _BLOCK)
        return found

    def _table(self, since: int, until: int) -> tuple[list[int], list[int]]:
        starts, offsets = [since], [self._ask(since)]
        for at in range(since + _STEP, until + _STEP, _STEP):
            at = min(at, until - 1)
            found = self._ask(at)
            if found != offsets[-1]:
                low, high = max(at - _STEP, since), at
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (low, middle) if self._ask(middle) == found else (middle, high)
                starts.append(high)
                offsets.append(found)
        return starts, offsets

    def _ask(self, minute: int) -> int:
        offset = self._info.utcoffset((EPOCH + minute * _MINUTE).replace(tzinfo=UTC).astimezone(self._info))
        assert offset is not None, "every zone has an offset"
        return offset // _MINUTE


@lru_cache(1024)
def clock(zone: str) -> Clock:
    """The clock of a zone such as `Europe/Berlin`. Raises UnknownZone."""
    return Clock(zone)


def clock_or_utc(zone: str) -> Clock:
    """`clock`; that of UTC for a zone that this version does not know (any more): it was known when it was stored.

    Zone data lose and gain names, and replicas of two versions have different ones. Paging people some hours off is better than
    not paging them.
    """
    try:
        return clock(zone)
    except UnknownZone:
        return clock("UTC")


@lru_cache(1)
def zones() -> frozenset[str]:
    """Every zone there is."""
    return frozenset((files("tzdata") / "zones").read_text().split())


def _load(zone: str) -> ZoneInfo:
    if zone not in zones():
        raise UnknownZone(zone)
    with files("tzdata.zoneinfo").joinpath(*zone.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=zone)


def minute_of(time: datetime) -> int:
    """The minute in which an instant lies. `time` has a zone."""
    return int(time.timestamp() // 60)


def time_of(minute: int) -> datetime:
    """Returns the instant as a datetime in UTC."""
    return datetime.fromtimestamp(minute * 60, UTC)


def local_of(time: datetime) -> int:
    """A local time without a zone."""
    return (time - EPOCH) // _MINUTE


def wall_of(local: int) -> datetime:
    """A local time as a datetime without a zone."""
    return EPOCH + local * _MINUTE


def weekday_of(day: int) -> int:
    """Of the day `local // DAY`; Monday is 0."""
    return (day + 3) % 7

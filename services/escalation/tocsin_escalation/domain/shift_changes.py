"""What changes did to a user's time on call: what became theirs, and what they lost.

What a user knows is compared with what the schedules say, so each change of who is on call counts. Instants are minutes, see
`schedules.clock`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.shift_notices import Shift

LOOKED_AT: Final = 28 * DAY
"""Minutes from now for which changes are told."""
SETTLES: Final = 2
"""Minutes for which a difference must last before it is told: schedules are often changed in several steps."""
MOST: Final = 1000
"""Stretches that are known of one user, the nearest."""


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """The user is on call in a schedule within [start, end)."""

    schedule: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Known:
    """What a user knows: all of their time on call up to `until`. `changed`: since when the schedules say something else."""

    until: int
    stretches: tuple[Stretch, ...]
    changed: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What became the user's, and what they lost."""

    gained: tuple[Stretch, ...] = ()
    lost: tuple[Stretch, ...] = ()

    @property
    def schedules(self) -> frozenset[str]:
        """In which something is different."""
        return frozenset(each.schedule for each in (*self.gained, *self.lost))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the user knows from now on, None if that is the same; and what is to be told."""

    known: Known | None = None
    told: Change | None = None


NOTHING: Final = Change()


def present(shifts: Iterable[Shift], now: int, until: int) -> Known:
    """What the schedules say of the user's time from now until then."""
    found = [
        Stretch(shift.schedule, max(shift.start or now, now), min(until if shift.end is None else shift.end, until))
        for shift in shifts
    ]
    nearest = sorted((each for each in found if each.start < each.end), key=lambda each: (each.start, each.schedule))
    if len(nearest) > MOST:
        until = nearest[MOST].start
        nearest = nearest[:MOST]
    return Known(until, tuple(sorted(replace(each, end=min(each.end, until)) for each in nearest)))


def judge(known: Known | None, said: Known, now: int, not_looked_at: Collection[str] = ()) -> Verdict:
    """What follows from what a user knows and what the schedules say. Of those that were not looked at, what is known stays."""
    if known is None:
        return Verdict(said)
    kept = tuple(
        replace(each, start=max(each.start, now))
        for each in known.stretches
        if each.schedule in not_looked_at and each.end > now
    )
    said = replace(said, stretches=tuple(sorted((*said.stretches, *kept))))
    change = difference(known, said, now)
    if change == NOTHING:
        new_days = said.until - known.until >= DAY
        return Verdict(said if new_days or known.changed is not None else None)
    if known.changed is None:
        return Verdict(replace(known, changed=now))
    return Verdict(said, change) if now - known.changed >= SETTLES else Verdict()


def difference(known: Known, said: Known, now: int) -> Change:
    """Within the time of which both tell."""
    until = min(known.until, said.until)
    before, after = _within(known.stretches, now, until), _within(said.stretches, now, until)
    if before == after:
        return NOTHING
    return Change(tuple(_without(after, before)), tuple(_without(before, after)))


def _within(stretches: Sequence[Stretch], since: int, until: int) -> list[Stretch]:
    cut = [replace(each, start=max(each.start, since), end=min(each.end, until)) for each in stretches]
    return [each for each in cut if each.start < each.end]


def _without(these: Sequence[Stretch], others: Sequence[Stretch]) -> list[Stretch]:
    """What is left of `these` where `others` are not."""
    taken: dict[str, list[Stretch]] = {}
    for other in sorted(others):
        taken.setdefault(other.schedule, []).append(other)
    left: list[Stretch] = []
    for each in sorted(these):
        start = each.start
        for other in taken.get(each.schedule, ()):
            if other.end <= start or other.start >= each.end:
                continue
            if other.start > start:
                left.append(replace(each, start=start, end=other.start))
            start = max(start, other.end)
        if start < each.end:
            left.append(replace(each, start=start))
    return left

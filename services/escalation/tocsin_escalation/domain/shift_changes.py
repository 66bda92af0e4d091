"""The effect of changes on a user's shifts: time that became theirs, and time they lost.

What a user knows is compared with the schedules, so each change of who is on call is noticed. Instants are minutes, see
`schedules.clock`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.shift_notices import Shift

LOOKED_AT: Final = 28 * DAY
"""Minutes from now for which changes are reported."""
SETTLES: Final = 2
"""Minutes for which a difference must last before it is reported: schedules are often changed in several steps."""
MOST: Final = 1000
"""Stretches that are stored for one user, the nearest."""


@dataclass(frozen=True, slots=True, order=True)
class ShiftTime:
    """The user is on call in a schedule within [start, end)."""

    schedule: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class KnownShifts:
    """What a user knows: all their shifts up to `until`. `changed`: since when the schedules differ from it."""

    until: int
    stretches: tuple[ShiftTime, ...]
    changed: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """The time that became the user's, and the time they lost."""

    gained: tuple[ShiftTime, ...] = ()
    lost: tuple[ShiftTime, ...] = ()

    @property
    def schedules(self) -> frozenset[str]:
        """In which something is different."""
        return frozenset(each.schedule for each in (*self.gained, *self.lost))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the user knows from now on, None if that is unchanged; and what is reported."""

    known: KnownShifts | None = None
    told: Change | None = None


NOTHING: Final = Change()


def present(shifts: Iterable[Shift], now: int, until: int) -> KnownShifts:
    """The user's shifts from now until then, by the schedules."""
    found = [
        ShiftTime(shift.schedule, max(shift.start or now, now), min(until if shift.end is None else shift.end, until))
        for shift in shifts
    ]
    nearest = sorted((each for each in found if each.start < each.end), key=lambda each: (each.start, each.schedule))
    if len(nearest) > MOST:
        until = nearest[MOST].start
        nearest = nearest[:MOST]
    return KnownShifts(until, tuple(sorted(replace(each, end=min(each.end, until)) for each in nearest)))


def judge(known: KnownShifts | None, said: KnownShifts, now: int, not_looked_at: Collection[str] = ()) -> Verdict:
    """The consequences of the difference between what a user knows and the schedules. For schedules that were not resolved, the
    known shifts are kept."""
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


def difference(known: KnownShifts, said: KnownShifts, now: int) -> Change:
    """Within the time that both cover."""
    until = min(known.until, said.until)
    before, after = _within(known.stretches, now, until), _within(said.stretches, now, until)
    if before == after:
        return NOTHING
    return Change(tuple(_without(after, before)), tuple(_without(before, after)))


def _within(stretches: Sequence[ShiftTime], since: int, until: int) -> list[ShiftTime]:
    cut = [replace(each, start=max(each.start, since), end=min(each.end, until)) for each in stretches]
    return [each for each in cut if each.start < each.end]


def _without(these: Sequence[ShiftTime], others: Sequence[ShiftTime]) -> list[ShiftTime]:
    """The parts of `these` that are not in `others`."""
    taken: dict[str, list[ShiftTime]] = {}
    for other in sorted(others):
        taken.setdefault(other.schedule, []).append(other)
    left: list[ShiftTime] = []
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

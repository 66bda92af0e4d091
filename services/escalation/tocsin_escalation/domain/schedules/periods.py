"""Cuts a time out of fixed periods."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tocsin_escalation.domain.schedules.model import FixedShift
from tocsin_escalation.domain.schedules.windows import Interval, without


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a period that is left: within [start, end) its shifts count."""

    start: int
    end: int
    shifts: tuple[FixedShift, ...]


def pieces_without(period: Interval, shifts: Sequence[FixedShift], gone: Interval) -> list[Piece]:
    """The parts of a period that are left, in order: none, one, or two."""
    return [Piece(start, end, _within(shifts, start, end)) for start, end in without([period], [gone])]


def _within(shifts: Sequence[FixedShift], start: int, end: int) -> tuple[FixedShift, ...]:
    cut = (replace(each, start=max(each.start, start), end=min(each.end, end)) for each in shifts)
    return tuple(each for each in cut if each.start < each.end)

"""How two users swap: one gives a stretch of time on call to the other, who may give one in return.

A swap becomes overrides of persons. Where the giver is on call instead of another person, that person's override is made anew: a
substitute is not replaced again.
"""

from dataclasses import dataclass, replace
from typing import Final

from tocsin_escalation.domain.schedules.model import Group, Override, Schedule, Scope, Segment, Source, SourceKind
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.words import at, name_of

MOST_PIECES: Final = 20
"""The most overrides that one stretch may need."""
_LAST: Final = 1 << 62
"""The order of overrides that are not stored yet: later than all others."""


class NotPossible(ValueError):
    """The swap is not possible; the text says why. `stretch` is the one that prevents it."""

    def __init__(self, stretch: "SwapStretch", why: str) -> None:
        super().__init__(why)
        self.stretch = stretch


@dataclass(frozen=True, slots=True)
class SwapStretch:
    """Within [start, end) `giver` is on call, and `taker` is to be."""

    start: int
    end: int
    giver: str
    taker: str


@dataclass(frozen=True, slots=True)
class Replacement:
    """An override of one person: within [start, end) `people` are on call for `of`."""

    start: int
    end: int
    of: str
    people: Group


def must_have(schedule: Schedule, stretch: SwapStretch) -> tuple[Segment, ...]:
    """The segments of the stretch, in all of which the giver is on call. Raises NotPossible."""
    found = resolve(schedule, stretch.start, stretch.end)
    for segment in found:
        if stretch.giver not in segment.people:
            raise NotPossible(stretch, f"users/{stretch.giver} is not on call {_when(segment)}")
    return found


def exchange(schedule: Schedule, *stretches: SwapStretch) -> tuple[Replacement, ...]:
    """The overrides for the swap of the stretches, one after the other. Raises NotPossible."""
    made: list[Replacement] = []
    for stretch in stretches:
        replacements = _replacements(schedule, stretch)
        schedule = replace(schedule, overrides=(*schedule.overrides, *map(_override, replacements)))
        made += replacements
    for stretch in stretches:
        _check(schedule, stretch)
    return tuple(made)


def _replacements(schedule: Schedule, stretch: SwapStretch) -> list[Replacement]:
    found: list[Replacement] = []
    newest: dict[tuple[str, Group], int] = {}
    for segment in must_have(schedule, stretch):
        if stretch.taker in segment.people:
            raise NotPossible(stretch, f"users/{stretch.taker} is on call as well {_when(segment)}")
        for source in segment.sources:
            if stretch.giver not in source.people:
                continue
            of, people = _in_place_of(schedule, segment, source, stretch)
            before = newest.get((of, people))
            if before is not None and found[before].end == segment.start:
                found[before] = replace(found[before], end=segment.end)
            elif before is None or found[before].end < segment.end:
                newest[of, people] = len(found)
                found.append(Replacement(segment.start, segment.end, of, people))
    if len(found) > MOST_PIECES:
        raise NotPossible(
            stretch, f"the stretch is made of {len(found)} pieces, and may be of {MOST_PIECES}; take a shorter one"
        )
    return found


def _in_place_of(schedule: Schedule, segment: Segment, source: Source, stretch: SwapStretch) -> tuple[str, Group]:
    """The person whom an override must name so that the taker replaces the giver, and all people that it puts on call."""
    if source.kind is SourceKind.STAND_IN:
        why = f"users/{stretch.giver} stands in for users/{source.instead_of} {_when(segment)}: use an override"
        raise NotPossible(stretch, why)
    if source.kind is SourceKind.FIXED_PERIOD:
        why = f"{name_of(source)} says who is on call {_when(segment)}: change that"
        raise NotPossible(stretch, why)
    if not source.instead_of:
        return stretch.giver, (stretch.taker,)
    [*_, newest] = sorted(
        (
            each
            for each in schedule.overrides
            if each.scope is Scope.PERSON
            and each.of == source.instead_of
            and each.start <= segment.start < each.end
            and source.id in (each.id, each.swap)
        ),
        key=lambda each: each.order,
    )
    return source.instead_of, tuple(stretch.taker if user == stretch.giver else user for user in newest.people)


def _check(schedule: Schedule, stretch: SwapStretch) -> None:
    """Whether the overrides have the wanted effect: a user who is away would not be on call."""
    for segment in resolve(schedule, stretch.start, stretch.end):
        if stretch.taker in segment.away:
            raise NotPossible(stretch, f"users/{stretch.taker} is away or disabled {_when(segment)}")
        if stretch.taker not in segment.people or stretch.giver in segment.people:
            raise NotPossible(stretch, f"other overrides decide who is on call {_when(segment)}")


def _override(made: Replacement) -> Override:
    return Override("", made.start, made.end, Scope.PERSON, made.people, _LAST, made.of, swap="this one")


def _when(segment: Segment) -> str:
    return f"from {at(segment.start)} to {at(segment.end)}"

"""Who is on call within a stretch of time: the one function that all callers use.

Its rules, in this order:
1. Each layer deals its turns to its line-up, clipped by its windows. An external calendar is a layer with given shifts.
2. Overrides of a layer replace its people where it has a turn; of several the newest counts.
3. Layers of one rank add up. If one of them masks, it hides the lower ranks; otherwise they add to them.
4. An override of the whole schedule replaces everything so far, also a gap; of several the newest counts. An override that adds
   people adds them to those on call, unless a newer override replaces the whole schedule.
5. Overrides of a person replace that person once. An override of a person is ignored if it is older than the override that put
   the person there, and a substitute is not replaced again.
6. Within a fixed period only its shifts count; of several periods the newest one.
7. Users who are away, disabled or deleted are removed. If the schedule says so, the next available user of the layer's line-up
   steps in. If one person is next in several layers, they step in for the layer of the highest rank.
8. Equal neighbours are one segment. A time without a user on call is a gap, unless the schedule leaves it empty on purpose.

A segment includes its start and excludes its end: an instant at a boundary belongs to the segment that begins.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Final, TypeVar

from tocsin_escalation.domain.schedules.layers import Span, behind, groups, spans
from tocsin_escalation.domain.schedules.model import (
    FOREVER,
    Coverage,
    FixedPeriod,
    Imported,
    Layer,
    Mode,
    Override,
    Schedule,
    Scope,
    Segment,
    Source,
    SourceKind,
)
from tocsin_escalation.domain.schedules.windows import merged

_BY_LAYER: Final = -1
"""The order of people whom no override has put on call."""

T = TypeVar("T", Override, FixedPeriod)


@dataclass(frozen=True, slots=True)
class _Slot:
    """One person, the reason, and where the line-up continues. `user` is empty for no user on purpose."""

    user: str
    kind: SourceKind
    id: str
    turn: int | None = None
    instead_of: str = ""
    order: int = _BY_LAYER
    layer: Layer | None = None
    place: int = 0


class _Line:
    """A layer's spans, and the people of each, both computed on demand: callers that look ahead stop long before the last span."""

    def __init__(self, layer: Layer, since: int, until: int) -> None:
        self.layer = layer
        self._spans = spans(layer, since, until)
        self._dealt: tuple[Span, tuple[_Slot, ...]] | None = None

    def next_span(self) -> Span | None:
        """The spans in their order, and then None."""
        return next(self._spans, None)

    def slots(self, span: Span) -> tuple[_Slot, ...]:
        """Pieces of one span follow one another, so the newest answer is cached."""
        if self._dealt is None or self._dealt[0] is not span:
            self._dealt = (span, _slots(self.layer, span))
        return self._dealt[1]


class _ImportedLine:
    """Like `_Line`, for an external calendar: a span for each stretch with the same shifts."""

    def __init__(self, layer: Imported, since: int, until: int) -> None:
        self.layer = layer
        self._shifts = [each for each in layer.shifts if each.start < until and each.end > since]
        changes = Counter(max(each.start, since) for each in self._shifts)
        changes.subtract(min(each.end, until) for each in self._shifts)
        edges = sorted(changes)
        holding = accumulate(changes[edge] for edge in edges)
        stretches = zip(pairwise(edges), holding, strict=False)
        self._spans = (Span(start, end, 0, 0) for (start, end), many in stretches if many)

    def next_span(self) -> Span | None:
        """The spans in their order, and then None."""
        return next(self._spans, None)

    def slots(self, span: Span) -> tuple[_Slot, ...]:
        return tuple(
            _Slot(user, SourceKind.CALENDAR, self.layer.id)
            for shift in self._shifts
            if shift.start <= span.start < shift.end
            for user in shift.people
        )


def resolve(schedule: Schedule, since: int, until: int) -> tuple[Segment, ...]:
    """Who is on call within [since, until), without holes: gaps are segments too. Raises ValueError when it is empty."""
    found: list[Segment] = []
    for piece in pieces(schedule, since, until):
        if found and same(found[-1], piece):
            found[-1] = replace(found[-1], end=piece.end)
        else:
            found.append(piece)
    return tuple(found)


def pieces(schedule: Schedule, since: int, until: int) -> Iterator[Segment]:
    """Like `resolve`, one by one on demand, and equal neighbours are not joined. Raises ValueError."""
    if since >= until:
        raise ValueError("the stretch of time is empty")
    # Layers that have ended, or begin later, cost nothing: a schedule keeps dozens of closed versions of its layers.
    counting = tuple(layer for layer in schedule.layers if layer.until > since and layer.since < until)
    lines: list[_Line | _ImportedLine] = [_Line(layer, since, until) for layer in counting]
    lines += [_ImportedLine(each, since, until) for each in schedule.imported]
    # Highest rank first; within one rank in the order of their definition.
    lines.sort(key=lambda line: -line.layer.rank)
    if schedule.absences:
        schedule = replace(schedule, absences=_absences(schedule, since, until))
    overrides = sorted(_within(schedule.overrides, since, until), key=lambda override: override.order)
    periods = sorted(_within(schedule.fixed_periods, since, until), key=lambda period: period.order)
    edges = iter(sorted(_edges(schedule, overrides, periods, since, until)))
    edge = next(edges)
    here: list[Span | None] = [line.next_span() for line in lines]
    start = since
    while start < until:
        while edge <= start:
            edge = next(edges)
        end = _advance(lines, here, start, edge)
        period = next((each for each in reversed(periods) if each.start <= start < each.end), None) if periods else None
        if period is not None:
            slots = tuple(_fixed(period, start))
        else:
            active = [each for each in overrides if each.start <= start < each.end] if overrides else []
            slots = _overridden(_dealt(lines, here, start, active), active)
        yield _segment(start, end, slots, schedule)
        start = end


def _advance(lines: list[_Line | _ImportedLine], here: list[Span | None], start: int, edge: int) -> int:
    """Make `here` the span of each line that has not ended at `start`. Returns until when that holds, at most `edge`."""
    for number, span in enumerate(here):
        while span is not None and span.end <= start:
            span = here[number] = lines[number].next_span()
        if span is not None:
            change = span.end if span.start <= start else span.start
            edge = min(edge, change)
    return edge


def _absences(schedule: Schedule, since: int, until: int) -> dict[str, tuple[tuple[int, int], ...]]:
    """Absences within [since, until), of each user disjoint and in order: users who may step in are looked up again and again."""
    within = {
        user: merged(pair for pair in times if pair[0] < until and pair[1] > since)
        for user, times in schedule.absences.items()
    }
    return {user: tuple(times) for user, times in within.items() if times}


def _slots(layer: Layer, span: Span) -> tuple[_Slot, ...]:
    return tuple(
        _Slot(user, SourceKind.LAYER, layer.id, span.turn, layer=layer, place=span.place)
        for group in groups(layer, span.place)
        for user in group or ("",)
    )


def _within(found: tuple[T, ...], since: int, until: int) -> list[T]:
    return [each for each in found if each.start < until and each.end > since]


def _edges(
    schedule: Schedule, overrides: list[Override], periods: list[FixedPeriod], since: int, until: int
) -> set[int]:
    """Every instant at which something else than the spans of a line may change."""
    edges = {since, until}
    others = [(each.start, each.end) for each in overrides] + [(each.start, each.end) for each in periods]
    others += [(shift.start, shift.end) for period in periods for shift in period.shifts]
    others += [times for away in schedule.absences.values() for times in away]
    edges.update(minute for pair in others for minute in pair if since < minute < until)
    return edges


def _dealt(
    lines: list[_Line | _ImportedLine], here: list[Span | None], start: int, active: list[Override]
) -> tuple[_Slot, ...]:
    """The people of the layers at `start`: rules 2 and 3. `here` has the span of each that has not ended."""
    found: tuple[_Slot, ...] = ()
    rank, masked = None, False
    for number, line in enumerate(lines):
        if masked and line.layer.rank != rank:
            break
        span = here[number]
        if span is None or span.start > start:
            continue
        rank = line.layer.rank
        slots = line.slots(span)
        for override in active:
            if override.scope is Scope.LAYER and override.of == line.layer.id:
                slots = _put_in(override)
        found += slots
        masked = masked or line.layer.mode is Mode.MASK
    return found


def _overridden(slots: tuple[_Slot, ...], active: list[Override]) -> tuple[_Slot, ...]:
    """Rules 4 and 5."""
    persons: dict[str, Override] = {}
    for override in active:
        if override.scope is Scope.SCHEDULE:
            slots = _put_in(override)
        elif override.scope is Scope.BESIDE:
            slots += _put_in(override)
        elif override.scope is Scope.PERSON:
            persons[override.of] = override
    if not persons:
        return slots
    found: list[_Slot] = []
    for slot in slots:
        last = persons.get(slot.user) if slot.user else None
        found += _put_in(last, slot.user) if last is not None and last.order > slot.order else (slot,)
    return tuple(found)


def _put_in(override: Override, instead_of: str = "") -> tuple[_Slot, ...]:
    kind, id = (SourceKind.SWAP, override.swap) if override.swap else (SourceKind.OVERRIDE, override.id)
    return tuple(
        _Slot(user, kind, id, instead_of=instead_of, order=override.order) for user in override.people or ("",)
    )


def _fixed(period: FixedPeriod, start: int) -> Iterator[_Slot]:
    for shift in period.shifts:
        if shift.start <= start < shift.end:
            yield from (_Slot(user, SourceKind.FIXED_PERIOD, period.id) for user in shift.people or ("",))


def _segment(start: int, end: int, slots: tuple[_Slot, ...], schedule: Schedule) -> Segment:
    """Rules 7 and 8."""
    away: tuple[str, ...] = ()
    if schedule.absences or schedule.unusable:
        slots, away = _present(slots, schedule, start)
    if len(slots) == 1 and not away and slots[0].user:
        only = slots[0]
        alone = (only.user,)
        source = Source(only.kind, only.id, alone, only.turn, only.instead_of)
        return Segment(start, end, alone, (source,), Coverage.ON_CALL)
    sources: dict[tuple[object, ...], list[str]] = {}
    people: dict[str, None] = {}
    for slot in slots:
        who = sources.setdefault((slot.kind, slot.id, slot.turn, slot.instead_of), [])
        if slot.user:
            people[slot.user] = None
            if slot.user not in who:
                who.append(slot.user)
    if people:
        coverage = Coverage.ON_CALL
    else:
        coverage = Coverage.NOBODY if slots and not away else Coverage.GAP
    why = tuple(Source(kind, id, tuple(who), turn, instead) for (kind, id, turn, instead), who in sources.items())  # type: ignore[arg-type]
    return Segment(start, end, tuple(people), why, coverage, away)


def _present(slots: tuple[_Slot, ...], schedule: Schedule, start: int) -> tuple[tuple[_Slot, ...], tuple[str, ...]]:
    """The users who are available, with those who step in; and those who are not available."""
    present: list[_Slot] = []
    away: dict[str, None] = {}
    for slot in slots:
        if not slot.user or _there(slot.user, schedule, start):
            present.append(slot)
            continue
        away[slot.user] = None
    if away and schedule.stand_in:
        taken = {slot.user for slot in present}
        for slot in slots:
            if slot.user in away and slot.layer is not None:
                for stand_in in _stand_ins(slot, schedule, start, taken):
                    taken.add(stand_in.user)
                    present.append(stand_in)
    return tuple(present), tuple(away)


def _stand_ins(slot: _Slot, schedule: Schedule, start: int, taken: set[str]) -> list[_Slot]:
    """The next users of the line-up who are available and not on call already; one for each missing one."""
    assert slot.layer is not None, "only layers have a line-up"
    for group in behind(slot.layer, slot.place):
        for user in group:
            if user not in taken and _there(user, schedule, start):
                return [replace(slot, user=user, kind=SourceKind.STAND_IN, instead_of=slot.user)]
    return []


def _there(user: str, schedule: Schedule, start: int) -> bool:
    if user in schedule.unusable:
        return False
    times = schedule.absences.get(user, ())
    before = bisect_right(times, (start, FOREVER))
    return before == 0 or times[before - 1][1] <= start


def same(one: Segment, other: Segment) -> bool:
    """Whether the same people are on call for the same reasons."""
    return (one.people, one.sources, one.coverage, one.away) == (
        other.people,
        other.sources,
        other.coverage,
        other.away,
    )

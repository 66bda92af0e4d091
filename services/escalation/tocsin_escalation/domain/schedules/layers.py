"""When the groups of one layer are on call, before other layers are looked at."""

from collections.abc import Iterator
from typing import NamedTuple

from tocsin_escalation.domain.schedules.clock import clock_or_utc
from tocsin_escalation.domain.schedules.model import Group, Layer
from tocsin_escalation.domain.schedules.turns import turns_of
from tocsin_escalation.domain.schedules.windows import opened


class Span(NamedTuple):
    """Within [start, end) it is the turn of the group at `place` of the line-up, and of the `concurrent - 1` groups after it."""

    start: int
    end: int
    turn: int
    place: int


def spans(layer: Layer, since: int, until: int) -> Iterator[Span]:
    """The layer's spans within [since, until), in order: turns cut by windows and by the times at which the layer counts."""
    turns = turns_of(layer)
    since, until = max(since, layer.since, layer.not_before, turns.start(0)), min(until, layer.until)
    if since >= until:
        return
    turn = turns.at(since)
    end = turns.start(turn + 1)
    for opens, closes in opened(layer.windows, clock_or_utc(layer.zone), since, until, layer.holidays):
        start = opens
        while start < closes:
            while end <= start:
                turn += 1
                end = turns.start(turn + 1)
            to = end if end < closes else closes
            yield Span(start, to, turn, turns.place(turn))
            start = to


def groups(layer: Layer, place: int) -> list[Group]:
    """Who is on call together at this place of the line-up."""
    if layer.concurrent == 1:
        return [layer.line_up[place]]
    size = len(layer.line_up)
    return [layer.line_up[(place + behind) % size] for behind in range(min(layer.concurrent, size))]


def behind(layer: Layer, place: int) -> Iterator[Group]:
    """The groups after those on call, nearest first."""
    size = len(layer.line_up)
    for step in range(min(layer.concurrent, size), size):
        yield layer.line_up[(place + step) % size]

"""The hours of the week at which a layer counts."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY, Clock, weekday_of
from tocsin_escalation.domain.schedules.model import ALWAYS, FOREVER, Holidays, Window

Interval = tuple[int, int]
WHOLE_DAYS: Final = (Window(frozenset(range(7)), 0),)


def opened(
    windows: tuple[Window, ...], clock: Clock, since: int, until: int, holidays: Holidays | None = None
) -> Iterator[Interval]:
    """The instants within [since, until) that lie in a window, as disjoint intervals in order. Without windows: all.

    Computed one by one on demand: to know who is on call now, one or two of weeks are enough.

    With `holidays`, only windows on the days that these select.

    A window that begins or ends at a skipped local time begins or ends right after the gap; of a local time that occurs twice it
    begins at the first and ends at the last.
    """
    if not windows and holidays is None:
        yield since, until
        return
    before: Interval | None = None
    for begins, ends in _on_the_wall(windows, clock.local(since), clock.local(until), holidays):
        start, end = max(clock.instant(begins), since), min(clock.instant(ends, last=True), until)
        if start >= end:
            continue
        if before is None or start > before[1]:
            if before is not None:
                yield before
            before = (start, end)
        elif end > before[1]:
            before = (before[0], end)
    if before is not None:
        yield before


def touched(windows: tuple[Window, ...], begins: int, ends: int, holidays: Holidays | None = None) -> bool:
    """Whether any local time within [begins, ends) is in a window. Without windows: yes."""
    if begins >= ends:
        return False
    if not windows and holidays is None:
        return True
    return any(s < ends and e > begins for s, e in _on_the_wall(windows, begins, ends, holidays))


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Disjoint and in order; empty ones are left out."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def both(these: Sequence[Interval], others: Sequence[Interval]) -> list[Interval]:
    """The time that lies in both. Each is disjoint and in order, and so is the answer."""
    found: list[Interval] = []
    one = other = 0
    while one < len(these) and other < len(others):
        start, end = max(these[one][0], others[other][0]), min(these[one][1], others[other][1])
        if start < end:
            found.append((start, end))
        if these[one][1] == end:
            one += 1
        else:
            other += 1
    return found


def without(these: Sequence[Interval], others: Sequence[Interval]) -> list[Interval]:
    """The time of these that is in none of the others; otherwise like `both`."""
    starts = [ALWAYS, *(end for _, end in others)]
    ends = [*(start for start, _ in others), FOREVER]
    return both(these, list(zip(starts, ends, strict=True)))


def _on_the_wall(windows: tuple[Window, ...], begins: int, ends: int, holidays: Holidays | None) -> Iterable[Interval]:
    """Every window that may touch [begins, ends), by start, with one more day on each side: clocks change by up to a day."""
    in_order = windows or WHOLE_DAYS
    if len(in_order) > 1:
        in_order = tuple(sorted(in_order, key=lambda window: window.start))
    first = (begins - max([window.start + window.length for window in in_order])) // DAY - 1
    for day in range(first, ends // DAY + 2):
        if holidays is not None and not holidays.hold(day):
            continue
        weekday, midnight = weekday_of(day), day * DAY
        for window in in_order:
            if weekday in window.days:
                start = midnight + window.start
                if start + window.length >= begins - DAY:
                    yield start, start + window.length

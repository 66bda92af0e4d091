"""The outcome of a round as a table: one line for the calm, one for each kind of fault."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.checker import AFTERWARDS, Rule, check, excused_doubles, lateness, overtaken
from tests.chaos.history import Fault, History

CALM = "calm"
COLUMNS = (
    *("fault", "times", "pages", "lost", "double", "excused", "after OK", "nobody's", "overtaken", "refused"),
    *("during p50", "p99", "max", "after p50", "p99", "max"),
)


@dataclass(slots=True)
class Row:
    """What happened in the time of one kind of fault."""

    times: int = 0
    pages: int = 0
    """Levels that were due in its time and rang."""
    refused: int = 0
    broken: dict[Rule, int] = field(default_factory=lambda: defaultdict(int))
    excused: int = 0
    overtaken: int = 0
    during: list[float] = field(default_factory=list)
    """Seconds late, of what was due while it lasted (in the calm: of everything)."""
    after: list[float] = field(default_factory=list)
    """Seconds late, of what was due in the 10 s after its end; seconds after its end, of what it had held up."""


def rows(history: History) -> dict[str, Row]:
    """By the name of the fault, the calm first. Everything belongs to the last fault that began before it."""
    table: dict[str, Row] = defaultdict(Row)
    table[CALM] = Row()
    faults = sorted(history.faults, key=lambda each: each.began)
    for fault in faults:
        table[fault.name].times += 1
        table[fault.name].refused += fault.refused
    for late in lateness(history):
        near = _near(faults, late.due)
        row = table[_name(near)]
        row.pages += 1
        if near is not None and late.due > near.ended:
            row.after.append(late.seconds)
            continue
        row.during.append(late.seconds)
        if near is not None and late.rang > near.ended:
            row.after.append(late.rang - near.ended)
    for violation in check(history):
        table[_name(_near(faults, violation.at))].broken[violation.rule] += 1
    for call in excused_doubles(history):
        table[_name(_near(faults, call.began))].excused += 1
    for call in overtaken(history):
        table[_name(_near(faults, call.began))].overtaken += 1
    return table


def render(history: History) -> str:
    """The table as text: seconds, and how many."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    for name, row in sorted(rows(history).items(), key=lambda each: (each[0] != CALM, each[0])):
        broken = row.broken
        counts = [broken["lost"], broken["double"], row.excused, broken["after OK"], broken["nobody's"], row.overtaken]
        numbers = [row.times, row.pages, *counts, row.refused]
        lines.append((name, *map(str, numbers), *_spread(row.during), *_spread(row.after)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(word.rjust(width) for word, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _near(faults: list[Fault], at: float) -> Fault | None:
    began = [fault for fault in faults if fault.began <= at]
    return began[-1] if began and at <= began[-1].ended + AFTERWARDS else None


def _name(fault: Fault | None) -> str:
    return CALM if fault is None else fault.name


def _spread(seconds: Iterable[float]) -> tuple[str, str, str]:
    values = sorted(seconds)
    if not values:
        return "-", "-", "-"
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    return f"{values[len(values) // 2]:.2f}", f"{p99:.2f}", f"{values[-1]:.2f}"

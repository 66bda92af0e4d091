"""Faults of layers beyond their shape."""

from collections.abc import Mapping, Sequence
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY, UnknownZone, clock, time_of, wall_of
from tocsin_escalation.domain.schedules.model import Counts, Layer, Turn, Unit
from tocsin_escalation.domain.schedules.turns import keeps_wall
from tocsin_escalation.domain.schedules.work import COMING, MOST, MOST_TOGETHER, coming

_MOST: Final = {Unit.HOUR: 8760, Unit.DAY: 365, Unit.WEEK: 52, Unit.MONTH: 12}
MOST_USERS: Final = 100
"""Users in one line-up. A schedule is read as a whole for each page that it decides."""
MOST_COVERED_WINDOWS: Final = 7
_WEEK: Final = 7 * 24 * 60
_COMING: Final = COMING // DAY
_WORST: Final = 3
"""Schedules that an error about a policy names."""

Problem = tuple[str, str]
"""The field, as `layers[0].start`, and what is wrong with it."""


def problems(zone: str, layers: Sequence[Layer]) -> list[Problem]:
    """All of them; none when the layers can be used."""
    found: list[Problem] = []
    if not _known(zone):
        found.append(("time_zone", _no_zone(zone)))
    seen: set[str] = set()
    for number, layer in enumerate(layers):
        path = f"layers[{number}]"
        if layer.id in seen:
            found.append((f"{path}.layer_id", f"{layer.id} is the id of another layer as well"))
        seen.add(layer.id)
        found += _layer(path, layer, zone)
    return found


def too_much(layers: Sequence[Layer], kept: Sequence[Layer] = ()) -> Problem | None:
    """Whether the coming days of otherwise correct layers are too much work for the moment in which a page is decided.

    `kept`: the stored layers. A change that does not increase their work is never refused.
    """
    work = coming(layers)
    if work <= MOST or work <= coming(kept):
        return None
    text = (
        f"the next {_COMING} days of these layers are {work} units of work, and may be {MOST} at most (the pieces into which turns "
        "and windows cut the time, times the people on call at once): use longer turns, fewer windows or fewer people at once, "
        "or several schedules"
    )
    return "layers", text


def too_much_together(work: Mapping[str, int]) -> str:
    """What is wrong with a policy whose schedules have this much work, by id; empty for a correct one."""
    total = sum(work.values())
    if total <= MOST_TOGETHER:
        return ""
    worst = sorted(work.items(), key=lambda each: (-each[1], each[0]))[:_WORST]
    named = ", ".join(f"schedules/{id} with {each}" for id, each in worst)
    return (
        f"the next {_COMING} days of the {len(work)} schedules that the policy names are {total} units of work, and may be "
        f"{MOST_TOGETHER} at most: name fewer, or give these longer turns and fewer windows: {named}"
    )


def _layer(path: str, layer: Layer, zone: str) -> list[Problem]:
    found: list[Problem] = []
    if _known(layer.zone):
        found += _start(path, layer)
    elif layer.zone != zone:
        found.append((f"{path}.time_zone", _no_zone(layer.zone)))
    for number, turn in enumerate(layer.turns):
        if turn.count > _MOST[turn.unit]:
            found.append(
                (f"{path}.turns[{number}].count", f"must be at most {_most(turn)}: a turn lasts a year at most")
            )
    if sum(map(len, layer.line_up)) > MOST_USERS:
        found.append((f"{path}.line_up", f"must name at most {MOST_USERS} users"))
    if layer.counts is Counts.COVERED:
        if not keeps_wall(layer.turns):
            text = "needs turns of hours that divide a day, of days, weeks or months: others keep no time on the wall"
            found.append((f"{path}.counting", text))
        if layer.holidays:
            found += _covered_holidays(path, layer)
    for number, window in enumerate(layer.windows):
        if not 0 < window.length <= _WEEK:
            found.append((f"{path}.windows[{number}]", "must end after its start, and last a week at most"))
    if layer.not_before >= layer.until:
        found.append((f"{path}.effective_end_time", "must be later than effective_start_time"))
    return found


def _covered_holidays(path: str, layer: Layer) -> list[Problem]:
    """Holidays do not repeat like weeks: each turn since the first must be examined."""
    found: list[Problem] = []
    if any(turn.unit is Unit.HOUR for turn in layer.turns):
        found.append((f"{path}.counting", "with holidays needs turns of days, weeks or months"))
    if len(layer.windows) > MOST_COVERED_WINDOWS:
        text = f"may be {MOST_COVERED_WINDOWS} at most where covered turns are counted with holidays"
        found.append((f"{path}.windows", text))
    return found


def _start(path: str, layer: Layer) -> list[Problem]:
    """A time that a person enters must occur exactly once."""
    instants = clock(layer.zone).candidates(layer.anchor)
    if len(instants) == 1:
        return []
    wall = f"{wall_of(layer.anchor):%Y-%m-%dT%H:%M}"
    if instants:
        both = " and ".join(f"{time_of(minute):%Y-%m-%d %H:%M} UTC" for minute in instants)
        return [(f"{path}.start", f"{wall} comes twice in {layer.zone}, at {both}; take a time that comes once")]
    after = clock(layer.zone).instant(layer.anchor)
    around = [f"{wall_of(clock(layer.zone).local(minute)):%Y-%m-%dT%H:%M}" for minute in (after - 1, after)]
    text = (
        f"{wall} does not exist in {layer.zone}, where the clocks go from {around[0]} to {around[1]}; take one of these"
    )
    return [(f"{path}.start", text)]


def zone_problem(zone: str) -> str:
    """What is wrong with the name of a zone; empty for a known one."""
    return "" if _known(zone) else _no_zone(zone)


def _known(zone: str) -> bool:
    try:
        clock(zone)
    except UnknownZone:
        return False
    return True


def _no_zone(zone: str) -> str:
    return f"{zone!r} is no IANA time zone; write for example Europe/Berlin"


def _most(turn: Turn) -> str:
    return f"{_MOST[turn.unit]} {turn.unit}s"

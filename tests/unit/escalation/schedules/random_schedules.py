"""Schedules at random, most of them near a change of the clocks."""

from datetime import datetime
from random import Random

from tocsin_escalation.domain.schedules.clock import DAY, clock, local_of
from tocsin_escalation.domain.schedules.model import (
    Counts,
    FixedPeriod,
    FixedShift,
    Group,
    Holidays,
    Imported,
    Layer,
    Mode,
    Override,
    Schedule,
    Scope,
    Turn,
    Unit,
    Window,
)
from tocsin_escalation.domain.schedules.turns import keeps_wall

PEOPLE = ("ana", "ben", "cem", "dora", "eva", "finn")
# (zone, a wall time near which its clocks change)
CHANGES = (
    ("Europe/Berlin", "2026-03-29 02:00"),
    ("Europe/Berlin", "2026-10-25 02:00"),
    ("America/New_York", "2027-03-14 02:00"),
    ("America/New_York", "2025-11-02 01:00"),
    ("Australia/Lord_Howe", "2026-04-05 02:00"),
    ("Australia/Lord_Howe", "2026-10-04 02:00"),
    ("Pacific/Apia", "2011-12-30 00:00"),
    ("Africa/Casablanca", "2026-02-15 03:00"),
    ("Africa/Casablanca", "2026-03-22 02:00"),
    ("America/Sao_Paulo", "2018-11-04 00:00"),
    ("America/Santiago", "2026-04-05 00:00"),
    ("Pacific/Auckland", "2026-09-27 02:00"),
    ("Africa/Cairo", "2026-04-24 00:00"),
    ("Asia/Kathmandu", "2026-02-28 12:00"),
    ("America/St_Johns", "2026-11-01 01:00"),
    ("UTC", "2028-02-29 12:00"),
)
UNITS = (Unit.HOUR, Unit.HOUR, Unit.DAY, Unit.DAY, Unit.WEEK, Unit.MONTH)


def random_schedule(random: Random, hours: int) -> tuple[Schedule, int, int]:
    """A schedule, and a stretch of at most so many hours in which to look at it."""
    zone, change = random.choice(CHANGES)
    near = clock(zone).instant(local_of(datetime.fromisoformat(change)))
    since = near + random.randint(-60 * hours, 120) if random.random() < 0.8 else near + random.randint(-99999, 99999)
    until = since + random.randint(1, hours * 60)
    layers = tuple(_layer(random, number, zone, since, until) for number in range(random.randint(0, 4)))
    return (
        Schedule(
            "night",
            zone,
            layers,
            _overrides(random, layers, since, until),
            tuple(_period(random, order, since, until) for order in range(random.choice((0, 0, 0, 1, 2)))),
            {user: (_times(random, since, until),) for user in random.sample(PEOPLE, random.choice((0, 0, 1, 3)))},
            frozenset(random.sample(PEOPLE, random.choice((0, 0, 0, 1)))),
            random.random() < 0.5,
            tuple(_imported(random, number, since, until) for number in range(random.choice((0, 0, 0, 1, 2)))),
        ),
        since,
        until,
    )


def _layer(random: Random, number: int, zone: str, since: int, until: int) -> Layer:
    turns = tuple(
        Turn(random.choice(UNITS), random.choice((1, 1, 2, 3, 5, 7, 12))) for _ in range(random.choice((1, 1, 1, 2, 3)))
    )
    shortest = min(60 if turn.unit is Unit.HOUR else DAY for turn in turns)
    anchor = clock(zone).local(since) - random.randint(-200, 60 * shortest)
    anchor -= anchor % random.choice((1, 30, 60, DAY))
    counts = random.choice((Counts.ELAPSED, Counts.COVERED)) if keeps_wall(turns) else Counts.ELAPSED
    windows = tuple(_window(random) for _ in range(random.choice((0, 0, 1, 1, 2))))
    begins, ends = _times(random, since, until) if random.random() < 0.3 else (-(1 << 40), 1 << 40)
    return Layer(
        f"layer-{number}",
        turns,
        anchor,
        tuple(_group(random) for _ in range(random.randint(1, 5))),
        zone,
        rank=random.randint(0, 2),
        mode=random.choice(list(Mode)),
        windows=windows,
        holidays=_holidays(random, anchor, clock(zone).local(until)) if random.random() < 0.3 else None,
        counts=counts,
        concurrent=random.choice((1, 1, 1, 2, 3)),
        not_before=since + random.randint(-99, 99) if random.random() < 0.1 else -(1 << 40),
        since=begins,
        until=ends,
        shift=random.randint(0, 3),
    )


def _holidays(random: Random, begins: int, ends: int) -> Holidays:
    days = [day for day in range(begins // DAY - 9, ends // DAY + 3) if random.random() < 0.4]
    return Holidays("XX", "", random.random() < 0.5, frozenset(days))


def _window(random: Random) -> Window:
    days = frozenset(random.sample(range(7), random.randint(1, 7)))
    start = random.choice((0, 90, 105, 120, 150, 540, 1080, random.randint(0, 1439)))
    return Window(days, start, random.choice((1, 30, 60, 480, 720, DAY, 3 * DAY, random.randint(1, 7 * DAY))))


def _group(random: Random) -> Group:
    return tuple(random.sample(PEOPLE, random.choice((0, 1, 1, 1, 2))))


def _overrides(random: Random, layers: tuple[Layer, ...], since: int, until: int) -> tuple[Override, ...]:
    found = []
    for order in range(random.choice((0, 0, 1, 2, 4))):
        start, end = _times(random, since, until)
        scope = random.choice(list(Scope))
        of = ""
        if scope is Scope.LAYER:
            of = random.choice(layers).id if layers else "gone"
        elif scope is Scope.PERSON:
            of = random.choice(PEOPLE)
        people = _group(random)
        if scope is Scope.BESIDE:
            people = people or (random.choice(PEOPLE),)
        found.append(Override(f"override-{order}", start, end, scope, people, order, of))
    random.shuffle(found)
    return tuple(found)


def _period(random: Random, order: int, since: int, until: int) -> FixedPeriod:
    start, end = _times(random, since, until)
    shifts = tuple(FixedShift(*_times(random, start, end), _group(random)) for _ in range(random.randint(0, 3)))
    return FixedPeriod(f"period-{order}", start, end, shifts, order)


def _imported(random: Random, number: int, since: int, until: int) -> Imported:
    shifts = tuple(
        FixedShift(*_times(random, since, until), tuple(random.sample(PEOPLE, random.choice((1, 1, 2)))))
        for _ in range(random.randint(0, 4))
    )
    return Imported(f"import-{number}", random.randint(0, 2), random.choice(list(Mode)), shifts)


def _times(random: Random, since: int, until: int) -> tuple[int, int]:
    start = random.randint(since - 60, until)
    return start, start + random.randint(1, max(1, until - since))

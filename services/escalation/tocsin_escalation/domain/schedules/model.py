"""The definition of a schedule, as people write it. Instants and local times are minutes, see `clock`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.words import Word

FOREVER: Final = 1 << 40
"""Later than anything, in minutes."""
ALWAYS: Final = -(1 << 40)

Group = tuple[str, ...]
"""Users who are on call together; empty: no user, on purpose."""


class Mode(Word):
    """What a layer does to layers of a lower rank while it has users on call."""

    MASK = "mask"
    ADD = "add"


class Unit(StrEnum):
    """The unit of the length of a turn."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Counts(Word):
    """Which turns the line-up is dealt to."""

    ELAPSED = "elapsed"
    COVERED = "covered"
    """Only turns that have time within a window: after the user of Friday, the next one has Monday."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How long a turn lasts."""

    unit: Unit
    count: int

    @property
    def months(self) -> int:
        """Its length in whole months on the calendar; 0 if it is counted in something shorter."""
        return self.count if self.unit is Unit.MONTH else 0

    @property
    def hours(self) -> int:
        """Its length in real hours; 0 if it is counted in something longer."""
        return self.count if self.unit is Unit.HOUR else 0

    @property
    def days(self) -> int:
        """Its length in days on the calendar; 0 if it is counted in hours or months."""
        return self.count * {Unit.DAY: 1, Unit.WEEK: 7}.get(self.unit, 0)


@dataclass(frozen=True, slots=True)
class Window:
    """On these weekdays (Monday is 0), from `start` minutes after midnight for `length` minutes of local time; at most a week.

    A window belongs to the day it begins on.
    """

    days: frozenset[int]
    start: int
    length: int = DAY


@dataclass(frozen=True, slots=True)
class Holidays:
    """A layer counts only on the public holidays of a place, or never on them.

    `days` are those holidays, counted from 1970-01-01 on. They come from a pinned package, as zones do, and are not stored.
    """

    country: str
    subdivision: str
    only: bool
    days: frozenset[int]

    def hold(self, day: int) -> bool:
        """Whether the layer counts on a day."""
        return (day in self.days) == self.only


@dataclass(frozen=True)
class Layer:
    """One line-up with its rhythm. This is one version of it: a version that has begun is never changed, see `versions`.

    `turns` are applied in turn (a day, then three days); `anchor` is the local time at which the first begins. `shift` moves the
    line-up against the turns, so that a changed line-up continues with the right person. The version counts only within `since`
    and `until`, and not before `not_before`, which people set. `ended`: a change took the layer away. `holidays` are about the
    day on which a window begins; without windows they are about whole days.
    """

    id: str
    turns: tuple[Turn, ...]
    anchor: int
    line_up: tuple[Group, ...]
    zone: str
    name: str = ""
    rank: int = 0
    mode: Mode = Mode.MASK
    windows: tuple[Window, ...] = ()
    holidays: Holidays | None = None
    counts: Counts = Counts.ELAPSED
    concurrent: int = 1
    not_before: int = ALWAYS
    since: int = ALWAYS
    until: int = FOREVER
    shift: int = 0
    ended: bool = False


class Scope(Word):
    """What an override replaces."""

    SCHEDULE = "schedule"
    LAYER = "layer"
    PERSON = "person"
    BESIDE = "beside"
    """Replaces no user: its people are on call in addition."""


@dataclass(frozen=True, slots=True)
class Override:
    """Within [start, end) others are on call: `people`, or no user on purpose.

    `of` is the layer's id or the user who is replaced. `order` counts overrides in the order of their creation. `swap`: the swap
    that made it, if one did.
    """

    id: str
    start: int
    end: int
    scope: Scope
    people: Group
    order: int
    of: str = ""
    swap: str = ""


@dataclass(frozen=True, slots=True)
class FixedShift:
    """Part of a fixed period."""

    start: int
    end: int
    people: Group


@dataclass(frozen=True, slots=True)
class FixedPeriod:
    """Within [start, end) only its shifts count: no layer and no override."""

    id: str
    start: int
    end: int
    shifts: tuple[FixedShift, ...]
    order: int


@dataclass(frozen=True, slots=True)
class Imported:
    """A layer whose shifts come from an external calendar. Shifts at the same time are on call together."""

    id: str
    rank: int
    mode: Mode
    shifts: tuple[FixedShift, ...]


@dataclass(frozen=True, eq=False)
class Schedule:
    """All input of `resolve`. Compared by identity, so that results can be cached by it.

    `absences`: by user, the times [start, end) at which they are away. `unusable`: users who are disabled or deleted. `stand_in`:
    whether the next user of the line-up steps in for a user of a layer who is away.
    """

    id: str
    zone: str
    layers: tuple[Layer, ...] = ()
    overrides: tuple[Override, ...] = ()
    fixed_periods: tuple[FixedPeriod, ...] = ()
    absences: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    unusable: frozenset[str] = frozenset()
    stand_in: bool = False
    imported: tuple[Imported, ...] = ()


class SourceKind(StrEnum):
    """Why a user is on call."""

    LAYER = "layer"
    OVERRIDE = "override"
    SWAP = "swap"
    """An override that came from a swap."""
    FIXED_PERIOD = "fixed_period"
    STAND_IN = "stand_in"
    CALENDAR = "calendar"
    """An external calendar."""


@dataclass(frozen=True, slots=True)
class Source:
    """Why these people are on call. `id` names the layer, the override, the swap, the fixed period or the import.

    `turn` counts a layer's turns from 0.
    """

    kind: SourceKind
    id: str
    people: Group
    turn: int | None = None
    instead_of: str = ""


class Coverage(StrEnum):
    """Whether any user is on call."""

    ON_CALL = "on_call"
    NOBODY = "nobody"
    """No user, on purpose."""
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class Segment:
    """Within [start, end) the same people are on call for the same reasons. `away`: users who would be on call, and are away."""

    start: int
    end: int
    people: Group
    sources: tuple[Source, ...]
    coverage: Coverage
    away: Group = ()

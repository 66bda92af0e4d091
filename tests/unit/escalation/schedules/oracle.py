"""Who is on call, worked out the slow way: minute by minute, from the rules as they are written, not from `resolve`.

It knows the model and nothing else of the product: local times are turned into instants with the standard library, turns are
walked one after the other from their anchor, and every minute asks every rule anew.
"""

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from tocsin_escalation.domain.schedules.model import Counts, Imported, Layer, Mode, Schedule, Scope, Turn, Unit, Window

MINUTE = timedelta(minutes=1)
EPOCH = datetime.fromisoformat("1970-01-01")
Who = tuple[frozenset[str], str]
"""The people, and `on_call`, `nobody` or `gap`."""


@lru_cache
def zone_of(name: str) -> ZoneInfo:
    with (files("tzdata") / "zoneinfo" / name).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def wall(minute: int, zone: str) -> datetime:
    return (EPOCH + minute * MINUTE).replace(tzinfo=UTC).astimezone(zone_of(zone)).replace(tzinfo=None)


@lru_cache(100_000)
def land(local: datetime, zone: str, last: bool = False) -> int:
    """The minute at which the wall shows `local`; the first after the gap when it never does."""
    while True:
        found = set()
        for fold in (0, 1):
            instant = local.replace(tzinfo=zone_of(zone), fold=fold).astimezone(UTC).replace(tzinfo=None)
            minute = (instant - EPOCH) // MINUTE
            if wall(minute, zone) == local:
                found.add(minute)
        if found:
            return max(found) if last else min(found)
        local += MINUTE
        # Behind the gap the clock shows its end for the first time.
        last = False


class Walked:
    """One layer, walked from its anchor to `until`."""

    def __init__(self, layer: Layer, since: int, until: int) -> None:
        self.layer = layer
        self.turns = list(self._walk(until))
        self.windows = [
            (land(begins, layer.zone), land(ends, layer.zone, True))
            for begins, ends in self._windows(wall(since, layer.zone), wall(until, layer.zone))
        ]

    def group_at(self, minute: int) -> list[tuple[str, ...]] | None:
        """The groups that have the turn, and None when the layer is off."""
        layer = self.layer
        if not layer.since <= minute < layer.until or minute < max(self.turns[0][0], layer.not_before):
            return None
        if (layer.windows or layer.holidays) and not any(begins <= minute < ends for begins, ends in self.windows):
            return None
        place = self._place(minute)
        size = len(layer.line_up)
        return [layer.line_up[(place + step) % size] for step in range(min(layer.concurrent, size))]

    def after(self, minute: int) -> Iterator[tuple[str, ...]]:
        size, busy = len(self.layer.line_up), min(self.layer.concurrent, len(self.layer.line_up))
        for step in range(busy, size):
            yield self.layer.line_up[(self._place(minute) + step) % size]

    def _place(self, minute: int) -> int:
        place = [place for begins, place in self.turns if begins <= minute][-1]
        return (place + self.layer.shift) % len(self.layer.line_up)

    def _walk(self, until: int) -> Iterator[tuple[int, int]]:
        """(begin of the turn, how many turns were dealt before it)."""
        layer = self.layer
        anchor = EPOCH + layer.anchor * MINUTE
        months, local, elapsed, dealt, number = 0, timedelta(), timedelta(), 0, 0
        while True:
            begins_on_wall = later(anchor, months) + local
            begins = land(begins_on_wall, layer.zone) + elapsed // MINUTE
            yield begins, dealt
            if begins > until:
                return
            turn = layer.turns[number % len(layer.turns)]
            number += 1
            if turn.unit is Unit.MONTH:
                months += turn.count
            elif turn.unit is Unit.HOUR and not on_the_wall(layer.turns):
                elapsed += timedelta(hours=turn.count)
            else:
                local += timedelta(**{f"{turn.unit}s": turn.count})
            ends_on_wall = later(anchor, months) + local
            dealt += layer.counts is Counts.ELAPSED or self._has_window(begins_on_wall, ends_on_wall)

    def _has_window(self, begins: datetime, ends: datetime) -> bool:
        if not self.layer.windows and not self.layer.holidays:
            return begins < ends
        return any(start < ends and end > begins for start, end in self._windows(begins, ends))

    def _is_for(self, day: datetime) -> bool:
        """Whether windows may begin on a day."""
        holidays = self.layer.holidays
        if holidays is None:
            return True
        is_holiday = (day - EPOCH).days in holidays.days
        return is_holiday if holidays.only else not is_holiday

    def _windows(self, begins: datetime, ends: datetime) -> Iterator[tuple[datetime, datetime]]:
        day = begins.replace(hour=0, minute=0) - timedelta(days=9)
        whole_day = Window(frozenset(range(7)), 0, 24 * 60)
        while day < ends + timedelta(days=2):
            for window in self.layer.windows or [whole_day]:
                if day.weekday() in window.days and self._is_for(day):
                    yield starts_on(day, window), starts_on(day, window) + window.length * MINUTE
            day += timedelta(days=1)


def starts_on(day: datetime, window: Window) -> datetime:
    return day + window.start * MINUTE


def later(time: datetime, months: int) -> datetime:
    month = time.month - 1 + months
    year, month = time.year + month // 12, month % 12 + 1
    return time.replace(year=year, month=month, day=min(time.day, monthrange(year, month)[1]))


def on_the_wall(turns: tuple[Turn, ...]) -> bool:
    hours = sum(turn.count for turn in turns if turn.unit is Unit.HOUR)
    return hours == 0 or hours % 24 == 0 or 24 % hours == 0


def written(layer: Walked | Imported) -> Layer | Imported:
    return layer.layer if isinstance(layer, Walked) else layer


def shifts_at(layer: Imported, minute: int) -> list[str]:
    """Who is on call by a calendar of others."""
    return [user for shift in layer.shifts if shift.start <= minute < shift.end for user in shift.people]


class Oracle:
    """One schedule, asked one minute after the other."""

    def __init__(self, schedule: Schedule, since: int, until: int) -> None:
        self.schedule = schedule
        self.layers = [Walked(layer, since, until) for layer in schedule.layers]

    def at(self, minute: int) -> Who:
        schedule = self.schedule
        periods = [each for each in schedule.fixed_periods if each.start <= minute < each.end]
        if periods:
            period = max(periods, key=lambda each: each.order)
            shifts = [shift.people for shift in period.shifts if shift.start <= minute < shift.end]
            there = {user for people in shifts for user in people if self._there(user, minute)}
            away = any(not self._there(user, minute) for people in shifts for user in people)
            return self._who(there, bool(shifts) and not away)
        return self._without_periods(minute)

    def _without_periods(self, minute: int) -> Who:
        overrides = [each for each in self.schedule.overrides if each.start <= minute < each.end]
        whole = max((o for o in overrides if o.scope is Scope.SCHEDULE), key=lambda o: o.order, default=None)
        # (user, order of what put them there, the layer that did), and whether the schedule leaves it empty on purpose.
        base: list[tuple[str, int, Walked | None]] = []
        wanted_nobody = False
        if whole is not None:
            base = [(user, whole.order, None) for user in whole.people]
            wanted_nobody = not whole.people
        else:
            for layer in self._visible(minute):
                if isinstance(layer, Imported):
                    base += [(user, -1, None) for user in shifts_at(layer, minute)]
                    continue
                own = [o for o in overrides if o.scope is Scope.LAYER and o.of == layer.layer.id]
                if own:
                    own_newest = max(own, key=lambda o: o.order)
                    base += [(user, own_newest.order, None) for user in own_newest.people]
                    wanted_nobody |= not own_newest.people
                    continue
                for group in layer.group_at(minute) or []:
                    base += [(user, -1, layer) for user in group]
                    wanted_nobody |= not group
        for beside in (o for o in overrides if o.scope is Scope.BESIDE):
            if whole is None or beside.order > whole.order:
                base += [(user, beside.order, None) for user in beside.people]
        final: list[tuple[str, Walked | None]] = []
        for user, order, whose in base:
            mine = [o for o in overrides if o.scope is Scope.PERSON and o.of == user]
            newest = max(mine, key=lambda o: o.order, default=None)
            if newest is None or newest.order < order:
                final.append((user, whose))
            else:
                final += [(each, None) for each in newest.people]
                wanted_nobody |= not newest.people
        there = {user for user, _ in final if self._there(user, minute)}
        away = [(user, layer) for user, layer in final if not self._there(user, minute)]
        for _, off in away if self.schedule.stand_in else []:
            for user in [user for group in off.after(minute) for user in group] if off else []:
                if user not in there and self._there(user, minute):
                    there.add(user)
                    break
        return self._who(there, wanted_nobody and not away)

    def _visible(self, minute: int) -> list[Walked | Imported]:
        """The layers that are on and not masked; each rank adds up. Highest first: who is needed twice steps in there."""
        on: list[Walked | Imported] = [layer for layer in self.layers if layer.group_at(minute) is not None]
        on += [each for each in self.schedule.imported if shifts_at(each, minute)]
        on.sort(key=lambda each: -written(each).rank)
        masks = [written(each).rank for each in on if written(each).mode is Mode.MASK]
        return [each for each in on if not masks or written(each).rank >= max(masks)]

    def _there(self, user: str, minute: int) -> bool:
        if user in self.schedule.unusable:
            return False
        return not any(begins <= minute < ends for begins, ends in self.schedule.absences.get(user, ()))

    @staticmethod
    def _who(people: set[str], on_purpose: bool) -> Who:
        return frozenset(people), "on_call" if people else "nobody" if on_purpose else "gap"

"""Grafana OnCall: `GET /api/v1/schedules`, `on_call_shifts`, `shift_swaps`, `escalation_chains` and `escalation_policies`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1.calendar_service_pb2 import CreateCalendarImportRequest
from tocsin.escalation.v1.schedule_service_pb2 import CreateOverrideRequest, CreateScheduleRequest

from tocsin_client.imports.oncall_chains import policy
from tocsin_client.imports.plan import (
    DAY,
    WEEK,
    Export,
    Ids,
    NotImported,
    People,
    Plan,
    Wanted,
    each_of,
    finish,
    instant,
    is_over,
    override,
    taken,
    turn,
    window,
    within,
    zone_of,
)

_UNITS: Final = {"hourly": pb.TURN_UNIT_HOUR, "daily": pb.TURN_UNIT_DAY, "weekly": pb.TURN_UNIT_WEEK}
_MINUTES: Final = {"hourly": 60, "daily": DAY, "weekly": WEEK}
_DAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_ABOVE_ALL: Final = 100
"""The rank of a calendar of overrides; levels go up to 9."""


def convert(schedules: Export, others: Sequence[Export], people: People, at: datetime) -> Plan:
    """`at`: when the export was written. What had ended by then is left out. `others`: shifts, swaps, chains and their steps."""
    plan, ids = Plan(), Ids()
    found = within(schedules, ("results",))
    beside = [each for given in others for each in within(given, ("results",))]
    shifts = {each["id"]: each for each in beside if "start" in each}
    steps = [each for each in beside if "escalation_chain_id" in each]
    chains = [each for each in beside if each.keys() <= {"id", "name", "team_id"}]
    swaps = [each for each in beside if "swap_start" in each and each.get("status") == "taken"]
    names: dict[str, str] = {}

    def schedule(export: Export) -> Wanted:
        wanted = _schedule(export, ids, _of(export, shifts, alone=len(found) == 1), swaps, people, at, plan)
        names[export["id"]] = f"schedules/{wanted.schedule.schedule_id}"
        return wanted

    each_of(plan, found, schedule)
    policies = Ids()
    plan.policies += taken(plan, chains, lambda each: policy(each, policies, steps, names, people, plan))
    return plan


def _of(schedule: Export, shifts: Mapping[str, Export], *, alone: bool) -> list[Export]:
    """Those of this schedule; all of them are of the only one."""
    listed = schedule.get("shifts")
    if listed is None:
        if shifts and not alone and schedule.get("type") != "ical":
            raise NotImported("does not say which shifts are its own: give one schedule at a time, with its shifts")
        return list(shifts.values()) if alone else []
    missing = [each for each in listed if each not in shifts]
    if missing:
        raise NotImported(f"the shift {missing[0]!r} is not in the files: give them with --shifts")
    return [shifts[each] for each in listed]


def _schedule(
    export: Export,
    ids: Ids,
    shifts: Sequence[Export],
    swaps: Sequence[Export],
    people: People,
    at: datetime,
    plan: Plan,
) -> Wanted:
    time_zone = export.get("time_zone") or "UTC"
    names = Ids()
    schedule_id = ids.of(export["name"])
    kept = [_Shift(each, time_zone, people) for each in shifts]
    kept = [each for each in kept if not (each.end and each.end <= at)]
    made = pb.Schedule(
        display_name=export["name"][:255],
        time_zone=time_zone,
        layers=[each.layer(names) for each in kept if each.kind != "override"],
    )
    name = f"schedules/{schedule_id}"
    overrides = _overrides([each for each in kept if each.kind == "override"], name)
    mine = [each for each in swaps if each["schedule"] == export["id"] and not is_over(each["swap_end"], at)]
    calendars = [
        _calendar(export[field], name, rank)
        for field, rank in (("ical_url_primary", 0), ("ical_url_overrides", _ABOVE_ALL))
        if export.get(field)
    ]
    if calendars:
        plan.notes.append(
            f"{export['name']}: its calendar is followed; give `names` to the import for whom it does not know"
        )
    return finish(
        CreateScheduleRequest(schedule_id=schedule_id, schedule=made),
        [*overrides, *(_swap(each, name, people) for each in mine)],
        calendars,
    )


class _Shift:
    """One shift of the API, with its times read."""

    def __init__(self, export: Export, time_zone: str, people: People) -> None:
        self._export = export
        self.name: str = export.get("name") or export["id"]
        self.kind: str = export["type"]
        self._zone = export.get("time_zone") or time_zone
        self._own_zone = "" if self._zone == time_zone else self._zone
        self.start = self._wall(export["start"])
        self._length = int(export["duration"]) // 60
        if int(export["duration"]) % 60 or self._length < 1 or self.start.second:
            raise NotImported(f"shift {self.name}: its times are no whole minutes")
        self.groups = [[people.user(user) for user in group] for group in _groups(export)]
        first = int(export.get("start_rotation_from_user_index") or 0)
        self.groups = self.groups[first:] + self.groups[:first]
        until = export.get("until")
        self.end: datetime | None = self._instant(self._wall(until)) if until else None
        if self.kind in ("single_event", "override"):
            self.end = self.begin + timedelta(minutes=self._length)

    @property
    def begin(self) -> datetime:
        """When it begins."""
        return self._instant(self.start)

    def layer(self, names: Ids) -> pb.Layer:
        """Raises NotImported for a recurrence that no layer has."""
        layer = pb.Layer(
            layer_id=names.of(self.name),
            display_name=self.name[:255],
            rank=int(self._export.get("level") or 0),
            mode=pb.LAYER_MODE_MASK,
            start=f"{self.start:%Y-%m-%dT%H:%M}",
            time_zone=self._own_zone,
            line_up=[pb.LineUpEntry(users=group) for group in self.groups],
        )
        if self.kind == "single_event":
            layer.turns.append(turn(pb.TURN_UNIT_WEEK, 1))
            layer.effective_start_time.FromDatetime(self.begin)
        elif self.kind in ("recurrent_event", "rolling_users"):
            self._recur(layer)
        else:
            raise NotImported(f"shift {self.name}: its type is {self.kind!r}")
        if self.end is not None:
            layer.effective_end_time.FromDatetime(self.end)
        return layer

    def _recur(self, layer: pb.Layer) -> None:
        export, frequency = self._export, self._export.get("frequency")
        if frequency not in _UNITS or export.get("by_month") or export.get("by_monthday"):
            raise NotImported(f"shift {self.name}: recurs by months")
        interval = int(export.get("interval") or 1)
        period = _MINUTES[frequency] * interval
        layer.turns.append(turn(_UNITS[frequency], interval))
        if export.get("by_day"):
            self._recur_on_days(layer, frequency, interval)
        elif self._length > period:
            raise NotImported(f"shift {self.name}: lasts longer than until it comes again")
        elif self._length < period:
            if interval > 1 or frequency == "hourly":
                raise NotImported(f"shift {self.name}: comes every {interval} ({frequency}) and is shorter than that")
            days = [self.start.isoweekday()] if frequency == "weekly" else list(range(1, 8))
            layer.windows.append(window(days, self._minute, self._length))
        since = export.get("rotation_start")
        if since and self._wall(since) > self.start:
            layer.effective_start_time.FromDatetime(self._instant(self._wall(since)))

    def _recur_on_days(self, layer: pb.Layer, frequency: str, interval: int) -> None:
        """On some days of each week: the turns begin with the week, at the hour of the shift, so that none is divided."""
        export = self._export
        days = sorted(_DAYS.index(day) + 1 for day in export["by_day"])
        if frequency == "daily" and len(self.groups) == 1 and interval == 1:
            layer.windows.append(window(days, self._minute, min(self._length, DAY)))
            return
        if frequency != "weekly" or interval > 1:
            raise NotImported(f"shift {self.name}: comes every {interval} ({frequency}) on some days of the week")
        first = _DAYS.index(export.get("week_start") or "SU") + 1
        if max((day - first) % 7 for day in days) * DAY + self._length > WEEK:
            raise NotImported(f"shift {self.name}: lasts from one week into the next")
        begins = self.start - timedelta(days=(self.start.isoweekday() - first) % 7)
        layer.start = f"{begins:%Y-%m-%dT%H:%M}"
        layer.windows.append(window(days, self._minute, self._length))
        if begins < self.start:
            layer.effective_start_time.FromDatetime(self.begin)

    @property
    def _minute(self) -> int:
        return self.start.hour * 60 + self.start.minute

    def _wall(self, text: str) -> datetime:
        """A time of the shift's zone. One with an offset is an instant."""
        try:
            found = datetime.fromisoformat(text)
        except (TypeError, ValueError) as error:
            raise NotImported(f"{text!r} is no time") from error
        return found if found.tzinfo is None else found.astimezone(zone_of(self._zone)).replace(tzinfo=None)

    def _instant(self, wall: datetime) -> datetime:
        return wall.replace(tzinfo=zone_of(self._zone))


def _groups(export: Export) -> list[list[str]]:
    """Who has it in turn; everybody of `users` at once."""
    if export["type"] == "rolling_users" or not export.get("users"):
        found = [group for group in export.get("rolling_users") or [] if group]
    else:
        found = [export["users"]]
    if not found:
        raise NotImported(f"shift {export.get('name') or export['id']}: nobody is in it")
    return found


def _overrides(shifts: Sequence[_Shift], schedule: str) -> list[CreateOverrideRequest]:
    """In OnCall those of one time are on call together; here the one that is made last wins."""
    ordered = sorted(shifts, key=lambda each: each.begin)
    made = []
    for each, following in pairwise([*ordered, None]):
        assert each is not None, "only the last one is"
        assert each.end is not None, "an override ends"
        if following is not None and following.begin < each.end:
            raise NotImported(f"the overrides {each.name} and {following.name} overlap")
        users = [user for group in each.groups for user in group]
        made.append(override(schedule, each.begin, each.end, users, "", f"OnCall {each.name}"))
    return made


def _swap(given: Export, schedule: str, people: People) -> CreateOverrideRequest:
    start, end = (instant(given[edge]).replace(second=0, microsecond=0) for edge in ("swap_start", "swap_end"))
    reason = f"OnCall {given['id']}: {given.get('description') or 'a swap'}"
    return override(
        schedule, start, end, [people.user(given["benefactor"])], "", reason, user=people.user(given["beneficiary"])
    )


def _calendar(url: str, schedule: str, rank: int) -> CreateCalendarImportRequest:
    made = CreateCalendarImportRequest()
    made.calendar_import.schedule, made.calendar_import.url = schedule, url
    made.calendar_import.rank, made.calendar_import.mode = rank, pb.LAYER_MODE_MASK
    return made

"""Opsgenie: `GET /v2/schedules?expand=rotation` (or one schedule), and `GET /v2/schedules/{id}/overrides`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1.schedule_service_pb2 import CreateOverrideRequest, CreateScheduleRequest

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
    every_day,
    finish,
    instant,
    is_over,
    on_the_wall,
    override,
    turn,
    window,
    within,
    zone_of,
)

_UNITS: Final = {"hourly": pb.TURN_UNIT_HOUR, "daily": pb.TURN_UNIT_DAY, "weekly": pb.TURN_UNIT_WEEK}
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def convert(schedules: Export, overrides: Sequence[Export], people: People, at: datetime) -> Plan:
    """`at`: when the export was written. What had ended by then is left out."""
    plan, ids = Plan(), Ids()
    found = within(schedules, ("data",))
    ahead = [each for given in overrides for each in within(given, ("data",)) if not is_over(each.get("endDate"), at)]
    return each_of(
        plan, found, lambda each: _schedule(each, ids, _of(each, ahead, alone=len(found) == 1), people, at, plan)
    )


def _of(schedule: Export, overrides: Sequence[Export], *, alone: bool) -> list[Export]:
    """Those of this schedule; an override that names none is of the only one."""
    named = {schedule.get("id"), schedule.get("name")} - {None}
    parents = [(each, each.get("_parent") or {}) for each in overrides]
    return [
        each for each, parent in parents if named & {parent.get("id"), parent.get("name")} or (alone and not parent)
    ]


def _schedule(
    export: Export, ids: Ids, overrides: Sequence[Export], people: People, at: datetime, plan: Plan
) -> Wanted:
    zone = zone_of(export["timezone"])
    names = Ids()
    layers: dict[str, pb.Layer] = {}
    for rotation in export.get("rotations") or []:
        if is_over(rotation.get("endDate"), at):
            continue
        layer_id = names.of(rotation.get("name") or "rotation")
        layers[rotation.get("id") or layer_id] = _layer(rotation, layer_id, zone, people)
    if export.get("enabled") is False:
        plan.notes.append(
            f"{export['name']}: is disabled in Opsgenie; here a schedule counts as soon as a policy names it"
        )
    schedule_id = ids.of(export["name"])
    made = pb.Schedule(
        display_name=export["name"][:255],
        description=(export.get("description") or "")[:1024],
        time_zone=export["timezone"],
        layers=layers.values(),
    )
    request = CreateScheduleRequest(schedule_id=schedule_id, schedule=made)
    of_layers = {key: layer.layer_id for key, layer in layers.items()}
    return finish(request, [each for given in overrides for each in _overrides(given, schedule_id, of_layers, people)])


def _layer(rotation: Export, layer_id: str, zone: Any, people: People) -> pb.Layer:
    if rotation["type"] not in _UNITS:
        raise NotImported(f"rotation {layer_id}: its type is {rotation['type']!r}")
    layer = pb.Layer(
        layer_id=layer_id,
        display_name=(rotation.get("name") or "")[:255],
        mode=pb.LAYER_MODE_ADD,
        turns=[turn(_UNITS[rotation["type"]], int(rotation.get("length") or 1))],
        start=on_the_wall(rotation["startDate"], zone),
        line_up=[pb.LineUpEntry(users=_participant(each, people)) for each in rotation["participants"]],
        windows=_windows(rotation.get("timeRestriction")),
    )
    if rotation.get("endDate"):
        layer.effective_end_time.FromDatetime(instant(rotation["endDate"]))
    return layer


def _participant(given: Export, people: People) -> list[str]:
    match given["type"]:
        case "none":
            return []
        case "user":
            return [people.user(given.get("username") or "", given.get("id") or "")]
        case kind:
            return people.group(kind, given.get("name") or "", given.get("id") or "")


def _windows(given: Export | None) -> list[pb.Window]:
    if not given:
        return []
    match given["type"]:
        case "time-of-day":
            restrictions = within(given.get("restriction") or given.get("restrictions"), ())
            times = [(_minute(each, "start"), _minute(each, "end")) for each in restrictions]
            return [every_day(start, (end - start) % DAY) for start, end in times if start != end]
        case "weekday-and-time-of-day":
            return [_of_week(each) for each in given["restrictions"]]
        case kind:
            raise NotImported(f"a time restriction of type {kind!r}")


def _of_week(given: Mapping[str, Any]) -> pb.Window:
    first, last = (_DAYS.index(given[name].lower()) for name in ("startDay", "endDay"))
    start = _minute(given, "start")
    length = ((last - first) * DAY + _minute(given, "end") - start) % WEEK or WEEK
    return window([first + 1], start, length)


def _minute(given: Mapping[str, Any], edge: str) -> int:
    return int(given[f"{edge}Hour"]) * 60 + int(given.get(f"{edge}Min") or 0)


def _overrides(
    given: Export, schedule_id: str, layers: Mapping[str, str], people: People
) -> list[CreateOverrideRequest]:
    """One for the whole schedule, or one for each rotation that it names."""
    user = given.get("user") or {"type": "none"}
    rotations = [each.get("id") or each.get("name") or "" for each in given.get("rotations") or []]
    unknown = [each for each in rotations if each not in layers]
    if unknown:
        raise NotImported(f"an override of the rotation {unknown[0]!r}, which the schedule does not have")
    start, end = instant(given["startDate"]), instant(given["endDate"])
    reason = f"Opsgenie {given.get('alias') or ''}".strip()
    who = _participant(user, people)
    return [
        override(f"schedules/{schedule_id}", start, end, who, layers[each] if each else "", reason)
        for each in rotations or [""]
    ]

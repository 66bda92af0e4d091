"""PagerDuty: `GET /schedules/{id}`, and `GET /schedules/{id}/overrides?since=…&until=…`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1.schedule_service_pb2 import CreateScheduleRequest

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

_UNITS: Final = (
    (WEEK * 60, pb.TURN_UNIT_WEEK),
    (DAY * 60, pb.TURN_UNIT_DAY),
    (3600, pb.TURN_UNIT_HOUR),
)


def convert(schedules: Export, overrides: Sequence[Export], people: People, at: datetime) -> Plan:
    """`at`: when the export was written. What had ended by then is left out."""
    plan, ids = Plan(), Ids()
    found = within(schedules, ("schedules", "schedule"))
    ahead = [each for given in overrides for each in within(given, ("overrides",)) if not is_over(each.get("end"), at)]
    if ahead and len(found) > 1:
        raise NotImported("overrides of PagerDuty do not say of which schedule they are: give one schedule at a time")
    return each_of(plan, found, lambda each: _schedule(each, ids, ahead, people, at))


def _schedule(export: Export, ids: Ids, overrides: Sequence[Export], people: People, at: datetime) -> Wanted:
    zone = zone_of(export["time_zone"])
    names = Ids()
    # The API lists the topmost layer first.
    kept = [each for each in reversed(export["schedule_layers"]) if not is_over(each.get("end"), at)]
    schedule_id = ids.of(export["name"])
    made = pb.Schedule(
        display_name=export["name"][:255],
        description=(export.get("description") or "")[:1024],
        time_zone=export["time_zone"],
        layers=[
            _layer(each, names.of(each.get("name") or "layer"), rank, zone, people) for rank, each in enumerate(kept)
        ],
    )
    return finish(
        CreateScheduleRequest(schedule_id=schedule_id, schedule=made),
        [
            override(
                f"schedules/{schedule_id}",
                instant(each["start"]),
                instant(each["end"]),
                [_user(each["user"], people)],
                "",
                f"PagerDuty {each.get('id') or ''}".strip(),
            )
            for each in overrides
        ],
    )


def _layer(export: Export, layer_id: str, rank: int, zone: Any, people: People) -> pb.Layer:
    layer = pb.Layer(
        layer_id=layer_id,
        display_name=(export.get("name") or "")[:255],
        rank=rank,
        mode=pb.LAYER_MODE_MASK,
        turns=[_turn(int(export["rotation_turn_length_seconds"]), layer_id)],
        start=on_the_wall(export["rotation_virtual_start"], zone),
        line_up=[pb.LineUpEntry(users=[_user(each.get("user") or each, people)]) for each in export["users"]],
        windows=[_window(each, layer_id) for each in export.get("restrictions") or []],
    )
    if instant(export["start"]) != instant(export["rotation_virtual_start"]):
        layer.effective_start_time.FromDatetime(instant(export["start"]))
    if export.get("end"):
        layer.effective_end_time.FromDatetime(instant(export["end"]))
    return layer


def _turn(seconds: int, layer_id: str) -> pb.Turn:
    for length, unit in _UNITS:
        if seconds and seconds % length == 0:
            return turn(unit, seconds // length)
    raise NotImported(f"layer {layer_id}: turns of {seconds} seconds, which are no whole hours")


def _window(given: Export, layer_id: str) -> pb.Window:
    hours, minutes, seconds = (int(part) for part in f"{given['start_time_of_day']}:0".split(":")[:3])
    length = int(given["duration_seconds"])
    if seconds or length % 60:
        raise NotImported(f"layer {layer_id}: a restriction with seconds")
    start = hours * 60 + minutes
    if given["type"] == "weekly_restriction":
        return window([int(given["start_day_of_week"])], start, length // 60)
    return every_day(start, length // 60)


def _user(given: Export, people: People) -> str:
    return people.user(given.get("email") or "", given.get("id") or "", given.get("summary") or given.get("name") or "")

"""incident.io: `GET /v2/schedules` or one of them, and `GET /v2/schedule_entries` of one for its overrides."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby, pairwise
from typing import Any, Final

from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1.schedule_service_pb2 import CreateOverrideRequest, CreateScheduleRequest

from tocsin_client.imports.plan import (
    DAY,
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
    minutes,
    on_the_wall,
    override,
    turn,
    window,
    within,
    zone_of,
)

_UNITS: Final = {"hourly": pb.TURN_UNIT_HOUR, "daily": pb.TURN_UNIT_DAY, "weekly": pb.TURN_UNIT_WEEK}
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NOBODY: Final = "NOBODY"


def convert(schedules: Export, entries: Sequence[Export], people: People, at: datetime) -> Plan:
    """`at`: when the export was written. What had ended by then is left out."""
    plan, ids = Plan(), Ids()
    found = within(schedules, ("schedules", "schedule"))
    listed = [each for given in entries for each in within(given, ("schedule_entries",))]
    ahead = [each for given in listed for each in given.get("overrides") or [] if not is_over(each["end_at"], at)]
    if ahead and len(found) > 1:
        raise NotImported("entries of incident.io do not say of which schedule they are: give one schedule at a time")
    return each_of(plan, found, lambda each: _schedule(each, ids, ahead, people, at, plan))


def _schedule(export: Export, ids: Ids, ahead: Sequence[Export], people: People, at: datetime, plan: Plan) -> Wanted:
    zone = zone_of(export["timezone"])
    names = Ids()
    layers: dict[str, list[pb.Layer]] = {}
    # Versions of a rotation have one id, and each counts from its time on until the next one does.
    rotations = sorted(export["config"]["rotations"], key=lambda each: (each["id"], each.get("effective_from") or ""))
    for id, versions in groupby(rotations, key=lambda each: each["id"]):
        for version, later in pairwise([*versions, None]):
            until = later["effective_from"] if later else None
            if not is_over(until, at):
                layers.setdefault(id, []).append(_layer(version, until, names, zone, people))
    if (export.get("holidays_public_config") or {}).get("country_codes"):
        plan.notes.append(f"{export['name']}: shows public holidays, which move nobody there; they are not taken over")
    schedule_id = ids.of(export["name"])
    made = pb.Schedule(
        display_name=export["name"][:255],
        time_zone=export["timezone"],
        layers=[layer for versions in layers.values() for layer in versions],
    )
    return finish(
        CreateScheduleRequest(schedule_id=schedule_id, schedule=made),
        [_override(each, f"schedules/{schedule_id}", layers, people) for each in ahead],
    )


def _layer(export: Export, until: str | None, names: Ids, zone: Any, people: People) -> pb.Layer:
    name = export.get("name") or "rotation"
    if export.get("scheduling_mode") == "fair":
        raise NotImported(f"rotation {name}: moves people between shifts (fair); follow its calendar instead")
    layer = pb.Layer(
        layer_id=names.of(name),
        display_name=name[:255],
        mode=pb.LAYER_MODE_ADD,
        turns=[_turn(each, name) for each in export["handovers"]],
        start=on_the_wall(export["handover_start_at"], zone),
        line_up=[pb.LineUpEntry(users=_member(each, people)) for each in export["users"]],
        windows=_windows(export.get("working_interval") or []),
    )
    if len(export.get("layers") or ()) > 1:
        layer.concurrent = len(export["layers"])
    since = export.get("effective_from")
    if since and instant(since) > instant(export["handover_start_at"]):
        layer.effective_start_time.FromDatetime(_whole_minute(since))
    if until:
        layer.effective_end_time.FromDatetime(_whole_minute(until))
    return layer


def _whole_minute(text: str) -> datetime:
    return instant(text).replace(second=0, microsecond=0)


def _turn(given: Export, name: str) -> pb.Turn:
    kind = given["interval_type"]
    if kind not in _UNITS:
        raise NotImported(f"rotation {name}: hands over {kind!r}")
    return turn(_UNITS[kind], int(given["interval"]))


def _member(given: Export, people: People) -> list[str]:
    if given.get("id") == _NOBODY:
        return []
    return [people.user(given.get("email") or "", given.get("id") or "", given.get("name") or "")]


def _windows(intervals: Sequence[Export]) -> list[pb.Window]:
    """One for each pair of times."""
    days: dict[tuple[int, int], list[int]] = {}
    for each in intervals:
        start, end = minutes(each["start_time"]), minutes(each["end_time"])
        days.setdefault((start, (end - start) % DAY or DAY), []).append(_DAYS.index(each["weekday"].lower()) + 1)
    return [window(of, start, length) for (start, length), of in days.items()]


def _override(given: Export, schedule: str, layers: dict[str, list[pb.Layer]], people: People) -> CreateOverrideRequest:
    start, end = instant(given["start_at"]), instant(given["end_at"])
    versions = layers.get(given["rotation_id"]) or []
    if not versions:
        raise NotImported(f"an override of the rotation {given['rotation_id']!r}, which the schedule does not have")
    if len(versions) > 1 or versions[0].concurrent > 1:
        raise NotImported(f"an override of one layer of the rotation {versions[0].display_name!r}, which has several")
    who = _member(given.get("user") or {"id": _NOBODY}, people)
    return override(
        schedule, start, end, who, versions[0].layer_id, f"incident.io {given.get('entry_id') or ''}".strip()
    )

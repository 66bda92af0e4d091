"""GoAlert: what its GraphQL API answers to the query of docs/coming-from.md."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1.schedule_service_pb2 import (
    CreateFixedPeriodRequest,
    CreateOverrideRequest,
    CreateScheduleRequest,
)

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
    override,
    turn,
    window,
    within,
    zone_of,
)

_UNITS: Final = {
    "hourly": pb.TURN_UNIT_HOUR,
    "daily": pb.TURN_UNIT_DAY,
    "weekly": pb.TURN_UNIT_WEEK,
    "monthly": pb.TURN_UNIT_MONTH,
}
_LENGTHS: Final = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(weeks=1)}
_A_MONDAY: Final = "2026-01-05T00:00"
"""From when on a user without a rotation has all turns: any Monday will do."""
_LAST_OF_EVERY_MONTH: Final = 28


def convert(schedules: Export, others: Sequence[Export], people: People, at: datetime) -> Plan:
    """`at`: when the export was written. What had ended by then is left out. `others`: further pages of the answer."""
    answers = [each.get("data", each) for given in (schedules, *others) for each in within(given, ())]
    found = _Answer(answers, people)
    plan, ids = Plan(), Ids()
    return each_of(plan, found.all_of("schedules"), lambda each: _schedule(each, ids, found, at))


class _Answer:
    """All that was asked for."""

    def __init__(self, answers: Sequence[Export], people: People) -> None:
        self._answers = answers
        self._people = people
        self.rotations = {each["id"]: each for each in self.all_of("rotations")}
        listed = [user for rotation in self.rotations.values() for user in rotation.get("users") or []]
        listed += [
            each[name] for each in self.all_of("userOverrides") for name in ("addUser", "removeUser") if each.get(name)
        ]
        self._users: Mapping[str, Export] = {user["id"]: user for user in (*listed, *self.all_of("users"))}

    def all_of(self, name: str) -> list[Export]:
        """The nodes under this name."""
        return [node for answer in self._answers if answer.get(name) for node in within(answer[name], ("nodes",))]

    def user(self, id: str, name: str = "") -> str:
        """By the address, if the answer has one."""
        known = self._users.get(id) or {}
        return self._people.user(known.get("email") or "", id, known.get("name") or name)


def _schedule(export: Export, ids: Ids, found: _Answer, at: datetime) -> Wanted:
    zone_of(export["timeZone"])
    names = Ids()
    schedule_id = ids.of(export["name"])
    targets = [each for each in export["targets"] if each["rules"]]  # without a rule no user is on call
    made = pb.Schedule(
        display_name=export["name"][:255],
        description=(export.get("description") or "")[:1024],
        time_zone=export["timeZone"],
        layers=[_layer(each, export["timeZone"], names, found) for each in targets],
    )
    name = f"schedules/{schedule_id}"
    mine = [each for each in found.all_of("userOverrides") if (each.get("target") or {}).get("id") == export["id"]]
    return finish(
        CreateScheduleRequest(schedule_id=schedule_id, schedule=made),
        [_override(each, name, found) for each in mine if not is_over(each["end"], at)],
        [_fixed(each, name, found) for each in export.get("temporarySchedules") or [] if not is_over(each["end"], at)],
    )


def _layer(given: Export, time_zone: str, names: Ids, found: _Answer) -> pb.Layer:
    target, windows = given["target"], _windows(given["rules"])
    layer = pb.Layer(
        layer_id=names.of(target.get("name") or target["id"]),
        display_name=(target.get("name") or "")[:255],
        mode=pb.LAYER_MODE_ADD,
        windows=windows,
    )
    match target["type"]:
        case "user":
            layer.turns.append(turn(pb.TURN_UNIT_WEEK, 1))
            layer.start = _A_MONDAY
            layer.line_up.add(users=[found.user(target["id"], target.get("name") or "")])
        case "rotation":
            rotation = found.rotations.get(target["id"])
            if rotation is None:
                raise NotImported(f"the rotation {target['id']!r} is not in the answer: ask for rotations as well")
            if rotation["timeZone"] != time_zone:
                if windows:
                    raise NotImported(
                        f"rotation {rotation['name']}: turns in {rotation['timeZone']}, and its rules are in {time_zone}"
                    )
                layer.time_zone = rotation["timeZone"]
            _fill(layer, rotation, found)
        case kind:
            raise NotImported(f"a target of type {kind!r}")
    return layer


def _fill(layer: pb.Layer, rotation: Export, found: _Answer) -> None:
    """The turns, so that the user who is active has the one that runs."""
    name, kind, length = rotation["name"], rotation["type"], int(rotation["shiftLength"])
    if kind not in _UNITS:
        raise NotImported(f"rotation {name}: its type is {kind!r}")
    users = [found.user(each["id"], each.get("name") or "") for each in rotation["users"]]
    if not users:
        raise NotImported(f"rotation {name}: nobody is in it")
    zone = zone_of(rotation["timeZone"])
    start = instant(rotation["start"]).astimezone(zone)
    if len(users) > 1:
        handoffs = rotation.get("nextHandoffTimes") or []
        if not handoffs:
            raise NotImported(
                f"rotation {name}: ask for nextHandoffTimes(num: 1), which says when the present turn ends"
            )
        start = _turn_before(instant(handoffs[0]).astimezone(zone), kind, length)
        active = int(rotation["activeUserIndex"])
        users = users[active:] + users[:active]
    if kind == "monthly" and start.day > _LAST_OF_EVERY_MONTH:
        raise NotImported(
            f"rotation {name}: turns of months from the {start.day}th on, which GoAlert moves into the next month"
        )
    layer.turns.append(turn(_UNITS[kind], length))
    layer.start = f"{start:%Y-%m-%dT%H:%M}"
    for user in users:
        layer.line_up.add(users=[user])


def _turn_before(end: datetime, kind: str, length: int) -> datetime:
    """When the turn that ends then began. Turns of hours keep their length, all others their local time."""
    if kind == "hourly":
        return (end.astimezone(UTC) - length * _LENGTHS[kind]).astimezone(end.tzinfo)
    if kind == "monthly":
        months = end.year * 12 + end.month - 1 - length
        return end.replace(year=months // 12, month=months % 12 + 1) if end.day <= _LAST_OF_EVERY_MONTH else end
    return end - length * _LENGTHS[kind]


def _windows(rules: Iterable[Export]) -> list[pb.Window]:
    """Without any: always."""
    found = []
    for rule in rules:
        # The filter begins with Sunday.
        days = [number or 7 for number, active in enumerate(rule["weekdayFilter"]) if active]
        start, end = minutes(rule["start"]), minutes(rule["end"])
        if start == end and len(days) == 7:
            return []
        if days:
            found.append(window(days, start, (end - start) % DAY or DAY))
    if not found:
        raise NotImported("a target whose rules have no day")
    return found


def _override(given: Export, schedule: str, found: _Answer) -> CreateOverrideRequest:
    add, remove = given.get("addUser"), given.get("removeUser")
    if not add and not remove:
        raise NotImported("an override without addUser and removeUser: ask for both")
    return override(
        schedule,
        instant(given["start"]),
        instant(given["end"]),
        [found.user(add["id"], add.get("name") or "")] if add else [],
        "",
        "GoAlert",
        user=found.user(remove["id"], remove.get("name") or "") if remove else "",
        beside=not remove,
    )


def _fixed(given: Export, schedule: str, found: _Answer) -> CreateFixedPeriodRequest:
    period = pb.FixedPeriod(schedule=schedule, reason="GoAlert: a temporary schedule")
    period.start_time.FromDatetime(instant(given["start"]))
    period.end_time.FromDatetime(instant(given["end"]))
    for each in given["shifts"]:
        shift = period.shifts.add(users=[found.user(each["userID"])])
        shift.start_time.FromDatetime(instant(each["start"]))
        shift.end_time.FromDatetime(instant(each["end"]))
    return CreateFixedPeriodRequest(fixed_period=period)

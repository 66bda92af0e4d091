"""Schedules of GoAlert."""

from collections.abc import Callable
from typing import Any

import pytest
from tocsin.escalation.v1.schedule_service_pb2 import CreateFixedPeriodRequest
from tocsin_client.imports import goalert
from tocsin_client.imports.plan import People, Plan

from tests.unit.client.exported import AT, KNOWN, ahead, hours, read


def test_overrides_and_temporary_schedules_of_goalert_come_along() -> None:
    plan = goalert.convert(read("goalert"), [], People(KNOWN), AT)
    assert [(each.get("user"), each.get("users"), each.get("beside")) for each in ahead(plan)] == [
        ("users/eva", ["users/ben"], None),
        ("users/eva", None, None),
        (None, ["users/ben"], True),
    ]
    [wanted] = plan.wanted
    [period] = [other.fixed_period for other in wanted.others if isinstance(other, CreateFixedPeriodRequest)]
    assert (period.start_time.ToJsonString(), period.end_time.ToJsonString()) == (
        "2099-12-24T11:00:00Z",
        "2099-12-26T11:00:00Z",
    )
    assert [(list(each.users), each.end_time.ToJsonString()) for each in period.shifts] == [
        (["users/ana"], "2099-12-25T11:00:00Z")
    ]
    assert list(wanted.users) == ["users/ana", "users/ben", "users/eva"]


ROTATION: dict[str, Any] = {
    "id": "R",
    "name": "r",
    "type": "weekly",
    "start": "2026-01-05T08:00:00Z",
    "timeZone": "Europe/Berlin",
    "shiftLength": 2,
    "activeUserIndex": 0,
    "nextHandoffTimes": ["2026-04-06T07:00:00Z"],
    "users": [{"id": each, "name": each, "email": f"{each}@example.com"} for each in ("ana", "ben")],
}
ALWAYS = {"start": "00:00", "end": "00:00", "weekdayFilter": [True] * 7}
MORNINGS = {"start": "08:00", "end": "12:00", "weekdayFilter": [True] + [False] * 6}


def goalert_of(
    *rules: dict[str, Any], target: str = "rotation", time_zone: str = "Europe/Berlin", **fields: Any
) -> Plan:
    targets = [{"target": {"id": "R", "type": target, "name": "r"}, "rules": list(rules or [ALWAYS])}]
    schedule = {"id": "S", "name": "Web", "timeZone": time_zone, "targets": targets}
    nodes = {"schedules": {"nodes": [schedule]}, "rotations": {"nodes": [{**ROTATION, **fields}]}}
    return goalert.convert({"data": nodes}, [], People({}), AT)


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({}, "2026-03-23T09:00"),  # the clocks change in between: 09:00 on the wall before and after
        ({"type": "hourly", "shiftLength": 12}, "2026-04-05T21:00"),
        ({"type": "monthly", "shiftLength": 4}, "2025-12-06T09:00"),
        ({"type": "daily", "shiftLength": 1, "users": ROTATION["users"][:1]}, "2026-01-05T09:00"),
    ],
)
def test_the_user_who_is_active_in_goalert_has_the_turn_that_runs(fields: dict[str, Any], start: str) -> None:
    [wanted] = goalert_of(**fields).wanted
    [layer] = wanted.schedule.schedule.layers
    assert layer.start == start
    assert list(layer.line_up[0].users) == ["users/ana"]


def test_rules_of_goalert_are_windows_and_a_rotation_keeps_its_zone() -> None:
    [wanted] = goalert_of(MORNINGS, {**MORNINGS, "start": "12:00", "end": "12:00"}).wanted
    assert hours(wanted.schedule.schedule.layers[0]) == [([7], "08:00", "12:00", 0), ([7], "12:00", "12:00", 1)]
    [wanted] = goalert_of(time_zone="UTC").wanted
    assert wanted.schedule.schedule.layers[0].time_zone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (lambda: goalert_of(nextHandoffTimes=None), "ask for nextHandoffTimes"),
        (lambda: goalert_of(type="yearly"), "its type is 'yearly'"),
        (lambda: goalert_of(users=[]), "nobody is in it"),
        (lambda: goalert_of(target="chanWebhook"), "a target of type 'chanWebhook'"),
        (lambda: goalert_of(id="another"), "the rotation 'R' is not in the answer"),
        (lambda: goalert_of(MORNINGS, time_zone="UTC"), "and its rules are in UTC"),
        (lambda: goalert_of({**MORNINGS, "weekdayFilter": [False] * 7}), "rules have no day"),
        (lambda: goalert_of({**MORNINGS, "start": "08:00:30"}), "'08:00:30' is no time of the day"),
        (
            lambda: goalert_of(type="monthly", nextHandoffTimes=["2026-03-31T07:00:00Z"]),
            "which GoAlert moves into the next month",
        ),
    ],
)
def test_what_has_no_place_leaves_its_schedule_out_and_says_why(plan: Callable[[], Plan], says: str) -> None:
    found = plan()
    assert not found.wanted
    assert says in found.problems[0]

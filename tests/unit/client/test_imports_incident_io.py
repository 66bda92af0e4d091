"""Schedules of incident.io."""

from collections.abc import Callable
from typing import Any

import pytest
from tocsin_client.imports import incident_io
from tocsin_client.imports.plan import NotImported, People, Plan

from tests.unit.client.exported import AT, ahead, hours

OVERRIDE = {"rotation_id": "R", "start_at": "2099-01-05T08:00:00Z", "end_at": "2099-01-06T08:00:00Z", "user": None}
INCIDENT_IO: dict[str, Any] = {
    "id": "R",
    "name": "r",
    "handover_start_at": "2026-01-05T08:00:00Z",
    "handovers": [{"interval": 1, "interval_type": "weekly"}],
    "layers": [{"id": "L"}],
    "users": [{"id": "U", "email": "ana@example.com"}, {"id": "NOBODY"}],
}


def incident_io_of(*rotations: dict[str, Any], overrides: list[dict[str, Any]] | None = None, **fields: Any) -> Plan:
    export = {"id": "S", "name": "Web", "timezone": "Europe/Berlin", "config": {"rotations": list(rotations)}, **fields}
    entries = {"schedule_entries": {"final": [], "scheduled": [], "overrides": overrides or []}}
    return incident_io.convert({"schedule": export}, [entries], People({}), AT)


def test_a_rotation_of_incident_io_with_hours_an_empty_place_and_a_change_ahead() -> None:
    interval = {"start_time": "18:00", "end_time": "08:00"}
    days = [{**interval, "weekday": day} for day in ("monday", "tuesday")]
    later = {**INCIDENT_IO, "users": INCIDENT_IO["users"][:1], "effective_from": "2099-01-05T08:00:18.5Z"}
    override = {
        "rotation_id": "O",
        "start_at": "2099-01-05T08:00:00Z",
        "end_at": "2099-01-06T08:00:00Z",
        "entry_id": "E",
    }
    only = {**INCIDENT_IO, "id": "O", "name": "other"}
    plan = incident_io_of(
        {**INCIDENT_IO, "working_interval": days}, later, only, overrides=[{**override, "user": None}]
    )
    [wanted] = plan.wanted
    _, first, second = wanted.schedule.schedule.layers
    assert hours(first) == [([1, 2], "18:00", "08:00", 1)]
    assert [list(each.users) for each in first.line_up] == [["users/ana"], []]
    assert (
        first.effective_end_time.ToJsonString() == second.effective_start_time.ToJsonString() == "2099-01-05T08:00:00Z"
    )
    assert [(each["layer_id"], each.get("users")) for each in ahead(plan)] == [("other", None)]
    noted = incident_io_of(INCIDENT_IO, holidays_public_config={"country_codes": ["DE"]})
    assert "public holidays" in noted.notes[0]


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (lambda: incident_io_of({**INCIDENT_IO, "scheduling_mode": "fair"}), "moves people between shifts"),
        (lambda: incident_io_of({**INCIDENT_IO, "handovers": [{"interval": 1, "interval_type": "lunar"}]}), "'lunar'"),
        (lambda: incident_io_of(INCIDENT_IO, overrides=[{**OVERRIDE, "rotation_id": "X"}]), "the rotation 'X'"),
        (
            lambda: incident_io_of({**INCIDENT_IO, "layers": [{"id": "1"}, {"id": "2"}]}, overrides=[OVERRIDE]),
            "which has several",
        ),
    ],
)
def test_what_has_no_place_leaves_its_schedule_out_and_says_why(plan: Callable[[], Plan], says: str) -> None:
    found = plan()
    assert not found.wanted
    assert says in found.problems[0]


def test_entries_of_incident_io_are_of_one_schedule() -> None:
    one = {"id": "S", "name": "Web", "timezone": "UTC", "config": {"rotations": []}}
    entries = {"schedule_entries": {"overrides": [OVERRIDE]}}
    with pytest.raises(NotImported, match="one schedule at a time"):
        incident_io.convert({"schedules": [one, one]}, [entries], People({}), AT)

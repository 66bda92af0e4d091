"""Exports of other tools become the requests that docs/coming-from.md writes down by hand, or say what is in their way."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tocsin.escalation.v1 import policy_service_pb2 as policy_pb
from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1.calendar_service_pb2 import CreateCalendarImportRequest
from tocsin.escalation.v1.schedule_service_pb2 import CreateFixedPeriodRequest, CreateScheduleRequest
from tocsin_client.imports import goalert, incident_io, oncall, opsgenie, pagerduty
from tocsin_client.imports.__main__ import main
from tocsin_client.imports.plan import NotImported, People, Plan, slug

EXPORTS = Path(__file__).parent / "exports"
PAGE = (Path(__file__).parents[3] / "docs" / "coming-from.md").read_text()
AT = datetime(2026, 11, 1, tzinfo=UTC)
WEEKLY: dict[str, Any] = {
    "name": "r",
    "type": "weekly",
    "length": 1,
    "startDate": "2026-01-05T08:00:00Z",
    "participants": [{"type": "user", "username": "ana@example.com"}],
}
LAYER: dict[str, Any] = {
    "name": "l",
    "start": "2026-01-05T09:00:00+01:00",
    "end": None,
    "rotation_virtual_start": "2026-01-05T09:00:00+01:00",
    "rotation_turn_length_seconds": 604800,
    "users": [{"user": {"id": "ana", "summary": "ana"}}],
}


def read(name: str) -> Any:
    return json.loads((EXPORTS / f"{name}.json").read_text())


def on_the_page(tool: str) -> CreateScheduleRequest:
    found = re.search(rf"^## {tool}\n(?:(?!^## ).)*?```json\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return json_format.Parse(found.group(1), CreateScheduleRequest())


def named(request: CreateScheduleRequest) -> CreateScheduleRequest:
    """Without the names that people see, which the page chooses freely."""
    kept = CreateScheduleRequest()
    kept.CopyFrom(request)
    kept.schedule.display_name = ""
    for layer in kept.schedule.layers:
        layer.display_name, layer.mode = "", layer.mode or pb.LAYER_MODE_MASK
        for each in layer.windows:
            if each.end_days_later == 1 and each.end <= each.start:
                each.end_days_later = 0  # is the next day without that
    return kept


KNOWN = {f"P{each.upper()}": each for each in ("ana", "ben", "cem", "dora", "eva")}


@pytest.mark.parametrize(
    ("tool", "convert", "files"),
    [
        ("Opsgenie", opsgenie.convert, ["opsgenie"]),
        ("PagerDuty", pagerduty.convert, ["pagerduty"]),
        ("Grafana OnCall", oncall.convert, ["oncall", "oncall-shifts"]),
        ("GoAlert", goalert.convert, ["goalert"]),
        ("incident.io", incident_io.convert, ["incident-io"]),
    ],
)
def test_an_export_becomes_what_the_page_writes_by_hand(
    tool: str, convert: Callable[..., Plan], files: list[str]
) -> None:
    export, *beside = map(read, files)
    plan = convert(export, beside, People(KNOWN), AT)
    assert not plan.problems
    [wanted] = plan.wanted
    assert named(wanted.schedule) == named(on_the_page(tool)), "also without what was over when it was written"


def test_an_override_of_a_rotation_is_one_of_its_layer_and_what_is_over_is_left_out() -> None:
    plan = opsgenie.convert(read("opsgenie"), [read("opsgenie-overrides")], People({}), AT)
    [wanted] = plan.wanted
    [made] = [each.override for each in wanted.overrides]
    assert (made.schedule, made.layer_id, list(made.users)) == (
        "schedules/from-opsgenie",
        "second-line",
        ["users/dora"],
    )
    assert made.start_time.ToJsonString() == "2099-01-08T11:00:00Z"
    assert list(wanted.users) == ["users/ana", "users/ben", "users/cem", "users/dora"]


def opsgenie_of(*rotations: Any, known: Any = None, **fields: Any) -> Plan:
    export = {"name": "Web", "timezone": "Europe/Berlin", "rotations": list(rotations), **fields}
    return opsgenie.convert({"data": export}, [], People(known or {}), AT)


def pagerduty_of(**fields: Any) -> Plan:
    export = {"name": "Web", "time_zone": "Europe/Berlin", "schedule_layers": [{**LAYER, **fields}]}
    return pagerduty.convert({"schedule": export}, [], People({}), AT)


TEAM = {**WEEKLY, "participants": [{"type": "team", "id": "t-1", "name": "Web team"}]}


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (lambda: opsgenie_of(TEAM), "Web: team 'Web team' stands in a line-up"),
        (lambda: opsgenie_of({**WEEKLY, "type": "fortnightly"}), "its type is 'fortnightly'"),
        (lambda: opsgenie_of({**WEEKLY, "startDate": "soon"}), "'soon' is no time"),
        (lambda: opsgenie_of({**WEEKLY, "participants": None}), "is not as the API answers it"),
        (lambda: opsgenie_of(WEEKLY, timezone="Mars/Olympus"), "the time zone 'Mars/Olympus' is not known here"),
        (lambda: opsgenie_of(*[WEEKLY] * 11), "11 layers; a schedule has 10 at most"),
        (lambda: pagerduty_of(rotation_turn_length_seconds=5400), "turns of 5400 seconds"),
        (
            lambda: pagerduty_of(
                restrictions=[{"type": "daily_restriction", "start_time_of_day": "09:00:30", "duration_seconds": 60}]
            ),
            "a restriction with seconds",
        ),
        (lambda: pagerduty_of(users=[{"user": {"id": "", "summary": ""}}]), "a user without a name"),
    ],
)
def test_what_has_no_place_leaves_its_schedule_out_and_says_why(plan: Callable[[], Plan], says: str) -> None:
    found = plan()
    assert not found.wanted
    assert says in found.problems[0]


def test_a_team_in_a_line_up_is_whoever_was_named_for_it() -> None:
    [wanted] = opsgenie_of(TEAM, known={"Web team": ["ana", "users/ben"]}).wanted
    assert list(wanted.schedule.schedule.layers[0].line_up[0].users) == ["users/ana", "users/ben"]


@pytest.mark.parametrize(
    ("restriction", "windows"),
    [
        (("time-of-day", 9, 0, 17, 30), [("09:00", "17:30", 0)]),
        (("time-of-day", 22, 0, 6, 0), [("22:00", "06:00", 1)]),
        (("time-of-day", 8, 0, 0, 0), [("08:00", "24:00", 0)]),
        (("time-of-day", 0, 0, 0, 0), []),
    ],
)
def test_hours_of_a_day(restriction: tuple[str, int, int, int, int], windows: list[tuple[str, str, int]]) -> None:
    kind, start, start_min, end, end_min = restriction
    times = {"startHour": start, "startMin": start_min, "endHour": end, "endMin": end_min}
    plan = opsgenie_of({**WEEKLY, "timeRestriction": {"type": kind, "restriction": times}})
    found = plan.wanted[0].schedule.schedule.layers[0].windows
    assert [(each.start, each.end, each.end_days_later) for each in found] == windows
    assert all(len(each.days) == 7 for each in found)


@pytest.mark.parametrize(
    ("days", "hours", "window"),
    [
        (("friday", "monday"), (18, 8), ("18:00", "08:00", 3)),
        (("monday", "monday"), (9, 17), ("09:00", "17:00", 0)),
        (("monday", "monday"), (9, 9), ("09:00", "09:00", 7)),
        (("sunday", "monday"), (0, 0), ("00:00", "24:00", 0)),
    ],
)
def test_hours_of_a_week(days: tuple[str, str], hours: tuple[int, int], window: tuple[str, str, int]) -> None:
    times = {
        "startDay": days[0],
        "endDay": days[1],
        "startHour": hours[0],
        "endHour": hours[1],
        "startMin": 0,
        "endMin": 0,
    }
    plan = opsgenie_of({**WEEKLY, "timeRestriction": {"type": "weekday-and-time-of-day", "restrictions": [times]}})
    [found] = plan.wanted[0].schedule.schedule.layers[0].windows
    assert (found.start, found.end, found.end_days_later) == window


def test_a_layer_that_began_later_than_its_rotation_and_ends_counts_in_between() -> None:
    plan = pagerduty_of(start="2026-03-01T00:00:00Z", end="2027-03-01T00:00:00Z")
    [layer] = plan.wanted[0].schedule.schedule.layers
    assert layer.effective_start_time.ToJsonString() == "2026-03-01T00:00:00Z"
    assert layer.effective_end_time.ToJsonString() == "2027-03-01T00:00:00Z"


def test_a_disabled_schedule_is_noted() -> None:
    assert "is disabled in Opsgenie" in opsgenie_of(WEEKLY, enabled=False).notes[0]


def test_schedules_of_one_name_and_names_of_no_letters() -> None:
    exports = [{"name": name, "timezone": "UTC", "rotations": [WEEKLY]} for name in ("Web!", "web", "ÄÖ", "日本")]
    plan = opsgenie.convert(exports, [], People({}), AT)
    assert [each.schedule.schedule_id for each in plan.wanted] == ["web", "web-2"]
    assert len(plan.problems) == 2
    with pytest.raises(NotImported):
        slug("…")


def test_the_command_shows_one_request_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    users = ["--users", str(EXPORTS / "pagerduty-users.json"), "--create-users"]
    assert main(["pagerduty", str(EXPORTS / "pagerduty.json"), *users]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["method"].rpartition("/")[2] for each in said] == ["CreateUser"] * 4 + ["CreateSchedule"]
    assert [each["request"]["user_id"] for each in said[:4]] == ["ana", "ben", "cem", "dora"]


def test_the_command_says_what_it_guesses_and_fails_for_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps({"data": [{"name": "Web", "timezone": "UTC", "rotations": [WEEKLY, TEAM]}]}))
    assert main(["opsgenie", str(file)]) == 1
    assert "left out: Web: team 'Web team'" in (said := capsys.readouterr()).err
    assert "note: ana@example.com is taken to be users/ana" in said.err
    assert not said.out
    file.write_text("<html>")
    assert main(["opsgenie", str(file)]) == 2
    assert main(["opsgenie", str(tmp_path / "none.json")]) == 2


def ahead(plan: Plan) -> list[dict[str, Any]]:
    """The overrides of the one schedule, as JSON."""
    [wanted] = plan.wanted
    return [json_format.MessageToDict(each.override, preserving_proto_field_name=True) for each in wanted.overrides]


def test_overrides_and_taken_swaps_of_oncall_come_along() -> None:
    plan = oncall.convert(read("oncall"), [read("oncall-shifts"), read("oncall-swaps")], People(KNOWN), AT)
    assert ahead(plan) == [
        {
            "schedule": "schedules/from-oncall",
            "start_time": "2099-01-05T08:00:00Z",
            "end_time": "2099-01-05T09:00:00Z",
            "users": ["users/cem"],
            "reason": "OnCall the fair",
        },
        {
            "schedule": "schedules/from-oncall",
            "start_time": "2099-01-05T08:00:00Z",
            "end_time": "2099-01-12T08:00:00Z",
            "user": "users/ana",
            "users": ["users/dora"],
            "reason": "OnCall SSTAKEN: Taking a few days off.",
        },
    ]


SHIFT: dict[str, Any] = {
    "id": "O1",
    "name": "s",
    "type": "rolling_users",
    "time_zone": None,
    "level": 3,
    "start": "2026-01-07T22:00:00",
    "duration": 604800,
    "frequency": "weekly",
    "rolling_users": [["ana"], ["ben"]],
}


def oncall_of(*shifts: dict[str, Any], **fields: Any) -> Plan:
    export = {"id": "S", "name": "Web", "type": "web", "time_zone": "Europe/Berlin", **fields}
    return oncall.convert({"results": [export]}, [{"results": list(shifts)}], People({}), AT)


def layer_of(**fields: Any) -> pb.Layer:
    plan = oncall_of({**SHIFT, **fields})
    assert plan.problems == []
    return plan.wanted[0].schedule.schedule.layers[0]


def hours(layer: pb.Layer) -> list[tuple[list[int], str, str, int]]:
    return [(list(each.days), each.start, each.end, each.end_days_later) for each in layer.windows]


def test_a_night_shift_on_some_days_turns_with_its_week_and_at_its_hour() -> None:
    layer = layer_of(by_day=["SU", "MO", "WE"], week_start="MO", duration=36000)
    assert layer.start == "2026-01-05T22:00", "so that no night is divided, that of Sunday neither"
    assert layer.effective_start_time.ToJsonString() == "2026-01-07T21:00:00Z"
    assert hours(layer) == [([1, 3, 7], "22:00", "08:00", 1)]
    assert layer_of(by_day=["SU"], duration=36000).start == "2026-01-04T22:00", (
        "a week begins on Sunday unless it says so"
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"duration": 43200}, [([3], "22:00", "10:00", 1)]),
        ({"frequency": "daily", "duration": 36000}, [([1, 2, 3, 4, 5, 6, 7], "22:00", "08:00", 1)]),
        ({"frequency": "daily", "duration": 86400}, []),
        ({"frequency": "hourly", "interval": 12, "duration": 43200}, []),
        ({"frequency": "weekly", "interval": 2, "duration": 1209600}, []),
        (
            {"type": "recurrent_event", "frequency": "daily", "by_day": ["FR"], "users": ["ana"], "duration": 3600},
            [([5], "22:00", "23:00", 0)],
        ),
    ],
)
def test_shifts_that_are_shorter_than_their_turn_have_windows(fields: dict[str, Any], expected: list[Any]) -> None:
    assert hours(layer_of(**fields)) == expected


def test_a_single_event_of_oncall_counts_for_its_time_alone_and_in_its_zone() -> None:
    layer = layer_of(
        type="single_event", users=["ana", "ben"], start="2099-01-05T09:00:00", time_zone="UTC", duration=3600
    )
    assert [list(each.users) for each in layer.line_up] == [["users/ana", "users/ben"]]
    assert (layer.time_zone, layer.rank) == ("UTC", 3)
    assert layer.effective_start_time.ToJsonString() == "2099-01-05T09:00:00Z"
    assert layer.effective_end_time.ToJsonString() == "2099-01-05T10:00:00Z"
    bounded = layer_of(until="2099-01-05T09:00:00", rotation_start="2026-02-01T00:00:00")
    assert bounded.effective_start_time.ToJsonString() == "2026-01-31T23:00:00Z"
    assert bounded.effective_end_time.ToJsonString() == "2099-01-05T08:00:00Z"


def test_calendars_of_oncall_are_followed_and_those_of_overrides_come_first() -> None:
    plan = oncall_of(
        type="ical",
        time_zone=None,
        ical_url_primary="https://c.example/a.ics",
        ical_url_overrides="https://c.example/b.ics",
    )
    [wanted] = plan.wanted
    assert (wanted.schedule.schedule.time_zone, len(wanted.schedule.schedule.layers)) == ("UTC", 0)
    made = [other.calendar_import for other in wanted.others if isinstance(other, CreateCalendarImportRequest)]
    assert [(each.schedule, each.url, each.rank) for each in made] == [
        ("schedules/web", "https://c.example/a.ics", 0),
        ("schedules/web", "https://c.example/b.ics", 100),
    ]
    assert "its calendar is followed" in plan.notes[0]


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
def test_whoever_is_active_in_goalert_has_the_turn_that_runs(fields: dict[str, Any], start: str) -> None:
    [wanted] = goalert_of(**fields).wanted
    [layer] = wanted.schedule.schedule.layers
    assert layer.start == start
    assert list(layer.line_up[0].users) == ["users/ana"]


def test_rules_of_goalert_are_windows_and_a_rotation_keeps_its_zone() -> None:
    [wanted] = goalert_of(MORNINGS, {**MORNINGS, "start": "12:00", "end": "12:00"}).wanted
    assert hours(wanted.schedule.schedule.layers[0]) == [([7], "08:00", "12:00", 0), ([7], "12:00", "12:00", 1)]
    [wanted] = goalert_of(time_zone="UTC").wanted
    assert wanted.schedule.schedule.layers[0].time_zone == "Europe/Berlin"


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


def test_a_rotation_of_incident_io_with_hours_nobody_and_a_change_ahead() -> None:
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


OVERRIDE = {"rotation_id": "R", "start_at": "2099-01-05T08:00:00Z", "end_at": "2099-01-06T08:00:00Z", "user": None}
AN_HOUR = {**SHIFT, "type": "override", "start": "2099-01-05T09:00:00", "duration": 3600}


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (lambda: oncall_of({**SHIFT, "frequency": "monthly"}), "recurs by months"),
        (lambda: oncall_of({**SHIFT, "by_month": [1]}), "recurs by months"),
        (lambda: oncall_of({**SHIFT, "type": "of_tomorrow"}), "its type is 'of_tomorrow'"),
        (lambda: oncall_of({**SHIFT, "interval": 2}), "comes every 2 (weekly) and is shorter than that"),
        (lambda: oncall_of({**SHIFT, "interval": 2, "by_day": ["MO"]}), "comes every 2 (weekly) on some days"),
        (lambda: oncall_of({**SHIFT, "frequency": "daily", "by_day": ["MO"]}), "comes every 1 (daily) on some days"),
        (lambda: oncall_of({**SHIFT, "by_day": ["SA"], "duration": 172800}), "lasts from one week into the next"),
        (lambda: oncall_of({**SHIFT, "duration": 700000}), "its times are no whole minutes"),
        (lambda: oncall_of({**SHIFT, "duration": 700020}), "lasts longer than until it comes again"),
        (lambda: oncall_of({**SHIFT, "rolling_users": []}), "nobody is in it"),
        (lambda: oncall_of({**SHIFT, "start": "soon"}), "'soon' is no time"),
        (lambda: oncall_of(SHIFT, shifts=["O1", "O2"]), "the shift 'O2' is not in the files"),
        (lambda: oncall_of(AN_HOUR, {**AN_HOUR, "id": "O2", "name": "t"}), "the overrides s and t overlap"),
        (
            lambda: oncall.convert([{"id": "S", "name": "Web"}, {"id": "T", "name": "Db"}], [[SHIFT]], People({}), AT),
            "give one schedule at a time",
        ),
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
        (lambda: incident_io_of({**INCIDENT_IO, "scheduling_mode": "fair"}), "moves people between shifts"),
        (lambda: incident_io_of({**INCIDENT_IO, "handovers": [{"interval": 1, "interval_type": "lunar"}]}), "'lunar'"),
        (lambda: incident_io_of(INCIDENT_IO, overrides=[{**OVERRIDE, "rotation_id": "X"}]), "the rotation 'X'"),
        (
            lambda: incident_io_of({**INCIDENT_IO, "layers": [{"id": "1"}, {"id": "2"}]}, overrides=[OVERRIDE]),
            "which has several",
        ),
    ],
)
def test_what_the_other_three_have_and_tocsin_has_not_leaves_a_schedule_out(
    plan: Callable[[], Plan], says: str
) -> None:
    found = plan()
    assert not found.wanted
    assert says in found.problems[0]


def test_entries_of_incident_io_are_of_one_schedule() -> None:
    one = {"id": "S", "name": "Web", "timezone": "UTC", "config": {"rotations": []}}
    entries = {"schedule_entries": {"overrides": [OVERRIDE]}}
    with pytest.raises(NotImported, match="one schedule at a time"):
        incident_io.convert({"schedules": [one, one]}, [entries], People({}), AT)


def test_the_command_takes_all_files_of_oncall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = tmp_path / "users.json"
    listed = [{"id": f"P{each.upper()}", "email": f"{each}@example.com"} for each in ("ana", "ben", "cem", "dora")]
    users.write_text(json.dumps({"count": 4, "next": None, "results": listed}))
    files = [str(EXPORTS / f"oncall{name}.json") for name in ("", "-shifts", "-swaps")]
    given = ["oncall", files[0], "--shifts", files[1], "--overrides", files[2], "--users", str(users)]
    assert main(given) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["method"].rpartition("/")[2] for each in said] == [
        "CreateSchedule",
        "CreateOverride",
        "CreateOverride",
    ]
    assert main(["goalert", str(EXPORTS / "goalert.json")]) == 0
    assert "ScheduleService/CreateFixedPeriod" in capsys.readouterr().out.splitlines()[-1]


def chain_of(*steps: dict[str, Any], schedule: bool = True) -> Plan:
    listed = [{"id": f"E{n}", "escalation_chain_id": "F", "position": n, **step} for n, step in enumerate(steps)]
    chain = {"id": "F", "name": "Web chain", "team_id": None}
    schedules = [{"id": "S", "name": "Web", "type": "web", "time_zone": "UTC", "shifts": []}] if schedule else []
    others = [{"results": [chain]}, {"results": [*reversed(listed), {**listed[0], "escalation_chain_id": "G"}]}]
    return oncall.convert({"results": schedules}, others, People({"Ops": ["ana", "dora"]}), AT)


ON_CALL: dict[str, Any] = {
    "type": "notify_on_call_from_schedule",
    "notify_on_call_from_schedule": "S",
    "important": True,
}
PEOPLE: dict[str, Any] = {"type": "notify_persons", "persons_to_notify": ["ben", "cem"]}
IN_TURN: dict[str, Any] = {"type": "notify_person_next_each_time", "persons_to_notify_next_each_time": ["ana", "ben"]}
OPS: dict[str, Any] = {"type": "notify_team_members", "team_to_notify": "Ops"}
WAIT: dict[str, Any] = {"type": "wait", "duration": 300}


def test_an_escalation_chain_is_a_policy_whose_waits_are_timeouts() -> None:
    plan = chain_of(ON_CALL, PEOPLE, WAIT, WAIT, IN_TURN, WAIT, OPS, {"type": "repeat_escalation"})
    [made] = plan.policies
    assert (made.policy_id, made.policy.display_name, made.policy.repeat_count) == ("web-chain", "Web chain", 5)
    found = [
        ([each.user or each.schedule for each in level.targets], level.timeout.seconds, level.mode)
        for level in made.policy.levels
    ]
    everybody, in_turn = policy_pb.LEVEL_MODE_ALL, policy_pb.LEVEL_MODE_IN_TURN
    assert found == [
        (["schedules/web", "users/ben", "users/cem"], 600, everybody),
        (["users/ana", "users/ben"], 300, in_turn),
        (["users/ana", "users/dora"], 300, everybody),
    ]
    assert ["its last level has 300 seconds" in plan.notes[0], "has important steps" in plan.notes[1]] == [True, True]


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (lambda: chain_of(WAIT, PEOPLE), "step 1 waits before anybody is notified"),
        (lambda: chain_of({"type": "repeat_escalation"}, PEOPLE), "step 1 repeats the chain, and steps follow it"),
        (lambda: chain_of(PEOPLE, IN_TURN), "step 2 notifies one in turn and others"),
        (lambda: chain_of(IN_TURN, PEOPLE), "step 2 notifies one in turn and others"),
        (lambda: chain_of(PEOPLE, WAIT, {"type": "trigger_webhook"}), "step 3 is of type 'trigger_webhook'"),
        (lambda: chain_of(ON_CALL, schedule=False), "the schedule 'S', which is not among those taken"),
        (lambda: chain_of({**PEOPLE, "persons_to_notify": [f"u{n}" for n in range(11)]}), "11 targets"),
        (lambda: chain_of({**OPS, "team_to_notify": "Db"}), "team 'Db' stands in a line-up"),
        (lambda: chain_of(*[PEOPLE, WAIT] * 21), "21 levels; a policy has 1 to 20"),
        (lambda: chain_of({"type": "repeat_escalation"}), "0 levels"),
    ],
)
def test_a_chain_with_a_step_that_has_no_place_is_left_out_and_says_why(plan: Callable[[], Plan], says: str) -> None:
    found = plan()
    assert not found.policies
    assert says in found.problems[0]


def test_the_command_makes_policies_behind_what_they_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chains = tmp_path / "chains.json"
    step = {"id": "E", "escalation_chain_id": "F", "position": 0, **ON_CALL, "notify_on_call_from_schedule": "SWEB"}
    after = {"id": "E2", "escalation_chain_id": "F", "position": 1, **PEOPLE}
    chains.write_text(json.dumps([{"id": "F", "name": "Web chain", "team_id": None}, step, after]))
    files = ["--shifts", str(EXPORTS / "oncall-shifts.json"), "--chains", str(chains), "--create-users"]
    assert main(["oncall", str(EXPORTS / "oncall.json"), *files]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    methods = [each["method"].rpartition("/")[2] for each in said]
    assert methods == ["CreateUser"] * 6 + ["CreateSchedule", "CreateOverride", "CreatePolicy"]
    assert said[-1]["request"]["policy"]["levels"][0]["targets"][0] == {"schedule": "schedules/from-oncall"}

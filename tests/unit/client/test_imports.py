"""Exports of other tools become the requests that docs/coming-from.md writes down by hand, or say what is in their way."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1.schedule_service_pb2 import CreateScheduleRequest
from tocsin_client.imports import goalert, incident_io, oncall, opsgenie, pagerduty
from tocsin_client.imports.__main__ import main
from tocsin_client.imports.plan import NotImported, People, Plan, slug

from tests.unit.client.exported import AT, EXPORTS, KNOWN, read

PAGE = (Path(__file__).parents[3] / "docs" / "coming-from.md").read_text()
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


def test_a_team_in_a_line_up_is_the_user_who_was_named_for_it() -> None:
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


@pytest.mark.parametrize(
    ("tool", "answer"),
    [
        ("opsgenie", {"message": "Could not authenticate", "took": 0.0, "requestId": "r"}),
        ("pagerduty", {"error": {"message": "Not Found", "code": 2100}}),
        ("oncall", {"detail": "Invalid token."}),
        ("goalert", {"errors": [{"message": "unauthorized"}], "data": None}),
        ("incident-io", {"type": "authentication_error", "status": 401, "errors": [{"message": "no key"}]}),
    ],
)
def test_an_error_of_the_other_tool_is_told_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: str, answer: dict[str, Any]
) -> None:
    """A wrong key is saved as an answer by curl, which does not fail."""
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(answer))
    assert main([tool, str(file)]) == 2
    said = capsys.readouterr()
    assert "the other tool's API has answered an error: " in said.err
    assert not said.out


def test_a_file_that_is_not_json_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "overrides.json"
    file.write_text("<html>")
    assert main(["opsgenie", str(EXPORTS / "opsgenie.json"), "--overrides", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"{file}: it is not JSON: ")


def test_overrides_that_are_not_given_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """They are in an answer of their own; without it a user would wrongly be on call."""
    told = "note: overrides are answered apart; without --overrides none is made"
    beside = ["--overrides", str(EXPORTS / "opsgenie-overrides.json")]
    for arguments, tells in (
        (["pagerduty", str(EXPORTS / "pagerduty.json")], True),
        (["opsgenie", str(EXPORTS / "opsgenie.json")], True),
        (["opsgenie", str(EXPORTS / "opsgenie.json"), *beside], False),
        (["goalert", str(EXPORTS / "goalert.json")], False),
    ):
        assert main(arguments) == 0
        assert (told in capsys.readouterr().err) == tells


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

"""Schedules of Grafana OnCall, and its escalation chains."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tocsin.escalation.v1 import policy_service_pb2 as policy_pb
from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1.calendar_service_pb2 import CreateCalendarImportRequest
from tocsin_client.imports import oncall
from tocsin_client.imports.__main__ import main
from tocsin_client.imports.plan import People, Plan

from tests.unit.client.exported import AT, EXPORTS, KNOWN, ahead, hours, read

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
AN_HOUR = {**SHIFT, "type": "override", "start": "2099-01-05T09:00:00", "duration": 3600}


def oncall_of(*shifts: dict[str, Any], **fields: Any) -> Plan:
    export = {"id": "S", "name": "Web", "type": "web", "time_zone": "Europe/Berlin", **fields}
    return oncall.convert({"results": [export]}, [{"results": list(shifts)}], People({}), AT)


def layer_of(**fields: Any) -> pb.Layer:
    plan = oncall_of({**SHIFT, **fields})
    assert plan.problems == []
    return plan.wanted[0].schedule.schedule.layers[0]


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
    ],
)
def test_what_has_no_place_leaves_its_schedule_out_and_says_why(plan: Callable[[], Plan], says: str) -> None:
    found = plan()
    assert not found.wanted
    assert says in found.problems[0]


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

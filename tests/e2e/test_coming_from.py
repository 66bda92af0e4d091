"""docs/coming-from.md: each request of the page is taken, and brings who the page says is on call."""

import asyncio
import json
import re
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from google.protobuf import json_format
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin.escalation.v1.policy_service_pb2 import ListPoliciesRequest
from tocsin_client.imports.__main__ import main
from tocsin_testkit.tenant import Tenant

from tests.e2e.operator_doc import ROOT
from tests.e2e.schedule_calls import now

EXPORTS: Final = ROOT / "tests" / "unit" / "client" / "exports"

pytestmark = pytest.mark.stack


class Section(NamedTuple):
    """What a section asks for, and what it says comes of it."""

    request: pb.CreateScheduleRequest
    since: str
    until: str
    answer: str


PAGE: Final = (ROOT / "docs" / "coming-from.md").read_text()
FOUND: Final = re.findall(
    r"^## ([^\n]+)\n(?:(?!^## ).)*?```json\n(.*?)```\n\nFrom (.{16}) to (.{16}) it answers:\n\n```text\n(.*?)```",
    PAGE,
    re.DOTALL | re.MULTILINE,
)
SECTIONS: Final = {
    name: Section(json_format.Parse(request, pb.CreateScheduleRequest()), since, until, answer)
    for name, request, since, until, answer in FOUND
}


def test_the_page_has_the_five_models() -> None:
    assert list(SECTIONS) == ["PagerDuty", "Opsgenie", "Grafana OnCall", "GoAlert", "incident.io"]


async def test_schedules_of_other_tools_are_taken_and_say_the_same(tenant: Tenant) -> None:
    await tenant.people("ana", "ben", "cem", "dora", "eva")
    for name, section in SECTIONS.items():
        await tenant.admin.schedules.CreateSchedule(section.request)
        assert await resolved(tenant, section) == section.answer, name


@pytest.mark.parametrize("tool", ["Opsgenie", "PagerDuty"])
async def test_the_command_makes_of_an_export_what_the_page_writes_by_hand(
    tenant: Tenant, tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOCSIN_TOKEN", tenant.world.token(tenant.org_id))
    name, section = tool.lower(), SECTIONS[tool]
    given = [name, str(EXPORTS / f"{name}.json"), "--create-users", "--plaintext"]
    given += ["--send", tenant.world.stack.plan.target("escalation")]
    if tool == "PagerDuty":
        given += ["--users", str(EXPORTS / "pagerduty-users.json")]
    else:
        overrides = json.loads((EXPORTS / "opsgenie-overrides.json").read_text())
        begins = await now(tenant) + timedelta(days=1)
        for each in overrides["data"]:
            each["startDate"], each["endDate"] = f"{begins:%Y-%m-%dT%H:00:00Z}", f"{begins:%Y-%m-%dT%H:30:00Z}"
        (tmp_path / "overrides.json").write_text(json.dumps(overrides))
        given += ["--overrides", str(tmp_path / "overrides.json")]
    assert await asyncio.to_thread(main, given) == 0
    assert f"CreateSchedule schedules/from-{name}: made" in capsys.readouterr().out
    assert await resolved(tenant, section) == section.answer
    made = await of_schedule(tenant, f"schedules/from-{name}")
    assert [each.layer_id for each in made] == (["second-line", ""] if tool == "Opsgenie" else [])
    assert await asyncio.to_thread(main, given) == 0
    assert await of_schedule(tenant, f"schedules/from-{name}") == made, "a repeat makes nothing anew"


async def test_the_command_says_how_its_users_are_made_and_needs_the_scopes_that_it_names(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["opsgenie", str(EXPORTS / "opsgenie.json"), "--plaintext"]
    given += ["--send", tenant.world.stack.plan.target("escalation")]
    monkeypatch.delenv("TOCSIN_TOKEN", raising=False)
    assert await asyncio.to_thread(main, given) == 2
    scopes = capsys.readouterr().err.splitlines()[-1].rpartition("scopes ")[2].split(", ")
    monkeypatch.setenv("TOCSIN_TOKEN", tenant.world.token(tenant.org_id, scopes))
    assert await asyncio.to_thread(main, given) == 1
    assert "does not exist; create it first; --create-users does" in capsys.readouterr().err
    assert await asyncio.to_thread(main, [*given, "--create-users"]) == 0


_AHEAD: Final = re.compile(r"2099-(\d\d)-(\d\d)")


def _soon(today: date, found: re.Match[str]) -> str:
    """What lies ahead in the exports, within the time for which overrides are taken."""
    return str(today + timedelta(days=31 * (int(found[1]) - 1) + int(found[2])))


@pytest.mark.parametrize(
    ("tool", "section", "files", "overrides", "periods", "policies"),
    [
        ("oncall", "Grafana OnCall", ["oncall", "oncall-shifts", "oncall-chains", "oncall-steps"], 1, 0, 1),
        ("goalert", "GoAlert", ["goalert"], 3, 1, 0),
        ("incident-io", "incident.io", ["incident-io"], 0, 0, 0),
    ],
)
async def test_the_command_takes_over_what_lies_ahead_as_well(
    tenant: Tenant,
    tool: str,
    section: str,
    files: list[str],
    overrides: int,
    periods: int,
    policies: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOCSIN_TOKEN", tenant.world.token(tenant.org_id))
    users = tmp_path / "users.json"
    users.write_text(json.dumps({f"P{each.upper()}": each for each in ("ana", "ben", "cem", "dora", "eva")}))
    today = (await now(tenant)).date()
    for each in files:
        (tmp_path / each).write_text(_AHEAD.sub(partial(_soon, today), (EXPORTS / f"{each}.json").read_text()))
    first, *beside = [str(tmp_path / each) for each in files]
    given = [tool, first, "--users", str(users), "--create-users", "--plaintext"]
    given += [word for each in beside for word in ("--shifts", each)]
    given += ["--send", tenant.world.stack.plan.target("escalation")]
    assert await asyncio.to_thread(main, given) == 0
    assert await resolved(tenant, SECTIONS[section]) == SECTIONS[section].answer
    name = f"schedules/{SECTIONS[section].request.schedule_id}"
    assert len(await of_schedule(tenant, name)) == overrides
    listed = await tenant.admin.schedules.ListFixedPeriods(pb.ListFixedPeriodsRequest(schedule=name))
    assert len(listed.fixed_periods) == periods
    made = (await tenant.admin.policies.ListPolicies(ListPoliciesRequest())).policies
    assert [each.levels[0].targets[0].schedule for each in made] == [name] * policies


async def of_schedule(tenant: Tenant, name: str) -> list[sp.Override]:
    request = pb.ListOverridesRequest(schedule=name)
    return list((await tenant.admin.schedules.ListOverrides(request)).overrides)


async def resolved(tenant: Tenant, section: Section) -> str:
    """Who is on call when the page says it, as the page writes it."""
    zone = ZoneInfo(section.request.schedule.time_zone)
    wanted = pb.ResolveScheduleRequest(name=f"schedules/{section.request.schedule_id}")
    wanted.start_time.FromDatetime(datetime.fromisoformat(section.since).replace(tzinfo=zone))
    wanted.end_time.FromDatetime(datetime.fromisoformat(section.until).replace(tzinfo=zone))
    segments = (await tenant.admin.schedules.ResolveSchedule(wanted)).segments
    return "".join(f"{line(each, zone)}\n" for each in segments)


def line(segment: Any, zone: ZoneInfo) -> str:
    start = datetime.fromtimestamp(segment.start_time.seconds, zone)
    who = ", ".join(user.removeprefix("users/") for user in segment.users)
    return f"{start:%a %H:%M} {who or ('a gap' if segment.coverage == sp.ON_CALL_COVERAGE_GAP else 'nobody')}"

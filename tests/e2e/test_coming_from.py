"""docs/coming-from.md: each request of the page is taken, and brings who the page says is on call."""

import re
from datetime import datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from google.protobuf import json_format
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin_testkit.tenant import Tenant

from tests.e2e.operator_doc import ROOT

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
        zone = ZoneInfo(section.request.schedule.time_zone)
        wanted = pb.ResolveScheduleRequest(name=f"schedules/{section.request.schedule_id}")
        wanted.start_time.FromDatetime(datetime.fromisoformat(section.since).replace(tzinfo=zone))
        wanted.end_time.FromDatetime(datetime.fromisoformat(section.until).replace(tzinfo=zone))
        segments = (await tenant.admin.schedules.ResolveSchedule(wanted)).segments
        assert "".join(f"{line(each, zone)}\n" for each in segments) == section.answer, name


def line(segment: Any, zone: ZoneInfo) -> str:
    start = datetime.fromtimestamp(segment.start_time.seconds, zone)
    who = ", ".join(user.removeprefix("users/") for user in segment.users)
    return f"{start:%a %H:%M} {who or ('a gap' if segment.coverage == sp.ON_CALL_COVERAGE_GAP else 'nobody')}"

"""How often people were woken, and how long answers took: asked after a night, from outside."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import analytics_service_pb2 as pb
from tocsin.escalation.v1 import incident_service_pb2
from tocsin_testkit.busy import until
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure


def at(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


async def test_after_a_night_the_figures_say_who_was_woken_and_how_long_it_took(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=30))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident, level=1)
    await tenant.passes(minutes=31)
    await ben.is_paged(incident, level=2)
    await tenant.passes(minutes=9)
    await ben.acknowledges(incident)
    await ana.is_told(incident, "acknowledgment")
    opened = (await tenant.incident(incident)).create_time.ToDatetime(UTC)
    day = opened.replace(hour=0, minute=0, second=0, microsecond=0)
    asked = pb.SummarizeIncidentsRequest(start_time=at(day), end_time=at(day + timedelta(days=3)))
    found = pb.SummarizeIncidentsResponse()

    async def counted() -> bool:
        found.CopyFrom(await ana.own.analytics.SummarizeIncidents(asked))
        return bool(found.rows) and found.rows[0].acknowledged == 1

    await until(counted, 30.0)
    [row] = found.rows
    assert (row.opened, row.acknowledged, row.resolved, row.exhausted) == (1, 1, 0, 0)
    assert 40 * 60 <= row.mean_time_to_acknowledge.ToSeconds() < 45 * 60
    assert row.HasField("mean_time_to_resolve") is False
    assert found.as_of_time.ToDatetime(UTC) > opened
    pages = pb.SummarizePagesRequest(
        start_time=at(day), end_time=at(day + timedelta(days=3)), group_by=[pb.SUMMARY_GROUP_USER], as_csv=True
    )
    answer = await ben.own.analytics.SummarizePages(pages)
    header, *lines = answer.csv.splitlines()
    assert header == "user,pages,acknowledged,interruptions,business_hours,off_hours,sleep_hours"
    assert [line.split(",")[:4] for line in lines] == [
        [ana.id, "1", "0", "1"],
        [ben.id, "1", "1", "1"],
    ]
    await ben.own.incidents.ResolveIncident(incident_service_pb2.ResolveIncidentRequest(name=incident))
    await ana.is_told(incident, "resolution")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"start_time": Timestamp(seconds=1)}, "start_time"),
        ({"end_time": Timestamp(seconds=900, nanos=1)}, "end_time"),
        ({"end_time": Timestamp(seconds=0)}, "end_time"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "posixrules"}, "time_zone"),
        ({"group_by": [pb.SUMMARY_GROUP_DAY, pb.SUMMARY_GROUP_WEEK]}, "group_by"),
        ({"group_by": [pb.SUMMARY_GROUP_POLICY, pb.SUMMARY_GROUP_POLICY]}, "group_by"),
        ({"policies": ["night"]}, "policies[0]"),
    ],
)
async def test_a_question_without_sense_is_refused_with_its_field(tenant: Tenant, change: dict, field: str) -> None:  # type: ignore[type-arg]
    given = {"start_time": Timestamp(seconds=0), "end_time": Timestamp(seconds=900)} | change
    for call, request in (
        (tenant.admin.analytics.SummarizeIncidents, pb.SummarizeIncidentsRequest(**given)),
        (tenant.admin.analytics.SummarizePages, pb.SummarizePagesRequest(**given)),
    ):
        error = await failure(call(request))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert list(error.fields) == [field]


async def test_nothing_counted_is_no_row(tenant: Tenant) -> None:
    asked = pb.SummarizePagesRequest(start_time=Timestamp(seconds=0), end_time=Timestamp(seconds=900))
    assert list((await tenant.admin.analytics.SummarizePages(asked)).rows) == []

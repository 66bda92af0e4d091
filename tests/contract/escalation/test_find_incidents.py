"""ListIncidents finds by severity, label and word, and CountIncidents says what a wall display shows."""

from typing import Any

import grpc
import pytest
from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.type.v1 import severity_pb2
from tocsin_kit.errors import from_rpc_error
from tocsin_testkit.tenant import Tenant

CRITICAL, ERROR, WARNING = (
    severity_pb2.SEVERITY_CRITICAL,
    severity_pb2.SEVERITY_ERROR,
    severity_pb2.SEVERITY_WARNING,
)
SENT = (
    ("Disk full", "db-1", WARNING, {"team": "storage", "zone": "Lisbon"}),
    ("Disk failing", "db-2", CRITICAL, {"team": "storage"}),
    ("Checkout is slow", "shop", ERROR, {"team": "web"}),
    ("Checkout fails", "shop", CRITICAL, {"team": "web"}),
)


async def sent(tenant: Tenant) -> None:
    """Four incidents, the newest last, that page no one."""
    prom = await tenant.integration()
    for summary, source, severity, labels in SENT:
        incident = await prom.triggers(summary, source=source, severity=severity, labels=labels, dedup_key=summary)
        assert await tenant.incidents_titled(summary) == [incident]


async def titles(tenant: Tenant, **filters: Any) -> list[str]:
    answer = await tenant.admin.incidents.ListIncidents(pb.ListIncidentsRequest(**filters))
    assert not answer.next_page_token
    return [each.title for each in answer.incidents]


async def test_by_severity_label_and_word(tenant: Tenant) -> None:
    await sent(tenant)
    assert await titles(tenant, severities=[CRITICAL]) == ["Checkout fails", "Disk failing"]
    assert await titles(tenant, labels={"team": "storage"}) == ["Disk failing", "Disk full"]
    assert await titles(tenant, labels={"team": "storage", "zone": "Lisbon"}) == ["Disk full"]
    assert await titles(tenant, labels={"team": "stor"}) == []
    assert await titles(tenant, query="CHECKOUT shop") == ["Checkout fails", "Checkout is slow"]
    assert await titles(tenant, query="disk lisbon") == ["Disk full"], "a label's value counts"
    assert await titles(tenant, query="d%k") == [], "no character is a pattern"
    assert await titles(tenant, query="checkout", severities=[ERROR]) == ["Checkout is slow"]
    counted = await tenant.admin.incidents.CountIncidents(pb.CountIncidentsRequest())
    states = {each.state for each in counted.counts}
    assert states == {incident_pb2.INCIDENT_STATE_EXHAUSTED}, "there was no policy that could page anybody"
    assert [(each.severity, each.count) for each in counted.counts] == [(CRITICAL, 2), (ERROR, 1), (WARNING, 1)]
    assert counted.total == 4


async def test_the_worst_first_page_by_page_without_what_is_over(tenant: Tenant) -> None:
    await sent(tenant)
    over = await tenant.incidents_titled("Disk failing")
    await tenant.admin.incidents.ResolveIncident(pb.ResolveIncidentRequest(name=over[0]))
    request = pb.ListIncidentsRequest(order=pb.INCIDENT_ORDER_SEVERITY, page_size=1)
    seen: list[str] = []
    while not seen or request.page_token:
        answer = await tenant.admin.incidents.ListIncidents(request)
        seen += [each.title for each in answer.incidents]
        request.page_token = answer.next_page_token
    assert seen == ["Checkout fails", "Checkout is slow", "Disk full"]
    counted = await tenant.admin.incidents.CountIncidents(pb.CountIncidentsRequest())
    assert counted.total == 3


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListIncidentsRequest(query="x" * 257), "query"),
        (pb.ListIncidentsRequest(query="a b c d e f g h i j k"), "query"),
        (pb.ListIncidentsRequest(labels={str(number): "" for number in range(21)}), "labels"),
        (
            pb.ListIncidentsRequest(order=pb.INCIDENT_ORDER_SEVERITY, states=[incident_pb2.INCIDENT_STATE_RESOLVED]),
            "order",
        ),
    ],
)
async def test_what_cannot_be_asked_for(tenant: Tenant, request_: pb.ListIncidentsRequest, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tenant.admin.incidents.ListIncidents(request_)
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason_name) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in {violation.field for violation in error.fields}

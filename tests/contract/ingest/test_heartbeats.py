"""Heartbeats as their senders call them: by gRPC and by HTTP, and what wrong calls are answered."""

from typing import Any

import aiohttp
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.errors.v1.error_reason_pb2 import ErrorReason as R
from tocsin.ingest.v1.alert_service_pb2 import SendHeartbeatRequest
from tocsin.ingest.v1.integration_service_pb2 import (
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    UpdateIntegrationRequest,
)

from tests.contract.ingest.test_integration_service import error_of
from tests.store.ingest.support import Ingest, bearer, key, new_org


async def made(ingest: Ingest, org: str, **fields: Any) -> tuple[str, str]:
    request = CreateIntegrationRequest(integration=Integration(display_name="backup", **fields))
    answer = await ingest.integrations.CreateIntegration(request, metadata=bearer(org))
    return answer.integration.name, answer.key


async def test_a_heartbeat_is_taken_by_grpc_and_by_http(ingest: Ingest) -> None:
    org = new_org()
    name, secret = await made(ingest, org, heartbeat_interval=Duration(seconds=600))
    read = GetIntegrationRequest(name=name)
    before = (await ingest.integrations.GetIntegration(read, metadata=bearer(org))).integration
    assert before.HasField("heartbeat_due_time")
    assert not before.HasField("heartbeat_time")
    first = await ingest.alerts.SendHeartbeat(SendHeartbeatRequest(), metadata=key(secret))
    second = await ingest.alerts.SendHeartbeat(SendHeartbeatRequest(integration=name), metadata=bearer(org))
    assert before.heartbeat_due_time.ToDatetime() < first.due_time.ToDatetime() < second.due_time.ToDatetime()
    assert not first.returned
    due = second.due_time.ToDatetime().isoformat()
    async with aiohttp.ClientSession() as http:
        for method, path, headers in (
            ("POST", "/v1/heartbeat", {"Authorization": f"Bearer {secret}"}),
            ("GET", f"/v1/heartbeat/{secret}", {}),
            ("POST", f"/v1/heartbeat/{secret}/", {}),
        ):
            async with http.request(method, ingest.http + path, headers=headers, data=None) as response:
                answer = await response.json()
                assert (response.status, answer["status"], answer["returned"]) == (200, "success", False)
                assert answer["due_time"] > due
                due = answer["due_time"]
    after = (await ingest.integrations.GetIntegration(read, metadata=bearer(org))).integration
    assert (after.HasField("heartbeat_time"), after.heartbeat_missing, after.etag) == (True, False, before.etag)


async def test_wrong_calls_are_told_what_is_wrong(ingest: Ingest) -> None:
    org = new_org()
    name, secret = await made(ingest, org)
    for request, metadata, reason in (
        (SendHeartbeatRequest(), key(secret), R.ERROR_REASON_INVALID_FIELD),
        (SendHeartbeatRequest(integration=name), bearer(org), R.ERROR_REASON_INVALID_FIELD),
        (SendHeartbeatRequest(), bearer(org), R.ERROR_REASON_INVALID_FIELD),
        (SendHeartbeatRequest(integration="integrations/none"), bearer(org), R.ERROR_REASON_INTEGRATION_NOT_FOUND),
        (SendHeartbeatRequest(integration=name), bearer(new_org()), R.ERROR_REASON_INTEGRATION_NOT_FOUND),
    ):
        error = await error_of(ingest.alerts.SendHeartbeat(request, metadata=metadata))
        assert error.reason == reason
    async with aiohttp.ClientSession() as http:
        for path, status in (
            ("/v1/heartbeat", 401),
            ("/v1/heartbeat/tik_wrong", 401),
            (f"/v1/heartbeat/{secret}", 400),
        ):
            async with http.post(ingest.http + path, data=b"\x00" * 100) as response:
                assert response.status == status


async def test_an_interval_that_ends_or_that_cannot_be(ingest: Ingest) -> None:
    org = new_org()
    name, secret = await made(ingest, org, heartbeat_interval=Duration(seconds=600))
    mask = FieldMask(paths=["auto_resolve_after"])
    both = Integration(name=name, auto_resolve_after=Duration(seconds=600))
    update = UpdateIntegrationRequest(integration=both, update_mask=mask)
    error = await error_of(ingest.integrations.UpdateIntegration(update, metadata=bearer(org)))
    assert [each.field for each in error.fields] == ["integration.heartbeat_interval"]
    gone = UpdateIntegrationRequest(
        integration=Integration(name=name), update_mask=FieldMask(paths=["heartbeat_interval"])
    )
    after = (await ingest.integrations.UpdateIntegration(gone, metadata=bearer(org))).integration
    assert not after.HasField("heartbeat_due_time")
    error = await error_of(ingest.alerts.SendHeartbeat(SendHeartbeatRequest(), metadata=key(secret)))
    assert error.reason == R.ERROR_REASON_INVALID_FIELD

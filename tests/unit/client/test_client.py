"""The client without a server: what every call is given, and what becomes of errors."""

import json
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import grpc
import pytest
import tocsin
import tocsin_client
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from tocsin.escalation.v1.incident_service_pb2 import AcknowledgeIncidentRequest, GetIncidentRequest
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertsRequest, StreamAlertsRequest
from tocsin_client.connection import with_request_ids

CONTRACTS = Path(tocsin.__path__[0])
SERVICES = sorted(
    service.full_name
    for path in CONTRACTS.rglob("*_service_pb2.py")
    for service in import_module(
        f"tocsin.{path.relative_to(CONTRACTS).with_suffix('')}".replace("/", ".")
    ).DESCRIPTOR.services_by_name.values()
    if not service.full_name.endswith("InternalService")
)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("kind", [tocsin_client.Client, tocsin_client.AioClient])
async def test_both_clients_have_a_stub_of_every_public_service(kind: type, service: str) -> None:
    client = kind(token="t", ingest="localhost:1", escalation="localhost:1", notify="localhost:1", tls=None)
    stubs = [getattr(client, name) for name in dir(kind) if not name.startswith("_") and name not in vars(object)]
    assert f"{service.rpartition('.')[2]}Stub" in {type(stub).__name__ for stub in stubs}
    closing = client.close()
    if closing is not None:
        await closing


def test_a_service_without_an_address_is_named() -> None:
    with pytest.raises(ValueError, match="notify='host:port'"):
        _ = tocsin_client.Client(token="t").contacts


@pytest.mark.parametrize(
    "request_",
    [
        SendAlertRequest(alert=AlertInput(summary="a")),
        SendAlertsRequest(alerts=[SendAlertRequest(), SendAlertRequest()]),
        StreamAlertsRequest(request=SendAlertRequest(alert=AlertInput(summary="a"))),
        AcknowledgeIncidentRequest(name="incidents/1"),
    ],
    ids=lambda request: type(request).__name__,
)
def test_every_mutation_gets_keys_of_its_own_and_the_callers_object_none(request_: Message) -> None:
    before = request_.SerializeToString()
    first, second = keys(with_request_ids(request_)), keys(with_request_ids(request_))
    assert first
    assert all(first)
    assert not {*first} & {*second}
    assert len({*first}) == len(first)
    assert request_.SerializeToString() == before


def test_a_key_of_the_callers_stays_and_a_read_has_none() -> None:
    assert with_request_ids(AcknowledgeIncidentRequest(request_id="mine")).request_id == "mine"
    read = GetIncidentRequest(name="incidents/1")
    assert with_request_ids(read) is read


def keys(message: Message) -> list[str]:
    """Every request_id in the message."""
    found = [str(message.request_id)] if "request_id" in message.DESCRIPTOR.fields_by_name else []  # type: ignore[attr-defined]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else (value,):
                found += keys(each)
    return found


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_is_an_exception_with_all_that_the_status_says(code: grpc.StatusCode) -> None:
    status = status_pb2.Status(code=code.value[0], message="too many")
    for detail in (
        error_details_pb2.ErrorInfo(reason="RATE_LIMITED", domain="tocsin.dev", metadata={"name": "integrations/a"}),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=1_500_000)),
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field="alert.summary", description="is required")
            ]
        ),
        error_details_pb2.Help(),  # of a newer server
    ):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    error = tocsin_client.from_status(status, request_id="key")
    assert type(error) is tocsin_client.TocsinError.by_code.get(code, tocsin_client.TocsinError)
    assert (error.code, error.reason, error.message) == (code, "RATE_LIMITED", "too many")
    assert error.metadata == {"name": "integrations/a"}
    assert error.field_violations == (("alert.summary", "is required"),)
    assert error.retry_after == timedelta(microseconds=1500).total_seconds()
    assert error.request_id == "key"


def test_the_service_config_is_what_grpc_understands() -> None:
    policy = json.loads(tocsin_client.SERVICE_CONFIG)["methodConfig"][0]["retryPolicy"]
    assert policy["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert 1 < policy["maxAttempts"] <= 5, "gRPC takes more than five as five"

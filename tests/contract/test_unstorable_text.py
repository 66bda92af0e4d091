"""What no database holds: refused by every RPC in what people write, replaced in what machines write."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from buf.validate import validate_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.ingest.v1.alert_pb2 import AlertInput, Link
from tocsin.ingest.v1.alert_service_pb2 import (
    GetAlertRequest,
    ListAlertsRequest,
    SendAlertRequest,
    SendAlertsRequest,
    StreamAlertsRequest,
)
from tocsin.type.v1 import access_pb2, text_pb2
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

from tests.contract.errors import failure
from tests.contract.test_protos import METHODS

NUL = "a\0b"
REPLACED = "a\N{REPLACEMENT CHARACTER}b"
SERVICE_OF = {
    "ingest": "ingest",
    "escalation": "escalation",
    "notify": "notify",
    "queue": "notify",
    "outbox": "ingest",
    "limits": "ingest",
    "credentials": "escalation",
    "audit": "escalation",
}
DEPTH = 4


@dataclass(frozen=True)
class Place:
    """One string of a request: `path` as the error names it, `steps` to build a request with nothing else in it."""

    path: str
    steps: tuple[FieldDescriptor, ...]

    def request(self, type_: Descriptor) -> Any:
        message = GetMessageClass(type_)()
        inner: Any = message
        for field in self.steps[:-1]:
            inner = getattr(inner, field.name)
            if field.is_repeated:
                inner = inner.add()
            inner.SetInParent()
        last = self.steps[-1]
        if is_map(last):
            getattr(inner, last.name)["k"] = NUL
        elif last.is_repeated:
            getattr(inner, last.name).append(NUL)
        else:
            setattr(inner, last.name, NUL)
        return message


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def places(type_: Descriptor, path: str = "", steps: tuple[FieldDescriptor, ...] = ()) -> Iterator[Place]:
    """Every string below a message, but those of machines and those of items that are checked one by one."""
    for field in type_.fields:
        name = f"{path}.{field.name}" if path else field.name
        rules = field.GetOptions().Extensions[validate_pb2.field]
        inner = field.message_type
        if validate_pb2.IGNORE_ALWAYS in (rules.ignore, rules.repeated.items.ignore):
            continue
        if inner is not None and is_map(field):
            if inner.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING:
                yield Place(f'{name}["k"]', (*steps, field))
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield Place(f"{name}[0]" if field.is_repeated else name, (*steps, field))
        elif inner is not None and len(steps) < DEPTH and not inner.GetOptions().Extensions[text_pb2.machine_text]:
            yield from places(inner, f"{name}[0]" if field.is_repeated else name, (*steps, field))


CASES = {method: list(places(method.input_type)) for method in METHODS}


async def call(world: World, method: MethodDescriptor, request: Any) -> Any:
    scope = method.GetOptions().Extensions[access_pb2.scope]
    of_all = method.GetOptions().Extensions[access_pb2.tenants] == access_pb2.TENANTS_ALL
    spans_tenants = scope == "internal" or of_all
    token = world.token("*" if spans_tenants else "org-nul", [scope], subject="services/test")
    channel = world.channels.by_service[SERVICE_OF[method.containing_service.full_name.split(".")[1]]]
    path = f"/{method.containing_service.full_name}/{method.name}"
    unary = channel.unary_unary(path, type(request).SerializeToString, GetMessageClass(method.output_type).FromString)
    return await unary(request, timeout=15, metadata=(("authorization", f"Bearer {token}"),))


@pytest.mark.parametrize("method", [each for each in METHODS if CASES[each]], ids=lambda method: method.full_name)
async def test_nul_in_any_field_names_the_field(world: World, method: MethodDescriptor) -> None:
    for place in CASES[method]:
        error = await failure(call(world, method, place.request(method.input_type)))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), place.path
        assert place.path in error.fields


def test_the_matrix_is_not_empty() -> None:
    assert sum(map(len, CASES.values())) > 150


def everywhere(text: str) -> AlertInput:
    """An alert with `text` wherever there is text."""
    alert = AlertInput(
        dedup_key=text,
        summary=text,
        source=text,
        client=text,
        labels={text: text},
        links=[Link(href=f"http://{text}", text=text)],
    )
    alert.details.update({text: text, "list": [text, {text: text}]})
    return alert


async def test_alerts_are_taken_with_the_character_replaced(tenant: Tenant) -> None:
    alone = (await tenant.admin.alerts.SendAlert(SendAlertRequest(alert=everywhere(NUL)))).alert
    batch = await tenant.admin.alerts.SendAlerts(SendAlertsRequest(alerts=[SendAlertRequest(alert=everywhere(NUL))]))
    assert batch.results[0].response.alert == alone

    async def stream() -> AsyncIterator[StreamAlertsRequest]:
        yield StreamAlertsRequest(sequence=7, request=SendAlertRequest(alert=everywhere(NUL)))

    answers = [each async for each in tenant.admin.alerts.StreamAlerts(stream())]
    assert [(each.sequence, each.response.alert) for each in answers] == [(7, alone)]

    kept = (await tenant.admin.alerts.GetAlert(GetAlertRequest(name=alone))).alert
    wanted = everywhere(REPLACED)
    assert (kept.dedup_key, kept.summary, kept.source) == (REPLACED, REPLACED, REPLACED)
    assert (kept.labels, kept.links, kept.details) == (wanted.labels, wanted.links, wanted.details)
    assert len(await tenant.incidents_titled(REPLACED)) == 1, "escalation has it as well"


async def test_what_is_accepted_can_be_read_as_json(tenant: Tenant) -> None:
    alert = AlertInput(summary="odd values")
    for name, value in {"nan": float("nan"), "up": float("inf"), "down": float("-inf")}.items():
        alert.details.fields[name].number_value = value
    alert.details.fields["none"].SetInParent()
    alert.details.fields["list"].list_value.values.add()
    alert.client_time.seconds, alert.client_time.nanos = 10, -1
    name = (await tenant.admin.alerts.SendAlert(SendAlertRequest(alert=alert))).alert
    far = AlertInput(summary="far", client_time=Timestamp(seconds=1 << 60))
    await tenant.admin.alerts.SendAlert(SendAlertRequest(alert=far))
    kept = (await tenant.admin.alerts.GetAlert(GetAlertRequest(name=name))).alert
    json_format.MessageToJson(kept)
    assert json_format.MessageToDict(kept.details) == {
        "nan": "NaN",
        "up": "Infinity",
        "down": "-Infinity",
        "none": None,
        "list": [None],
    }
    assert kept.client_time.ToMilliseconds() == 9999
    json_format.MessageToJson(await tenant.admin.alerts.ListAlerts(ListAlertsRequest()))

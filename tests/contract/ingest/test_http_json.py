"""JSON of any form, read by an integration's mapping, and the mapping tried before it is saved."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.ingest.v1.alert_pb2 import (
    ALERT_ACTION_ACKNOWLEDGE,
    ALERT_ACTION_RESOLVE,
    ALERT_ACTION_TRIGGER,
    ALERT_STATE_FIRING,
    ALERT_STATE_RESOLVED,
)
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import (
    AlertMapping,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    PreviewMappingRequest,
    PreviewMappingResponse,
    UpdateIntegrationRequest,
)
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_UNSPECIFIED, SEVERITY_WARNING

from tests.contract.ingest.test_integration_service import error_of
from tests.store.ingest.support import Ingest, bearer, new_org, until

PATH = "/v1/json"
# As a probe of one's own may post it.
MAPPING = AlertMapping(
    alerts="data.events",
    dedup_key="join('/', [host, check.id])",
    summary="join(' ', [host, check.title])",
    severity="check.level",
    severities={"P1": SEVERITY_CRITICAL, "3": SEVERITY_WARNING},
    action="state",
    actions={"Gone": ALERT_ACTION_RESOLVE},
    labels="{host: host, level: check.level, none: nothing}",
    source="host",
    details="check",
    links="[runbook, {href: graph, text: 'graph'}]",
)


def event(host: str, state: str = "bad", level: Any = "P1", **fields: Any) -> dict[str, Any]:
    return {"host": host, "state": state, "check": {"id": "disk", "title": "is full", "level": level}, **fields}


def body(*events: Any) -> dict[str, Any]:
    return {"sent_by": "probe", "data": {"events": list(events)}}


class Client:
    """Posts with the key of an integration."""

    def __init__(self, ingest: Ingest, http: aiohttp.ClientSession, org: str, name: str, key: str) -> None:
        self.ingest, self.http, self.org, self.name, self.key = ingest, http, org, name, key

    async def post(self, given: Any, path: str = PATH) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.key}"}
        data = given if isinstance(given, bytes) else json.dumps(given)
        async with self.http.post(f"{self.ingest.http}{path}", data=data, headers=headers) as response:
            return response.status, await response.json()

    async def maps(self, mapping: AlertMapping | None) -> None:
        given = Integration(name=self.name, mapping=mapping)
        await self.ingest.integrations.UpdateIntegration(
            UpdateIntegrationRequest(integration=given, update_mask=FieldMask(paths=["mapping"])),
            metadata=bearer(self.org),
        )

    async def alerts(self) -> dict[str, Any]:
        listed = await self.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(self.org))
        return {each.dedup_key: each for each in listed.alerts if each.source != "Tocsin"}

    async def tries(self, mapping: AlertMapping, given: Any) -> PreviewMappingResponse:
        text = given if isinstance(given, str) else json.dumps(given)
        return await self.ingest.integrations.PreviewMapping(
            PreviewMappingRequest(mapping=mapping, body=text), metadata=bearer(self.org)
        )


@pytest.fixture
async def client(ingest: Ingest) -> AsyncIterator[Client]:
    org = new_org()
    name, key = await ingest.integration(org)
    async with aiohttp.ClientSession() as http:
        yield Client(ingest, http, org, name, key)


async def test_a_list_of_alerts_is_read_as_the_mapping_says(client: Client) -> None:
    mapping = AlertMapping()
    mapping.CopyFrom(MAPPING)
    mapping.actions["bad"] = ALERT_ACTION_TRIGGER
    await client.maps(mapping)
    sent = body(
        event("db-1", runbook="https://runbooks.example.com/disk", graph="https://graphs.example.com/1"),
        event("db-2", level=3),
        event("db-3", level="odd"),
    )
    assert await client.post(sent) == (200, {"status": "success", "accepted": 3})
    alerts = await client.alerts()
    assert set(alerts) == {"db-1/disk", "db-2/disk", "db-3/disk"}
    one = alerts["db-1/disk"]
    assert (one.summary, one.source, one.severity) == ("db-1 is full", "db-1", SEVERITY_CRITICAL)
    assert dict(one.labels) == {"host": "db-1", "level": "P1"}
    assert one.details["title"] == "is full"
    assert [link.text for link in one.links] == ["", "graph"]
    assert alerts["db-2/disk"].severity == SEVERITY_WARNING
    assert alerts["db-3/disk"].severity == SEVERITY_CRITICAL, "routing takes a word that nobody knows as critical"
    assert (await client.post(body(event("db-1", "gone"), event("db-2", "OK"))))[0] == 200
    states = {key: each.state for key, each in (await client.alerts()).items()}
    assert states == {
        "db-1/disk": ALERT_STATE_RESOLVED,
        "db-2/disk": ALERT_STATE_RESOLVED,
        "db-3/disk": ALERT_STATE_FIRING,
    }


async def test_one_bad_alert_does_not_lose_the_others_and_names_the_field_of_the_mapping(client: Client) -> None:
    await client.maps(MAPPING)
    status, answer = await client.post(
        body(event("db-1", "FIRING"), event("db-2", "wobbles"), {"host": "db-3"}, "text", event("db-5", ""))
    )
    assert (status, answer["status"], answer["accepted"]) == (400, "partial", 2)
    assert [each["message"] for each in answer["errors"]] == [
        "alerts[1]: mapping.action gives 'wobbles', which is no action; say in mapping.actions what it means",
        "alerts[2]: mapping.dedup_key join() cannot be used with a value of the type null",
        "alerts[3]: mapping.dedup_key join() cannot be used with a value of the type null",
    ]
    assert set(await client.alerts()) == {"db-1/disk", "db-5/disk"}


@pytest.mark.parametrize("given", [[], {}, {"data": {"events": 5}}, {"data": {"events": "x"}}])
async def test_a_body_without_the_list_is_refused(client: Client, given: Any) -> None:
    await client.maps(MAPPING)
    status, answer = await client.post(given)
    if given == []:
        assert (status, answer["accepted"]) == (200, 0)
        return
    assert (status, [each["field"] for each in answer["error"]["fields"]]) == (400, ["mapping.alerts"])


async def test_without_a_mapping_the_names_are_those_of_the_contract(client: Client) -> None:
    alert = {"summary": "disk full", "dedup_key": "disk", "severity": "error", "labels": {"host": "db-1"}, "more": 1}
    assert (await client.post(alert))[0] == 200
    assert (await client.post([alert, {**alert, "dedup_key": "other"}], f"{PATH}/{client.key}"))[0] == 200
    alerts = await client.alerts()
    assert {key: each.count for key, each in alerts.items()} == {"disk": 2, "other": 1}
    assert alerts["disk"].severity == SEVERITY_ERROR
    assert (await client.post({"dedup_key": "disk", "action": "resolve"}))[0] == 200
    assert (await client.alerts())["disk"].state == ALERT_STATE_RESOLVED
    for wrong, told in (
        ({}, "event: mapping.summary gives nothing"),
        (b'{"a": tru}', "body: is not JSON: Expecting value at character 6"),
        (b'{"a": 1,}', "body: is not JSON: a name in quotes was expected at character 8"),
        ({"action": "resolve"}, "event: mapping.dedup_key gives nothing"),
        ({"summary": "s", "labels": ["a"]}, "event: mapping.labels gives no object but a list"),
    ):
        status, answer = await client.post(wrong)
        [error] = answer["errors"]
        assert (status, error["message"].startswith(told)) == (400, True), answer


async def test_a_changed_mapping_holds_for_the_next_alert_and_can_be_taken_away(client: Client) -> None:
    await client.maps(AlertMapping(summary="title"))

    async def reads(given: dict[str, str]) -> bool:
        return (await client.post(given))[0] == 200

    assert await reads({"title": "one"})
    await client.maps(AlertMapping(summary="name", labels="{a: a}"))
    await until(lambda: reads({"name": "two", "a": "b"}), 30.0)
    await client.maps(None)
    got = await client.ingest.integrations.GetIntegration(
        GetIntegrationRequest(name=client.name), metadata=bearer(client.org)
    )
    assert not got.integration.HasField("mapping")
    await until(lambda: reads({"summary": "three"}), 30.0)
    assert {each.summary for each in (await client.alerts()).values()} == {"one", "two", "three"}


async def test_a_mapping_is_kept_beside_the_rules_and_shown(client: Client) -> None:
    await client.maps(MAPPING)
    got = await client.ingest.integrations.GetIntegration(
        GetIntegrationRequest(name=client.name), metadata=bearer(client.org)
    )
    assert got.integration.mapping == MAPPING
    given = Integration(name=client.name, display_name="other")
    await client.ingest.integrations.UpdateIntegration(
        UpdateIntegrationRequest(integration=given, update_mask=FieldMask(paths=["display_name"])),
        metadata=bearer(client.org),
    )
    got = await client.ingest.integrations.GetIntegration(
        GetIntegrationRequest(name=client.name), metadata=bearer(client.org)
    )
    assert got.integration.mapping == MAPPING


WRONG = AlertMapping(summary="a[", labels="shout(a)", alerts="b", severity="(" * 900)
TOLD = {"labels": "there is no function shout()", "severity": "is nested too deeply"}


async def test_a_wrong_mapping_is_refused_with_its_fields_when_it_is_saved(client: Client) -> None:
    error = await error_of(client.maps(WRONG))
    assert {each.field: each.description for each in error.fields} == {
        "integration.mapping.summary": "is not JMESPath: it is not complete",
        **{f"integration.mapping.{field}": told for field, told in TOLD.items()},
    }
    wanted = Integration(display_name="new", mapping=WRONG)
    error = await error_of(
        client.ingest.integrations.CreateIntegration(
            CreateIntegrationRequest(integration=wanted), metadata=bearer(client.org)
        )
    )
    assert len(error.fields) == 3
    missing = await error_of(client.maps(AlertMapping(labels="a")))
    assert [each.field for each in missing.fields] == ["integration.mapping.summary"]


async def test_a_mapping_can_be_tried_before_it_is_saved(client: Client) -> None:
    tried = await client.tries(MAPPING, body(event("db-1", "firing"), event("db-2", "ack"), event("db-3", "wobbles")))
    assert tried.alert_count == 3
    assert [each.place for each in tried.alerts] == ["alerts[0]", "alerts[1]", "alerts[2]"]
    assert tried.alerts[0].alert.dedup_key == "db-1/disk"
    assert tried.alerts[0].alert.severity == SEVERITY_CRITICAL
    assert [each.alert.action for each in tried.alerts] == [ALERT_ACTION_TRIGGER, ALERT_ACTION_ACKNOWLEDGE, 0]
    assert [each.problem for each in tried.alerts[:2]] == ["", ""]
    assert "mapping.action gives 'wobbles'" in tried.alerts[2].problem
    one = await client.tries(AlertMapping(summary="s"), {"s": "down"})
    assert [(each.place, each.alert.summary, each.alert.severity) for each in one.alerts] == [
        ("body", "down", SEVERITY_UNSPECIFIED)
    ]
    many = await client.tries(AlertMapping(summary="s"), [{"s": "down"}] * 150)
    assert (len(many.alerts), many.alert_count) == (100, 150)
    assert await client.alerts() == {}


async def test_what_is_tried_in_vain_is_told_with_field_and_place(client: Client) -> None:
    error = await error_of(client.tries(WRONG, {}))
    assert {each.field for each in error.fields} == {"mapping.summary", "mapping.labels", "mapping.severity"}
    for text, told in (("{", "is not JSON"), ("7", "must be a JSON object or list"), ('[{"a": 1}', "is not JSON")):
        error = await error_of(client.tries(AlertMapping(summary="s"), text))
        [field] = error.fields
        assert (field.field, told in field.description) == ("body", True), field
    error = await error_of(client.tries(MAPPING, {"data": 1}))
    assert [each.field for each in error.fields] == ["mapping.alerts"]


async def test_a_mapping_that_is_too_expensive_for_an_alert_refuses_that_alert_alone(client: Client) -> None:
    await client.maps(AlertMapping(summary="s", details="{all: rows[*].[a, b, c]}", dedup_key="s"))
    large = {"s": "large", "rows": [{"a": 1, "b": 2, "c": 3}] * 5000}
    status, answer = await client.post([{"s": "small", "rows": []}, large])
    assert (status, answer["accepted"]) == (400, 1)
    assert answer["errors"][0]["message"] == "[1]: its mapping takes more than 10000 steps; use simpler expressions"
    assert set(await client.alerts()) == {"small"}

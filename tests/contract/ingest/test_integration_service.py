"""IntegrationService: keys shown once, policies checked, changes fenced, and the bad inputs."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import (
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    LabelMatcher,
    ListIntegrationsRequest,
    MatchOperator,
    RotateIntegrationKeyRequest,
    RoutingRule,
    TriggerThreshold,
    UpdateIntegrationRequest,
)
from tocsin_ingest.app.alerts.own_alerts import REFUSED
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_testkit.busy import within

from tests.store.ingest.support import FakeEscalation, Ingest, bearer, key, new_org, peer, running, trigger, until

R = ErrorReason
MATCHES = MatchOperator.MATCH_OPERATOR_MATCHES


async def error_of(call: Any) -> TocsinError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def works(ingest: Ingest, secret: str) -> bool:
    call = ingest.alerts.SendAlert(trigger("k"), metadata=key(secret))
    if await call.code() is grpc.StatusCode.OK:
        return True
    assert (await error_of(call)).reason == R.ERROR_REASON_CREDENTIAL_INVALID
    return False


async def stops(ingest: Ingest, secret: str) -> bool:
    """Whether the key stops; the contract says within a second."""

    async def refused() -> bool:
        return not await works(ingest, secret)

    await until(refused, 30.0)
    return True


async def test_the_key_is_shown_once_and_stored_as_a_hash(ingest: Ingest) -> None:
    org = new_org()
    request = CreateIntegrationRequest(
        request_id=str(uuid.uuid4()), integration_id="prom", integration=Integration(display_name="Prometheus")
    )
    first = await ingest.integrations.CreateIntegration(request, metadata=bearer(org))
    assert first.key.startswith("tik_")
    assert len(first.key) == 4 + 43
    assert first.integration.name == "integrations/prom"
    assert list(first.integration.key_prefixes) == [first.key[:8]]
    again = await ingest.integrations.CreateIntegration(request, metadata=bearer(org))
    assert (again.key, again.integration) == ("", first.integration)
    read = await ingest.integrations.GetIntegration(
        GetIntegrationRequest(name="integrations/prom"), metadata=bearer(org)
    )
    assert read.integration == first.integration
    async with ingest.database.system() as tx:
        for table in ("integrations", "integration_keys", "requests", "outbox"):
            rows = await tx.fetch(f"SELECT * FROM {table} WHERE org_id = $1", org)
            assert first.key[4:] not in str([tuple(row) for row in rows])
    taken = await error_of(
        ingest.integrations.CreateIntegration(
            CreateIntegrationRequest(integration_id="prom", integration=Integration(display_name="x")),
            metadata=bearer(org),
        )
    )
    assert (taken.reason, taken.metadata["name"]) == (R.ERROR_REASON_ALREADY_EXISTS, "integrations/prom")


async def test_a_rotated_key_works_through_its_grace_and_no_longer(ingest: Ingest) -> None:
    org = new_org()
    name, first = await ingest.integration(org)
    request = RotateIntegrationKeyRequest(request_id=str(uuid.uuid4()), name=name, grace=Duration(seconds=3600))
    second = await ingest.integrations.RotateIntegrationKey(request, metadata=bearer(org))
    assert len(second.integration.key_prefixes) == 2
    assert (await ingest.integrations.RotateIntegrationKey(request, metadata=bearer(org))).key == ""
    assert await works(ingest, first)
    assert await works(ingest, second.key)
    third = await ingest.integrations.RotateIntegrationKey(RotateIntegrationKeyRequest(name=name), metadata=bearer(org))
    assert list(third.integration.key_prefixes) == [third.key[:8]]
    assert await stops(ingest, first)
    assert await stops(ingest, second.key)
    assert await works(ingest, third.key)
    error = await error_of(
        ingest.integrations.RotateIntegrationKey(
            RotateIntegrationKeyRequest(name=name, grace=Duration(seconds=2592001)), metadata=bearer(org)
        )
    )
    assert error.fields[0].field == "grace"


async def test_a_key_with_a_lifetime_says_when_it_ends_and_ends_then(ingest: Ingest) -> None:
    org, hour = new_org(), Duration(seconds=3600)
    made = await ingest.integrations.CreateIntegration(
        CreateIntegrationRequest(integration=Integration(display_name="x"), key_lifetime=hour), metadata=bearer(org)
    )
    shown = made.integration
    assert shown.key_expire_time.ToDatetime() - shown.create_time.ToDatetime() == timedelta(hours=1)
    assert await works(ingest, made.key)
    async with ingest.database.transaction(org) as tx:
        ended = "UPDATE integration_keys SET expire_time = app_now() - interval '1 second' WHERE org_id = $1"
        await tx.execute(ended, org)
    assert await stops(ingest, made.key)
    # Otherwise only its sender would be told that its alerts are refused.
    [words] = await told(ingest, org)
    assert "has expired" in words
    for lifetime in (hour, None):
        rotated = await ingest.integrations.RotateIntegrationKey(
            RotateIntegrationKeyRequest(name=shown.name, key_lifetime=lifetime), metadata=bearer(org)
        )
        assert rotated.integration.HasField("key_expire_time") is (lifetime is not None)
        assert await works(ingest, rotated.key)
    error = await error_of(
        ingest.integrations.RotateIntegrationKey(
            RotateIntegrationKeyRequest(name=shown.name, key_lifetime=Duration(seconds=59)), metadata=bearer(org)
        )
    )
    assert error.fields[0].field == "key_lifetime"


async def told(ingest: Ingest, org: str) -> list[str]:
    """What the people of its integrations hear of refused alerts."""
    listed = await ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(org))
    return [each.summary for each in listed.alerts if each.dedup_key == REFUSED]


async def test_an_old_key_makes_no_incident_while_another_works(ingest: Ingest) -> None:
    org = new_org()
    name, first = await ingest.integration(org)
    await ingest.integrations.RotateIntegrationKey(RotateIntegrationKeyRequest(name=name), metadata=bearer(org))
    assert await stops(ingest, first)
    assert await told(ingest, org) == []


async def test_a_deleted_integrations_key_stops_on_every_replica(database_url: str, escalation: FakeEscalation) -> None:
    async with running(database_url, escalation.target) as one, running(database_url, escalation.target) as two:
        org = new_org()
        name, secret = await one.integration(org)
        assert await works(one, secret)
        assert await works(two, secret)
        await one.integrations.DeleteIntegration(DeleteIntegrationRequest(name=name), metadata=bearer(org))
        assert await stops(one, secret)
        assert await stops(two, secret)
        gone = await error_of(one.integrations.GetIntegration(GetIntegrationRequest(name=name), metadata=bearer(org)))
        assert gone.reason == R.ERROR_REASON_INTEGRATION_NOT_FOUND


async def test_changes_are_fenced_by_etag_and_replace_the_rules_as_a_whole(ingest: Ingest) -> None:
    org = new_org()
    name, secret = await ingest.integration(org, rules=[RoutingRule(suppress=True)])
    assert (await ingest.alerts.SendAlert(trigger("a"), metadata=key(secret))).incident == ""
    read = (
        await ingest.integrations.GetIntegration(GetIntegrationRequest(name=name), metadata=bearer(org))
    ).integration
    change = UpdateIntegrationRequest(
        integration=Integration(name=name, etag=read.etag), update_mask=FieldMask(paths=["routing_rules"])
    )
    after = (await ingest.integrations.UpdateIntegration(change, metadata=bearer(org))).integration
    assert (list(after.routing_rules), after.display_name) == ([], "test")
    assert after.etag != read.etag
    assert (await ingest.alerts.SendAlert(trigger("a"), metadata=key(secret))).incident
    stale = await error_of(ingest.integrations.UpdateIntegration(change, metadata=bearer(org)))
    assert (stale.reason, stale.code) == (R.ERROR_REASON_ETAG_MISMATCH, grpc.StatusCode.ABORTED)
    delete = DeleteIntegrationRequest(name=name, etag=read.etag)
    assert (await error_of(ingest.integrations.DeleteIntegration(delete, metadata=bearer(org)))).reason == stale.reason
    wrong = UpdateIntegrationRequest(integration=Integration(name=name), update_mask=FieldMask(paths=["color"]))
    mask = await error_of(ingest.integrations.UpdateIntegration(wrong, metadata=bearer(org)))
    assert (mask.reason, mask.metadata["path"]) == (R.ERROR_REASON_UPDATE_MASK_INVALID, "color")
    empty = UpdateIntegrationRequest(integration=Integration(name=name), update_mask=FieldMask(paths=["display_name"]))
    blank = await error_of(ingest.integrations.UpdateIntegration(empty, metadata=bearer(org)))
    assert blank.fields[0].field == "integration.display_name"


async def test_an_integration_made_anew_has_its_new_rules(ingest: Ingest) -> None:
    org = new_org()
    name, first = await ingest.integration(org, integration_id="same", rules=[RoutingRule(suppress=True)])
    assert (await ingest.alerts.SendAlert(trigger("a"), metadata=key(first))).incident == ""
    await ingest.integrations.DeleteIntegration(DeleteIntegrationRequest(name=name), metadata=bearer(org))
    _, second = await ingest.integration(org, integration_id="same")
    assert (await ingest.alerts.SendAlert(trigger("b"), metadata=key(second))).incident


async def test_a_policy_that_does_not_exist_is_named_by_its_field(ingest: Ingest, escalation: FakeEscalation) -> None:
    org = new_org()
    escalation.policies.add("policies/known")
    wanted = Integration(
        display_name="x",
        default_policy="policies/nope",
        routing_rules=[RoutingRule(policy="policies/known"), RoutingRule(policy="policies/gone")],
    )
    error = await error_of(
        ingest.integrations.CreateIntegration(CreateIntegrationRequest(integration=wanted), metadata=bearer(org))
    )
    assert (error.reason, error.code) == (R.ERROR_REASON_POLICY_NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
    assert [violation.field for violation in error.fields] == [
        "integration.routing_rules[1].policy",
        "integration.default_policy",
    ]
    name, _ = await ingest.integration(org, default_policy="policies/known")
    change = UpdateIntegrationRequest(integration=Integration(name=name, default_policy="policies/nope"))
    error = await error_of(ingest.integrations.UpdateIntegration(change, metadata=bearer(org)))
    assert error.reason == R.ERROR_REASON_POLICY_NOT_FOUND


async def test_without_escalation_only_what_names_a_policy_is_refused(database_url: str) -> None:
    async with peer() as away:
        away.unavailable = True
        async with running(database_url, away.target, policy_check_seconds=0.3) as ingest:
            org = new_org()
            name, _ = await ingest.integration(org)
            change = UpdateIntegrationRequest(integration=Integration(name=name, default_policy="policies/p"))
            error = await error_of(ingest.integrations.UpdateIntegration(change, metadata=bearer(org)))
            assert (error.reason, error.code) == (R.ERROR_REASON_SERVICE_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
            assert error.metadata["service"] == "escalation"


def rule(**fields: Any) -> Integration:
    return Integration(display_name="x", routing_rules=[RoutingRule(), RoutingRule(**fields)])


@pytest.mark.parametrize(
    ("integration", "field"),
    [
        (Integration(), "integration.display_name"),
        (Integration(display_name="x" * 256), "integration.display_name"),
        (Integration(display_name="x", default_policy="policy"), "integration.default_policy"),
        (Integration(display_name="x", routing_rules=[RoutingRule()] * 101), "integration.routing_rules"),
        (rule(policy="nope"), "integration.routing_rules[1].policy"),
        (rule(severity=9), "integration.routing_rules[1].severity"),
        (rule(group_by=["a", "a"]), "integration.routing_rules[1].group_by"),
        (rule(matchers=[LabelMatcher(label="a")]), "integration.routing_rules[1].matchers[0].operator"),
        (rule(matchers=[LabelMatcher(operator=MATCHES)]), "integration.routing_rules[1].matchers[0].label"),
        (
            rule(matchers=[LabelMatcher(label="a", operator=MATCHES, value="(")]),
            "integration.routing_rules[1].matchers[0].value",
        ),
        (
            rule(matchers=[LabelMatcher(label="a", operator=MATCHES, value="((a{100}){100}){100}")]),
            "integration.routing_rules[1].matchers[0].value",
        ),
        (rule(pause=Duration(nanos=1)), "integration.routing_rules[1].pause"),
        (rule(pause=Duration(seconds=86401)), "integration.routing_rules[1].pause"),
        (rule(pause=Duration(seconds=60), suppress=True), "integration.routing_rules[1]"),
        (rule(group_window=Duration(seconds=60)), "integration.routing_rules[1]"),
        (rule(group_by=["a"], group_window=Duration(seconds=59)), "integration.routing_rules[1].group_window"),
        (rule(group_by=["a"], group_window=Duration(seconds=86401)), "integration.routing_rules[1].group_window"),
        (rule(dedup_window=Duration(seconds=59)), "integration.routing_rules[1].dedup_window"),
        (rule(dedup_window=Duration(seconds=604801)), "integration.routing_rules[1].dedup_window"),
        (rule(dedup_window=Duration(seconds=60), suppress=True), "integration.routing_rules[1]"),
        (rule(continue_matching=True, suppress=True), "integration.routing_rules[1]"),
        (rule(threshold=TriggerThreshold(count=3)), "integration.routing_rules[1].threshold.window"),
        (
            rule(threshold=TriggerThreshold(count=1, window=Duration(seconds=60))),
            "integration.routing_rules[1].threshold.count",
        ),
        (
            rule(threshold=TriggerThreshold(count=3, window=Duration(seconds=60)), suppress=True),
            "integration.routing_rules[1]",
        ),
        (Integration(display_name="x", source_ranges=["192.0.2.0/24", ""]), "integration.source_ranges[1]"),
        (Integration(display_name="x", source_ranges=["192.0.2.0/24", "192.0.2.9/24"]), "integration.source_ranges[1]"),
        (Integration(display_name="x", source_ranges=["host.example"]), "integration.source_ranges[0]"),
        (Integration(display_name="x", source_ranges=["::ffff:192.0.2.0/120"]), "integration.source_ranges[0]"),
        (Integration(display_name="x", source_ranges=["192.0.2.1"] * 51), "integration.source_ranges"),
        (Integration(display_name="x", auto_resolve_after=Duration(seconds=299)), "integration.auto_resolve_after"),
        (Integration(display_name="x", auto_resolve_after=Duration(seconds=2592001)), "integration.auto_resolve_after"),
        (Integration(display_name="x", heartbeat_interval=Duration(seconds=119)), "integration.heartbeat_interval"),
        (Integration(display_name="x", heartbeat_interval=Duration(seconds=2678401)), "integration.heartbeat_interval"),
        (
            Integration(
                display_name="x", heartbeat_interval=Duration(seconds=120), auto_resolve_after=Duration(seconds=300)
            ),
            "integration.heartbeat_interval",
        ),
    ],
)
async def test_a_bad_field_is_named_on_create_and_on_update(
    ingest: Ingest, integration: Integration, field: str
) -> None:
    org = new_org()
    name, _ = await ingest.integration(org)
    create = CreateIntegrationRequest(integration=integration)
    changed = Integration()
    changed.CopyFrom(integration)
    changed.name = name
    mask = FieldMask(
        paths=[
            "display_name",
            "default_policy",
            "routing_rules",
            "source_ranges",
            "auto_resolve_after",
            "heartbeat_interval",
        ]
    )
    update = UpdateIntegrationRequest(integration=changed, update_mask=mask)
    for call in (
        ingest.integrations.CreateIntegration(create, metadata=bearer(org)),
        ingest.integrations.UpdateIntegration(update, metadata=bearer(org)),
    ):
        error = await error_of(call)
        assert (error.reason, error.code) == (R.ERROR_REASON_INVALID_FIELD, grpc.StatusCode.INVALID_ARGUMENT)
        assert [violation.field for violation in error.fields] == [field]


async def test_a_key_works_only_from_the_integrations_ranges(ingest: Ingest) -> None:
    """At once where it is set first, within a second where it is changed, by gRPC and by HTTP."""
    org = new_org()
    ranges = ["127.0.0.0/8", "::1", "127.0.0.0/8"]
    request = CreateIntegrationRequest(integration=Integration(display_name="x", source_ranges=ranges))
    made = await ingest.integrations.CreateIntegration(request, metadata=bearer(org))
    assert list(made.integration.source_ranges) == ["127.0.0.0/8", "::1/128"]
    assert await works(ingest, made.key)
    changed = Integration(name=made.integration.name, source_ranges=["203.0.113.0/24"])
    update = UpdateIntegrationRequest(integration=changed, update_mask=FieldMask(paths=["source_ranges"]))
    after = (await ingest.integrations.UpdateIntegration(update, metadata=bearer(org))).integration
    assert list(after.source_ranges) == ["203.0.113.0/24"]
    error = await refused_from_here(ingest, made.key)
    assert error.code is grpc.StatusCode.PERMISSION_DENIED
    assert error.metadata["address"] in ("127.0.0.1", "::1")
    headers = {"Authorization": f"Bearer {made.key}"}
    async with aiohttp.ClientSession() as http:
        body = {"version": "4", "alerts": []}
        async with http.post(f"{ingest.http}/v1/alertmanager", json=body, headers=headers) as response:
            assert response.status == 403
            assert "203.0.113" not in await response.text(), "who is elsewhere need not know where the key works"
    # A sender that has moved is told by an answer that no person reads; the owners of the integration are told too.
    [words] = await told(ingest, org)
    assert "may not be used from" in words
    cleared = UpdateIntegrationRequest(
        integration=Integration(name=made.integration.name), update_mask=FieldMask(paths=["source_ranges"])
    )
    await ingest.integrations.UpdateIntegration(cleared, metadata=bearer(org))
    async with asyncio.timeout(within(30)):
        while (await code_of(ingest, made.key)) is not grpc.StatusCode.OK:
            await asyncio.sleep(0.05)


async def code_of(ingest: Ingest, secret: str) -> grpc.StatusCode:
    code: grpc.StatusCode = await ingest.alerts.SendAlert(trigger("k"), metadata=key(secret)).code()
    return code


async def refused_from_here(ingest: Ingest, secret: str) -> TocsinError:
    """The error of a key, once its ranges are known here."""
    async with asyncio.timeout(within(30)):
        while (await code_of(ingest, secret)) is grpc.StatusCode.OK:
            await asyncio.sleep(0.05)
    error = await error_of(ingest.alerts.SendAlert(trigger("k"), metadata=key(secret)))
    assert error.reason == R.ERROR_REASON_SOURCE_NOT_ALLOWED
    return error


async def test_integrations_are_listed_by_name_and_only_ones_own(ingest: Ingest) -> None:
    org = new_org()
    for each in ("c", "a", "b"):
        await ingest.integration(org, integration_id=each)
    request = ListIntegrationsRequest(page_size=2)
    page = await ingest.integrations.ListIntegrations(request, metadata=bearer(org))
    assert [each.name for each in page.integrations] == ["integrations/a", "integrations/b"]
    request.page_token = page.next_page_token
    page = await ingest.integrations.ListIntegrations(request, metadata=bearer(org))
    assert [each.name for each in page.integrations] == ["integrations/c"]
    assert not page.next_page_token
    other = await ingest.integrations.ListIntegrations(ListIntegrationsRequest(), metadata=bearer(new_org()))
    assert not other.integrations

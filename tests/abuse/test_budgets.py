"""An operator limits one tenant at the running services: it is told so at every way in, and its neighbour is not touched."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import grpc
import pytest
from tocsin.escalation.v1 import directory_service_pb2
from tocsin.ingest.v1 import integration_service_pb2
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, StreamAlertsRequest
from tocsin.limits.v1 import limit_service_pb2 as pb
from tocsin.notify.v1 import contact_service_pb2
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_testkit.clients import Clients
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

PATIENCE = 60.0
SERVICES = ("ingest", "escalation", "notify")


@pytest.fixture
def operator(world: World) -> Clients:
    return world.operator()


async def limit(operator: Clients, service: str, tenant: Tenant, **allowed: int) -> dict[str, pb.Limit]:
    request = pb.UpdateTenantLimitsRequest(org_id=tenant.org_id, allowed=allowed)
    answer = await operator.limits[service].UpdateTenantLimits(request)
    return {each.name: each for each in answer.tenant_limits.limits}


async def refusal(call: Callable[[], Awaitable[Any]], at_once: int = 1) -> TocsinError:
    """What a call that is repeated ends with. One by one, calls may be no more a second than a limit allows."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for answer in await asyncio.gather(*(call() for _ in range(at_once)), return_exceptions=True):
                if isinstance(answer, grpc.aio.AioRpcError):
                    return from_rpc_error(answer)
                if isinstance(answer, BaseException):
                    raise answer


async def test_a_limited_tenants_alerts_are_refused_and_come_in_again_later(world: World, operator: Clients) -> None:
    greedy, other = world.tenant(), world.tenant()
    sender, neighbour = await greedy.integration(), await other.integration()
    limits = await limit(operator, "ingest", greedy, alerts_per_second=1)
    assert (limits["alerts_per_second"].allowed, limits["alerts_per_second"].changed) == (1, True)
    error = await refusal(lambda: sender.sends("again and again"), at_once=20)
    assert (error.reason_name, error.code) == ("RATE_LIMITED", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert error.metadata == {"limit": "alerts_per_second", "allowed": "1"}
    assert error.retry_after is not None
    assert await neighbour.sends("one")

    url = f"{world.stack.services['ingest'][0].http_url}/v1/alertmanager"
    alert = {"status": "firing", "labels": {"alertname": "a"}}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {sender.key}"}) as http:
        body = {"version": "4", "alerts": [{**alert, "labels": {"alertname": f"a{n}"}} for n in range(50)]}
        async with http.post(url, json=body) as response:
            assert (response.status, "Retry-After" in response.headers) == (503, True)
            assert "RATE_LIMITED" in await response.text()
        await limit(operator, "ingest", greedy, alerts_per_second=0)
        status = 503
        async with asyncio.timeout(PATIENCE):
            while status == 503:  # the bucket fills as fast as the new limit says
                async with http.post(url, json=body) as response:
                    status = response.status
        assert status == 200

    usage = await operator.limits["ingest"].ListTenantUsage(pb.ListTenantUsageRequest(page_size=500))
    [mine] = [each for each in usage.tenants if each.org_id == greedy.org_id]
    assert next(each for each in mine.limits if each.name == "alerts_per_second").refused >= 2


@pytest.mark.parametrize("service", SERVICES)
async def test_calls_are_limited_at_every_service(world: World, operator: Clients, service: str) -> None:
    greedy, other = world.tenant(), world.tenant()
    calls: dict[str, Callable[[Tenant], Awaitable[Any]]] = {
        "ingest": lambda tenant: tenant.admin.integrations.ListIntegrations(
            integration_service_pb2.ListIntegrationsRequest()
        ),
        "escalation": lambda tenant: tenant.admin.directory.ListUsers(directory_service_pb2.ListUsersRequest()),
        "notify": lambda tenant: tenant.admin.contacts.ListContactMethods(
            contact_service_pb2.ListContactMethodsRequest()
        ),
    }
    call = calls[service]
    await limit(operator, service, greedy, rpcs_per_second=1)
    assert (await refusal(lambda: call(greedy), at_once=20)).metadata["limit"] == "rpcs_per_second"
    await call(other)


async def test_objects_are_limited_by_tenant(world: World, operator: Clients) -> None:
    tenant = world.tenant()
    await limit(operator, "escalation", tenant, objects=1)
    await limit(operator, "notify", tenant, objects=1)
    [ana] = await tenant.people("ana")
    ids = (f"ben-{n}" for n in itertools.count())
    error = await refusal(
        lambda: tenant.admin.directory.CreateUser(
            directory_service_pb2.CreateUserRequest(
                user_id=next(ids), user=directory_service_pb2.User(display_name="Ben")
            )
        )
    )
    assert (error.reason_name, error.metadata) == ("LIMIT_REACHED", {"limit": "users", "allowed": "1"})
    error = await refusal(lambda: ana.adds_email(verify=False))
    assert (error.reason_name, error.metadata["limit"]) == ("LIMIT_REACHED", "contact_methods")
    listed = await ana.own.contacts.ListContactMethods(contact_service_pb2.ListContactMethodsRequest())
    for method in listed.contact_methods:
        await ana.own.contacts.DeleteContactMethod(contact_service_pb2.DeleteContactMethodRequest(name=method.name))
    await ana.adds_email(verify=False)


async def test_codes_and_test_pages_are_limited_and_pages_are_not(world: World, operator: Clients) -> None:
    tenant = world.tenant()
    [ana] = await tenant.people("ana")
    sender = await tenant.integration(await tenant.policy([ana]))
    await limit(operator, "notify", tenant, notifications_per_minute=1)
    request = contact_service_pb2.SendTestPageRequest(user=ana.name)
    error = await refusal(lambda: tenant.admin.contacts.SendTestPage(request))
    assert (error.reason_name, error.metadata["limit"]) == ("RATE_LIMITED", "notifications_per_minute")
    incident = await sender.triggers("it burns")
    await ana.is_paged(incident, patience=PATIENCE)
    # What waits for the budget goes now, so that the world is quiet for the next test.
    await limit(operator, "notify", tenant, notifications_per_minute=0)


@pytest.mark.parametrize(
    ("allowed", "field"),
    [({"colours": 3}, 'allowed["colours"]'), ({"streams": -1}, 'allowed["streams"]'), ({}, "allowed")],
)
async def test_what_is_no_limit_is_told(
    world: World, operator: Clients, tenant: Tenant, allowed: dict[str, int], field: str
) -> None:
    request = pb.UpdateTenantLimitsRequest(org_id=tenant.org_id, allowed=allowed)
    error = await refusal(lambda: operator.limits["notify"].UpdateTenantLimits(request))
    assert [each.field for each in error.fields] == [field]


async def test_a_repeat_by_its_id_changes_nothing_again(world: World, operator: Clients, tenant: Tenant) -> None:
    request = pb.UpdateTenantLimitsRequest(
        request_id="7e5b1f50-6d0e-4b2c-9f6c-3a1f4ce0a001", org_id=tenant.org_id, allowed={"streams": 7}
    )
    service = operator.limits["escalation"]
    first = await service.UpdateTenantLimits(request)
    await limit(operator, "escalation", tenant, streams=0)
    assert await service.UpdateTenantLimits(request) == first
    now = (await service.GetTenantLimits(pb.GetTenantLimitsRequest(org_id=tenant.org_id))).tenant_limits
    assert [(each.allowed, each.changed) for each in now.limits if each.name == "streams"] == [(500, False)]


async def test_usage_is_listed_in_pages_by_what_is_used(world: World, operator: Clients) -> None:
    """By open streams: of a rate that is used up something has come back by the time a busy machine asks."""
    tenants = [world.tenant() for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for tenant in tenants:
            await limit(operator, "ingest", tenant, streams=1)
            stream = tenant.admin.alerts.StreamAlerts(timeout=PATIENCE)
            stack.callback(stream.cancel)
            alert = SendAlertRequest(alert=AlertInput(summary="open"))
            await stream.write(StreamAlertsRequest(sequence=1, request=alert))
            assert (await stream.read()).sequence == 1
        seen: list[str] = []
        request = pb.ListTenantUsageRequest(page_size=2, min_used_percent=50)
        while True:
            answer = await operator.limits["ingest"].ListTenantUsage(request)
            seen += [each.org_id for each in answer.tenants]
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    assert seen == sorted(seen)
    assert {tenant.org_id for tenant in tenants} <= set(seen)

"""Who changed what: every service writes it, without code in each RPC."""

from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from tocsin.audit.v1 import audit_service_pb2 as pb
from tocsin.credentials.v1 import credential_service_pb2 as cp
from tocsin.escalation.v1 import directory_service_pb2 as dp
from tocsin.escalation.v1 import incident_service_pb2 as ip
from tocsin.escalation.v1 import policy_service_pb2 as pp
from tocsin.ingest.v1 import integration_service_pb2 as np
from tocsin.notify.v1 import contact_service_pb2 as kp
from tocsin_testkit.clients import Clients
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

from tests.contract.errors import failure

Code = grpc.StatusCode


async def entries(tenant: Tenant, service: str = "escalation", **filters: Any) -> list[pb.AuditEntry]:
    answer = await tenant.admin.audit[service].ListAuditEntries(pb.ListAuditEntriesRequest(**filters))
    return list(answer.entries)


def methods(found: list[pb.AuditEntry]) -> list[str]:
    return [each.method.rpartition("/")[2] for each in found]


async def test_the_log_shows_who_changed_a_policy_in_the_night_what_and_when(world: World, tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    night = await tenant.policy([ana], name="night")
    boss = Clients(tenant.world.channels, tenant.world.token(tenant.org_id, subject="users/boss"))
    await boss.policies.UpdatePolicy(pp.UpdatePolicyRequest(policy=pp.Policy(name=night, display_name="Nobody")))
    await boss.policies.DeletePolicy(pp.DeletePolicyRequest(name=night))
    found = await entries(tenant, resource=night)
    assert methods(found) == ["DeletePolicy", "UpdatePolicy", "CreatePolicy"]
    assert [each.actor for each in found] == ["users/boss", "users/boss", "users/operator"]
    deleted, updated, created = (MessageToDict(each) for each in found)
    assert "before" not in created
    assert updated["before"]["display_name"] == "night"
    assert updated["after"]["policy"]["display_name"] == deleted["before"]["display_name"] == "Nobody"
    assert updated["before"]["levels"] == updated["after"]["policy"]["levels"]
    assert [each.name for each in await entries(tenant, actor="users/boss")] == [each.name for each in found[:2]]
    since, until = found[1].create_time, found[0].create_time
    assert methods(await entries(tenant, start_time=since, end_time=until)) == ["UpdatePolicy"]

    first = await tenant.admin.audit["escalation"].ListAuditEntries(
        pb.ListAuditEntriesRequest(resource=night, page_size=2)
    )
    rest = await tenant.admin.audit["escalation"].ListAuditEntries(
        pb.ListAuditEntriesRequest(resource=night, page_size=2, page_token=first.next_page_token)
    )
    assert [*first.entries, *rest.entries] == found
    assert rest.next_page_token == ""
    stranger = world.tenant()
    assert await entries(stranger, resource=night) == []
    assert ben.name


async def test_what_a_person_did_about_an_incident_is_in_the_log_with_its_state_before_and_after(
    tenant: Tenant,
) -> None:
    [ana] = await tenant.people("ana")
    sender = await tenant.integration(await tenant.policy([ana], name="night"))
    incident = await sender.triggers("db down")
    await ana.is_paged(incident)
    mine = Clients(tenant.world.channels, tenant.world.token(tenant.org_id, subject=ana.name))
    await mine.incidents.AcknowledgeIncident(ip.AcknowledgeIncidentRequest(name=incident))
    [entry] = [MessageToDict(each) for each in await entries(tenant, resource=incident)]
    assert (entry["actor"], entry["method"]) == (
        ana.name,
        "tocsin.escalation.v1.IncidentService/AcknowledgeIncident",
    )
    assert entry["before"]["state"] == "INCIDENT_STATE_TRIGGERED"
    assert entry["after"]["incident"]["state"] == "INCIDENT_STATE_ACKNOWLEDGED"


async def test_no_secret_is_in_any_log(tenant: Tenant) -> None:
    """Neither of what a caller sends nor of what an answer shows once."""
    ana = await tenant.person("ana", webhook=False)
    account = cp.CreateServiceAccountRequest(
        service_account_id="bot", service_account=cp.ServiceAccount(display_name="Bot")
    )
    bot = (await tenant.admin.credentials.CreateServiceAccount(account)).service_account.name
    wanted = cp.ApiKey(service_account=bot, display_name="Bot", scopes=["alerts:read"])
    key = (await tenant.admin.credentials.CreateApiKey(cp.CreateApiKeyRequest(api_key=wanted))).key
    sender = await tenant.integration()
    rotated = await tenant.admin.integrations.RotateIntegrationKey(np.RotateIntegrationKeyRequest(name=sender.name))
    hook = kp.WebhookContact(url="https://hooks.example.com/x", secret="s3cr3t-of-the-hook-0123456789abcdef")
    method = kp.ContactMethod(user=ana.name, webhook=hook)
    made = await tenant.admin.contacts.CreateContactMethod(kp.CreateContactMethodRequest(contact_method=method))
    secrets = {key, sender.key, rotated.key, hook.secret, made.contact_method.webhook.secret} - {""}
    assert len(secrets) >= 4
    shown = {service: str(await entries(tenant, service)) for service in ("ingest", "escalation", "notify")}
    for service, method_name in (
        ("escalation", "CreateApiKey"),
        ("ingest", "RotateIntegrationKey"),
        ("notify", "CreateContactMethod"),
    ):
        assert method_name in shown[service]
    for secret in secrets:
        assert not any(secret in text for text in shown.values())


async def test_each_service_keeps_what_is_changed_there(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    sender = await tenant.integration()
    await tenant.admin.integrations.DeleteIntegration(np.DeleteIntegrationRequest(name=sender.name))
    [deleted, created] = await entries(tenant, "ingest", resource=sender.name)
    assert methods([deleted, created]) == ["DeleteIntegration", "CreateIntegration"]
    assert deleted.before.fields["display_name"].string_value == "prometheus"
    assert "VerifyContactMethod" in methods(await entries(tenant, "notify"))
    await tenant.admin.directory.DeleteUser(dp.DeleteUserRequest(name=ana.name))
    assert (await entries(tenant, resource=ana.name))[0].before.fields["display_name"].string_value == "Ana"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": -1}, "page_size"),
        ({"actor": "x" * 256}, "actor"),
        ({"resource": "x" * 256}, "resource"),
        ({"start_time": {"seconds": 60}, "end_time": {"seconds": 60}}, "end_time"),
    ],
)
async def test_a_question_that_cannot_be(tenant: Tenant, fields: dict[str, Any], field: str) -> None:
    error = await failure(tenant.admin.audit["notify"].ListAuditEntries(pb.ListAuditEntriesRequest(**fields)))
    assert (error.code, error.reason, list(error.fields)) == (Code.INVALID_ARGUMENT, "INVALID_FIELD", [field])


async def test_who_may_not_read_the_log_is_refused(tenant: Tenant) -> None:
    token = tenant.world.token(tenant.org_id, ("incidents:read", "policies:read"))
    clients = Clients(tenant.world.channels, token)
    error = await failure(clients.audit["escalation"].ListAuditEntries(pb.ListAuditEntriesRequest()))
    assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "SCOPE_MISSING")

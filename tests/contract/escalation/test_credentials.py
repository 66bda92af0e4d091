"""Service accounts, API keys and revocations, at every service as their clients meet them."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import jwt
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.credentials.v1 import credential_service_pb2 as pb
from tocsin.credentials.v1 import internal_service_pb2 as ip
from tocsin.escalation.v1 import directory_service_pb2 as dp
from tocsin.ingest.v1 import alert_pb2, alert_service_pb2
from tocsin.notify.v1 import contact_service_pb2 as cp
from tocsin.type.v1 import access_pb2
from tocsin_kit.auth import SigningKeys, mint
from tocsin_testkit.busy import within
from tocsin_testkit.clients import Clients
from tocsin_testkit.installation import Installation
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import Failure, failure
from tests.contract.escalation.keys import BOT, account, bot, key, revoke

Code = grpc.StatusCode
PATIENCE = 30.0
NOW = int(time.time())
INVALID = (Code.UNAUTHENTICATED, "CREDENTIAL_INVALID")


async def key_of(tenant: Tenant, **fields: Any) -> pb.CreateApiKeyResponse:
    """A key of the bot."""
    response: pb.CreateApiKeyResponse = await tenant.admin.credentials.CreateApiKey(key(**fields))
    return response


def by(tenant: Tenant, credential: str) -> Clients:
    return Clients(tenant.world.channels, credential)


EVERYWHERE = ("directory:read", "alerts:read", "contacts:read")


def everywhere(clients: Clients) -> tuple[Awaitable[object], ...]:
    """One call of each service."""
    return (
        clients.directory.ListUsers(dp.ListUsersRequest()),
        clients.alerts.ListAlerts(alert_service_pb2.ListAlertsRequest()),
        clients.contacts.ListContactMethods(cp.ListContactMethodsRequest()),
    )


async def refused_everywhere(call: Callable[[], tuple[Awaitable[object], ...]]) -> None:
    """Returns once every service refuses the credential."""
    async with asyncio.timeout(within(PATIENCE)):
        while True:
            ends = await asyncio.gather(*call(), return_exceptions=True)
            codes = [end.code() if isinstance(end, grpc.aio.AioRpcError) else None for end in ends]
            if codes == [Code.UNAUTHENTICATED] * len(ends):
                return
            assert set(codes) <= {None, Code.UNAUTHENTICATED}, codes
            await asyncio.sleep(0.1)


async def test_what_is_not_there(tenant: Tenant) -> None:
    calls, nobody = tenant.admin.credentials, str(uuid.uuid4())
    for call, reason in (
        (calls.GetServiceAccount(pb.GetServiceAccountRequest(name=BOT)), "SERVICE_ACCOUNT_NOT_FOUND"),
        (calls.DeleteServiceAccount(pb.DeleteServiceAccountRequest(name=BOT)), "SERVICE_ACCOUNT_NOT_FOUND"),
        (calls.CreateApiKey(key()), "SERVICE_ACCOUNT_NOT_FOUND"),
        (calls.RevokeApiKey(pb.RevokeApiKeyRequest(name=f"apiKeys/{nobody}")), "API_KEY_NOT_FOUND"),
    ):
        error = await failure(call)
        assert (error.code, error.reason) == (Code.NOT_FOUND, reason)


async def test_a_service_account_is_made_read_changed_and_deleted(tenant: Tenant) -> None:
    calls = tenant.admin.credentials
    made = await bot(tenant)
    assert (made.name, made.display_name, made.author) == (BOT, "Bot", "users/operator")
    error = await failure(calls.CreateServiceAccount(account(service_account_id="bot")))
    assert (error.code, error.reason) == (Code.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert (await calls.GetServiceAccount(pb.GetServiceAccountRequest(name=BOT))).service_account == made
    changed = pb.ServiceAccount(name=BOT, display_name="Deployer", etag=made.etag)
    after = (await calls.UpdateServiceAccount(pb.UpdateServiceAccountRequest(service_account=changed))).service_account
    assert (after.display_name, after.create_time) == ("Deployer", made.create_time)
    error = await failure(calls.UpdateServiceAccount(pb.UpdateServiceAccountRequest(service_account=changed)))
    assert error.reason == "ETAG_MISMATCH"
    mask = FieldMask(paths=["shoe_size"])
    request = pb.UpdateServiceAccountRequest(service_account=pb.ServiceAccount(name=BOT), update_mask=mask)
    assert (await failure(calls.UpdateServiceAccount(request))).reason == "UPDATE_MASK_INVALID"
    error = await failure(calls.DeleteServiceAccount(pb.DeleteServiceAccountRequest(name=BOT, etag=made.etag)))
    assert error.reason == "ETAG_MISMATCH"
    await calls.DeleteServiceAccount(pb.DeleteServiceAccountRequest(name=BOT, etag=after.etag))
    assert (await calls.ListServiceAccounts(pb.ListServiceAccountsRequest())) == pb.ListServiceAccountsResponse()


async def test_lists_come_in_pages(tenant: Tenant) -> None:
    calls = tenant.admin.credentials
    await bot(tenant)
    other = await calls.CreateServiceAccount(account(service_account_id="other"))
    keys = [(await key_of(tenant, display_name=f"k{number}")).api_key.name for number in range(3)]
    await calls.CreateApiKey(key(service_account=other.service_account.name))
    first = await calls.ListServiceAccounts(pb.ListServiceAccountsRequest(page_size=1))
    rest = await calls.ListServiceAccounts(pb.ListServiceAccountsRequest(page_token=first.next_page_token))
    assert [each.name for page in (first, rest) for each in page.service_accounts] == [BOT, "serviceAccounts/other"]
    query: Any = {"service_account": BOT}
    page = await calls.ListApiKeys(pb.ListApiKeysRequest(page_size=2, **query))
    more = await calls.ListApiKeys(pb.ListApiKeysRequest(page_token=page.next_page_token, **query))
    assert [each.name for found in (page, more) for each in found.api_keys] == keys
    assert len((await calls.ListApiKeys(pb.ListApiKeysRequest())).api_keys) == 4


async def test_a_key_is_shown_once(tenant: Tenant) -> None:
    await bot(tenant)
    request = key(request_id=str(uuid.uuid4()), lifetime=3600, source_ranges=["127.0.0.1", "2001:db8::/32"])
    made, again = [await tenant.admin.credentials.CreateApiKey(request) for _ in range(2)]
    assert made.key.startswith("tak_")
    assert again.key == ""
    assert again.api_key == made.api_key
    shown = (await tenant.admin.credentials.ListApiKeys(pb.ListApiKeysRequest())).api_keys
    assert list(shown) == [made.api_key]
    assert made.key not in str(shown)
    assert made.key.startswith(shown[0].prefix)
    assert (shown[0].author, list(shown[0].scopes)) == ("users/operator", ["directory:read"])
    assert list(shown[0].source_ranges) == ["127.0.0.1/32", "2001:db8::/32"]
    assert shown[0].expire_time.seconds - shown[0].create_time.seconds == 3600
    assert not shown[0].HasField("last_use_time")


async def test_a_key_does_at_every_service_what_it_may_and_nothing_else(tenant: Tenant) -> None:
    await bot(tenant)
    clients = by(tenant, (await key_of(tenant, scopes=EVERYWHERE)).key)
    await asyncio.gather(*everywhere(clients))
    sent = clients.alerts.SendAlert(alert_service_pb2.SendAlertRequest(alert=alert_pb2.AlertInput(summary="x")))
    made = clients.directory.CreateUser(dp.CreateUserRequest(user=dp.User(display_name="Eve")))
    for call in (sent, made, clients.credentials.ListApiKeys(pb.ListApiKeysRequest())):
        assert (await failure(call)).reason == "SCOPE_MISSING"


async def test_what_a_key_does_bears_the_name_of_its_service_account(tenant: Tenant) -> None:
    await bot(tenant)
    clients = by(tenant, (await key_of(tenant, scopes=[], role=access_pb2.ROLE_OWNER)).key)
    made = await clients.credentials.CreateServiceAccount(account(service_account_id="made"))
    assert made.service_account.author == BOT


async def test_a_key_may_do_nothing_that_its_maker_may_not(tenant: Tenant) -> None:
    await bot(tenant)
    scopes = ["credentials:write", "directory:read"]
    maker = by(tenant, tenant.world.token(tenant.org_id, scopes))
    assert (await maker.credentials.CreateApiKey(key())).key
    for fields in ({"scopes": ["directory:read", "alerts:write"]}, {"scopes": [], "role": access_pb2.ROLE_VIEWER}):
        error = await failure(maker.credentials.CreateApiKey(key(**fields)))
        assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "SCOPE_MISSING")


async def test_a_revoked_key_is_refused_by_every_service(tenant: Tenant) -> None:
    await bot(tenant)
    lost, kept = await key_of(tenant, scopes=EVERYWHERE), await key_of(tenant, scopes=EVERYWHERE)
    await asyncio.gather(*everywhere(by(tenant, lost.key)), *everywhere(by(tenant, kept.key)))
    request = pb.RevokeApiKeyRequest(name=lost.api_key.name)
    revoked = (await tenant.admin.credentials.RevokeApiKey(request)).api_key
    assert revoked.HasField("revoke_time")
    await refused_everywhere(lambda: everywhere(by(tenant, lost.key)))
    await asyncio.gather(*everywhere(by(tenant, kept.key)))
    again = (await tenant.admin.credentials.RevokeApiKey(request)).api_key
    assert again.revoke_time == revoked.revoke_time
    shown = {each.name: each for each in (await tenant.admin.credentials.ListApiKeys(pb.ListApiKeysRequest())).api_keys}
    assert shown[lost.api_key.name].revoke_time == revoked.revoke_time
    assert not shown[kept.api_key.name].HasField("revoke_time")


async def test_the_keys_of_a_deleted_service_account_end_and_those_of_the_next_one_work(tenant: Tenant) -> None:
    await bot(tenant)
    old = await key_of(tenant, scopes=EVERYWHERE)
    await asyncio.gather(*everywhere(by(tenant, old.key)))
    await tenant.admin.credentials.DeleteServiceAccount(pb.DeleteServiceAccountRequest(name=BOT))
    await bot(tenant)
    new = await key_of(tenant, scopes=EVERYWHERE)
    await refused_everywhere(lambda: everywhere(by(tenant, old.key)))
    await asyncio.gather(*everywhere(by(tenant, new.key)))


async def test_the_last_use_of_a_key_is_shown(tenant: Tenant) -> None:
    await bot(tenant)
    used, unused = await key_of(tenant), await key_of(tenant)
    await by(tenant, used.key).directory.ListUsers(dp.ListUsersRequest())
    async with asyncio.timeout(within(PATIENCE)):
        while True:
            keys = (await tenant.admin.credentials.ListApiKeys(pb.ListApiKeysRequest())).api_keys
            shown = {each.name: each for each in keys}
            if shown[used.api_key.name].HasField("last_use_time"):
                break
            await asyncio.sleep(0.1)
    assert not shown[unused.api_key.name].HasField("last_use_time")


async def test_an_earlier_use_does_not_hide_a_later_one(tenant: Tenant) -> None:
    await bot(tenant)
    made = (await key_of(tenant)).api_key
    services = by(tenant, tenant.world.token("*", ["internal"], subject="services/test"))

    async def note(*ago: int) -> Timestamp:
        uses = [ip.KeyUse(name=made.name, org_id=tenant.org_id, ago=Duration(seconds=each)) for each in ago]
        await services.credentials_internal.NoteKeyUses(ip.NoteKeyUsesRequest(uses=uses))
        [shown] = (await tenant.admin.credentials.ListApiKeys(pb.ListApiKeysRequest())).api_keys
        stamp: Timestamp = shown.last_use_time
        return stamp

    first = await note(100, 50, 70)
    assert await note(1000) == first
    assert (await note(0)).seconds >= first.seconds + 50


async def test_a_key_works_only_where_it_may(tenant: Tenant) -> None:
    await bot(tenant)
    here = by(tenant, (await key_of(tenant, scopes=EVERYWHERE, source_ranges=["127.0.0.0/8", "::1"])).key)
    elsewhere = (await key_of(tenant, scopes=EVERYWHERE, source_ranges=["203.0.113.0/24", "2001:db8::/32"])).key
    await asyncio.gather(*everywhere(here))
    for call in everywhere(by(tenant, elsewhere)):
        error = await failure(call)
        assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "SOURCE_NOT_ALLOWED")
        assert "127.0.0.1" in error.message or "::1" in error.message


async def test_an_expired_key_is_refused(tenant: Tenant) -> None:
    await bot(tenant)
    made = await key_of(tenant, lifetime=60)
    await tenant.world.passes(minutes=2)
    error = await failure(by(tenant, made.key).directory.ListUsers(dp.ListUsersRequest()))
    assert (error.code, error.reason) == INVALID


async def test_a_key_that_was_never_made(tenant: Tenant) -> None:
    for wrong in ("tak_", "tak_" + "A" * 43, "tak_" + "A" * 44, "tak_" + "." * 43):
        error = await failure(by(tenant, wrong).directory.ListUsers(dp.ListUsersRequest()))
        assert (error.code, error.reason) == INVALID


def token(world: Installation, org_id: str, *, subject: str, issued: int = NOW, scopes: Any = EVERYWHERE) -> str:
    """One of Tocsin's own, good for an hour."""
    keys = SigningKeys.parse(world.stack.plan.signing_keys)
    return mint(keys, org_id=org_id, subject=subject, scopes=scopes, ttl=NOW + 3600 - issued, now=issued)


def jti(credential: str) -> str:
    found: str = jwt.decode(credential, options={"verify_signature": False})["jti"]
    return found


async def test_one_token_can_be_revoked(tenant: Tenant) -> None:
    lost, kept = (token(tenant.world, tenant.org_id, subject="users/ana") for _ in range(2))
    await asyncio.gather(*everywhere(by(tenant, lost)))
    expires = NOW + 3600 + int(tenant.world.clock.offset.total_seconds())
    request = revoke(token_id=jti(lost), reason="laptop lost", expire_time=Timestamp(seconds=expires))
    made = (await tenant.admin.credentials.RevokeTokens(request)).token_revocation
    await refused_everywhere(lambda: everywhere(by(tenant, lost)))
    await asyncio.gather(*everywhere(by(tenant, kept)))
    shown = (await tenant.admin.credentials.ListTokenRevocations(pb.ListTokenRevocationsRequest())).token_revocations
    assert list(shown) == [made]
    assert (made.token_id, made.reason, made.author) == (jti(lost), "laptop lost", "users/operator")
    assert made.org_id == tenant.org_id


async def test_all_tokens_of_a_subject_up_to_a_time_can_be_revoked(tenant: Tenant) -> None:
    old, new = (token(tenant.world, tenant.org_id, subject="users/ana", issued=NOW - ago) for ago in (600, 60))
    ben = token(tenant.world, tenant.org_id, subject="users/ben", issued=NOW - 600)
    neighbour = token(tenant.world, "org-of-another", subject="users/ana", issued=NOW - 600)
    await asyncio.gather(*everywhere(by(tenant, old)))
    request = revoke(subject="users/ana", issued_before=Timestamp(seconds=NOW - 300))
    await tenant.admin.credentials.RevokeTokens(request)
    await refused_everywhere(lambda: everywhere(by(tenant, old)))
    for each in (new, ben, neighbour):
        await asyncio.gather(*everywhere(by(tenant, each)))


async def test_an_operator_revokes_for_any_tenant(tenant: Tenant) -> None:
    operator = tenant.world.operator().credentials
    error = await failure(operator.RevokeTokens(revoke(subject="users/ana")))
    assert list(error.fields) == ["org_id"]
    first, second = (token(tenant.world, tenant.org_id, subject=f"users/{name}") for name in ("ana", "ben"))
    await operator.RevokeTokens(revoke(token_id=jti(first)))
    await operator.RevokeTokens(revoke(subject="users/ben", org_id=tenant.org_id))
    await refused_everywhere(lambda: (*everywhere(by(tenant, first)), *everywhere(by(tenant, second))))
    shown = (await tenant.admin.credentials.ListTokenRevocations(pb.ListTokenRevocationsRequest())).token_revocations
    assert [each.subject for each in shown] == ["users/ben"]


async def test_an_operator_cannot_make_keys_and_the_services_cannot_be_shut_out(tenant: Tenant) -> None:
    operator = tenant.world.operator().credentials
    for call in (operator.CreateApiKey(key()), operator.ListApiKeys(pb.ListApiKeysRequest())):
        assert (await failure(call)).reason == "SCOPE_MISSING"
    error: Failure = await failure(operator.RevokeTokens(revoke(subject="services/ingest", org_id="*")))
    assert list(error.fields) == ["subject"]

"""Every RPC of every service, called with every kind of credential: only the right one gets as far as the request."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tocsin.credentials.v1 import credential_service_pb2 as cp
from tocsin.type.v1 import access_pb2
from tocsin.type.v1.access_pb2 import TENANTS_UNSPECIFIED
from tocsin_kit.auth import SigningKeys
from tocsin_kit.roles import ROLES
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

from tests.abuse.rpcs import RPCS, SCOPES, Metadata, Rpc, bearer
from tests.rounds import LONG

MISSING = ("UNAUTHENTICATED", "CREDENTIAL_MISSING")
INVALID = ("UNAUTHENTICATED", "CREDENTIAL_INVALID")
_HASHES = {"HS256": "sha256", "HS512": "sha512"}
EXPIRED = ("UNAUTHENTICATED", "CREDENTIAL_EXPIRED")
FORBIDDEN = ("PERMISSION_DENIED", "SCOPE_MISSING")


Case = tuple[str, Metadata, tuple[str, str]]


@dataclass
class Forge:
    """Makes tokens that are right but for one thing."""

    keys: SigningKeys
    rpc: Rpc
    now: float = field(default_factory=time.time)

    def token(self, *, key: bytes | None = None, kid: Any = None, alg: str = "HS256", **changed: Any) -> str:
        """A token that would be good for the RPC, with these claims changed; None removes one."""
        known, right = self.keys.signing
        claims: dict[str, Any] = {
            "iss": "tocsin",
            "aud": "tocsin",
            "org": "*" if self.rpc.spans else "org-forged",
            "sub": "users/forger",
            "scope": self.rpc.scope,
            "iat": int(self.now),
            "exp": int(self.now) + 600,
        }
        claims = {name: value for name, value in (claims | changed).items() if value is not None}
        signed = f"{_segment({'alg': alg, 'kid': known if kid is None else kid})}.{_segment(claims)}"
        digest = hmac.new(right if key is None else key, signed.encode(), _HASHES[alg]).digest()
        return f"{signed}.{_encoded(digest)}"

    def wrong(self) -> Iterator[Case]:
        """What is wrong, the metadata, and the code and reason it must end with: what anybody would try."""
        yield "nothing", [], MISSING
        yield "garbage", bearer("x"), INVALID
        head, body, tail = self.token().split(".")
        yield "a changed claim", bearer(f"{head}.{_segment({**_read(body), 'org': 'other'})}.{tail}"), INVALID
        yield "no signature", bearer(f"{head}.{body}."), INVALID
        yield "a stranger's key", bearer(self.token(key=b"x" * 32)), INVALID
        yield "an expired one", bearer(self.token(exp=int(self.now) - 3600)), EXPIRED
        others = " ".join(SCOPES - {self.rpc.scope})
        yield "a tenant with all other scopes", bearer(self.token(scope=others, org="org-forged")), FORBIDDEN
        yield "an operator with all other scopes", bearer(self.token(scope=others, org="*")), FORBIDDEN
        if self.rpc.spans:
            yield "a tenant with every scope", bearer(self.token(org="org-forged", scope=" ".join(SCOPES))), FORBIDDEN
        elif self.rpc.tenants == TENANTS_UNSPECIFIED:
            yield "an operator", bearer(self.token(org="*", scope=" ".join(SCOPES - {"internal"}))), FORBIDDEN

    def odd(self) -> Iterator[Case]:
        """What is wrong in ways that the reading of a credential has to know."""
        yield "an empty header", [("authorization", "")], MISSING
        yield "another scheme", [("authorization", "Basic dXNlcjpwYXNz")], MISSING
        yield "a scheme alone", [("authorization", "Bearer")], MISSING
        yield "bytes", [("authorization-bin", self.token().encode())], MISSING
        good = self.token()
        yield "two headers", [*bearer(good), *bearer(good)], INVALID
        yield "a good one before a bad one", [*bearer(good), *bearer("x")], INVALID
        yield "a bad one before a good one", [*bearer("x"), *bearer(good)], INVALID
        for garbage in ("", "x.y.z", "...", "a" * 7000, "null", "tik_", "tik_" + "A" * 43, f"{good}x", good[:-2]):
            yield f"garbage {garbage[:9]!r}…", bearer(garbage), INVALID
        _, body, tail = good.split(".")
        for algorithm in ("none", "None", "NONE", "RS256", "ES256", "HS384"):
            yield f"algorithm {algorithm}", bearer(f"{_segment({'alg': algorithm, 'kid': 'k'})}.{body}.{tail}"), INVALID
        yield "another algorithm", bearer(self.token(alg="HS512")), INVALID
        yield "an unknown key", bearer(self.token(kid="nobody")), INVALID
        for kid in (7, ["k"], {"k": 1}, True):
            yield f"a key id that is {kid}", bearer(self.token(kid=kid)), INVALID
        for claims, why in (
            ({"iss": "https://evil.example"}, INVALID),
            ({"iss": None}, INVALID),
            ({"iss": ["tocsin"]}, INVALID),
            ({"aud": "elsewhere"}, INVALID),
            ({"aud": ["elsewhere"]}, INVALID),
            ({"exp": 0}, EXPIRED),
            ({"exp": None}, INVALID),
            ({"exp": "soon"}, INVALID),
            ({"exp": 10**400}, INVALID),
            ({"exp": float("nan")}, INVALID),
            ({"exp": float("inf")}, INVALID),
            ({"nbf": int(self.now) + 3600}, INVALID),
            ({"nbf": [1]}, INVALID),
            ({"sub": None}, INVALID),
            ({"sub": ""}, INVALID),
            ({"sub": "users/a\nb"}, INVALID),
            ({"sub": "x" * 256}, INVALID),
            ({"org": None}, INVALID),
            ({"org": ""}, INVALID),
            ({"org": ["*"]}, INVALID),
            ({"org": "a b"}, INVALID),
            ({"org": "*\n"}, INVALID),
            ({"org": "**"}, INVALID),
            ({"org": "x" * 101}, INVALID),
            ({"scope": None, "org": "org-forged"}, FORBIDDEN),
            ({"scope": "*", "org": "org-forged"}, FORBIDDEN),
            ({"scope": 7, "org": "org-forged"}, FORBIDDEN),
            ({"scope": self.rpc.scope.upper(), "org": "org-forged"}, FORBIDDEN),
            (
                {"scope": self.rpc.scope.replace(":", ","), "org": "org-forged"},
                FORBIDDEN if ":" in self.rpc.scope else None,
            ),
        ):
            if why is not None:
                yield f"claims {str(claims)[:60]}", bearer(self.token(**claims)), why


def _segment(claims: dict[str, Any]) -> str:
    return _encoded(json.dumps(claims).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _read(segment: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return claims


def kind(rpc: Rpc) -> tuple[Any, ...]:
    """What is looked at of an RPC before its request."""
    return rpc.server, rpc.scope, rpc.tenants, rpc.method.client_streaming, rpc.method.server_streaming


FIRST_OF_ITS_KIND = frozenset({kind(rpc): rpc for rpc in reversed(RPCS)}.values())


@pytest.mark.parametrize("rpc", RPCS, ids=str)
async def test_only_the_right_credential_gets_in(world: World, rpc: Rpc) -> None:
    """One interceptor of each server reads credentials, so their oddities are tried at one RPC of each kind; in a long round
    at all."""
    forge = Forge(SigningKeys.parse(world.stack.plan.signing_keys), rpc)
    cases = [*forge.wrong(), *(forge.odd() if LONG or rpc in FIRST_OF_ITS_KIND else ())]
    answers = await asyncio.gather(*(rpc.call(world, b"", metadata) for _, metadata, _ in cases))
    wrong = [
        f"{what}: {answer}"
        for (what, _, why), answer in zip(cases, answers, strict=True)
        if (answer.code, answer.reason) != why
    ]
    assert wrong == []
    # An unreadable message: who gets as far as that may call, and nothing is changed.
    admitted = await rpc.call(world, b"\xff", bearer(forge.token()))
    if not rpc.method.client_streaming:
        assert (admitted.code, admitted.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD"), admitted


@pytest.mark.parametrize("role", sorted(ROLES))
async def test_a_role_gets_as_far_as_its_scopes(world: World, role: str) -> None:
    """A tenant's token and an operator's with each role, at every RPC: by what the contract says of both."""
    keys = SigningKeys.parse(world.stack.plan.signing_keys)
    unary = [rpc for rpc in RPCS if not rpc.method.client_streaming]
    for org in ("org-roles", "*"):
        tokens = [Forge(keys, rpc).token(org=org, scope=None, roles=[role]) for rpc in unary]
        answers = await asyncio.gather(
            *(rpc.call(world, b"\xff", bearer(token)) for rpc, token in zip(unary, tokens, strict=True))
        )
        for rpc, answer in zip(unary, answers, strict=True):
            may = rpc.lets_in(ROLES[role]) and (role == "operator") is (org == "*") and rpc.admits(org)
            expected = ("INVALID_ARGUMENT", "INVALID_FIELD") if may else FORBIDDEN
            assert (answer.code, answer.reason) == expected, (rpc, org, answer)


async def test_an_api_key_gets_as_far_as_its_scopes(world: World, tenant: Tenant) -> None:
    """Called at every RPC of every service, except those that span tenants, with each role."""
    account = cp.CreateServiceAccountRequest(service_account=cp.ServiceAccount(display_name="Bot"))
    bot = (await tenant.admin.credentials.CreateServiceAccount(account)).service_account.name
    for role in ("viewer", "owner"):
        wanted = cp.ApiKey(service_account=bot, display_name=role, role=access_pb2.Role.Value(f"ROLE_{role.upper()}"))
        key = (await tenant.admin.credentials.CreateApiKey(cp.CreateApiKeyRequest(api_key=wanted))).key
        unary = [rpc for rpc in RPCS if not rpc.method.client_streaming]
        answers = await asyncio.gather(*(rpc.call(world, b"\xff", bearer(key)) for rpc in unary))
        for rpc, answer in zip(unary, answers, strict=True):
            may = rpc.lets_in(ROLES[role]) and rpc.admits(tenant.org_id)
            expected = ("INVALID_ARGUMENT", "INVALID_FIELD") if may else FORBIDDEN
            assert (answer.code, answer.reason) == expected, (rpc, role, answer)


async def test_an_integration_key_sends_alerts_and_does_nothing_else(world: World, tenant: Tenant) -> None:
    key = (await tenant.integration()).key
    answers = await asyncio.gather(*(rpc.call(world, b"\xff", bearer(key)) for rpc in RPCS))
    for rpc, answer in zip(RPCS, answers, strict=True):
        if rpc.server != "ingest":
            assert (answer.code, answer.reason) == INVALID, (rpc, answer)
        elif rpc.scope != "alerts:write":
            assert (answer.code, answer.reason) == FORBIDDEN, (rpc, answer)
        else:
            assert answer.code not in ("UNAUTHENTICATED", "PERMISSION_DENIED"), (rpc, answer)


def test_the_matrix_holds_every_rpc_of_every_server() -> None:
    assert {rpc.method.full_name for rpc in RPCS} >= {"tocsin.outbox.v1.OutboxService.GetMessage"}
    assert len(RPCS) > 75
    assert {rpc.server for rpc in RPCS} == {"ingest", "escalation", "notify"}

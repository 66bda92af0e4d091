"""Roles in tokens stand for scopes, and never for more than their tenant."""

import itertools

import pytest
from tocsin_kit.auth import JwtAuthenticator, Principal
from tocsin_kit.roles import ROLES, scopes_of_roles
from tocsin_stack import tokens

from tests.unit.kit.test_auth import KEYS, NOW, authenticator, signed


async def principal(**claims: object) -> Principal:
    found = await authenticator().authenticate(signed({"scope": None, **claims}))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("claim", "granted"),
    [
        (["viewer"], ROLES["viewer"]),
        ("viewer responder", ROLES["responder"]),
        ("owner", ROLES["owner"]),
        (["operator"], frozenset()),
        (["Viewer", "ROLE_VIEWER", "admin", "", "*", 7, None, ["viewer"]], frozenset()),
        ({"viewer": True}, frozenset()),
        (None, frozenset()),
    ],
)
async def test_a_tenants_token_has_the_scopes_of_its_roles(claim: object, granted: frozenset[str]) -> None:
    assert (await principal(roles=claim)).scopes == granted


async def test_scopes_come_on_top() -> None:
    assert (await principal(roles=["viewer"], scope="alerts:write")).scopes == ROLES["viewer"] | {"alerts:write"}


async def test_an_operator_has_the_operators_role_alone() -> None:
    assert (await principal(org="*", roles=["operator", "owner"])).scopes == ROLES["operator"]


def test_each_role_holds_those_before_it_and_none_holds_internal() -> None:
    ladder = [ROLES[name] for name in ("viewer", "responder", "manager", "owner")]
    assert all(lower < higher for lower, higher in itertools.pairwise(ladder))
    assert not any("internal" in scopes for scopes in ROLES.values())
    assert ROLES["owner"] == set(tokens.ADMINISTRATOR)
    assert ROLES["operator"] == set(tokens.OPERATOR)
    assert {scope for scope in ROLES["owner"] if scope.endswith(":read")} - {
        "outbox:read",
        "credentials:read",
        "audit:read",
    } == ROLES["viewer"] - {"contacts:self", "schedules:self"}


def test_unknown_roles_grant_nothing() -> None:
    assert scopes_of_roles("internal operator", operator=False) == frozenset()


@pytest.mark.parametrize(
    ("claims", "taken"),
    [
        ({"iat": NOW, "exp": NOW + 3600}, True),
        ({"iat": NOW, "exp": NOW + 3601}, False),
        ({"exp": NOW + 3600}, True),
        ({"exp": NOW + 3601}, False),
        ({"iat": NOW + 50, "exp": NOW + 3601}, False),
        ({"iat": NOW - 3000, "exp": NOW + 601}, False),
        ({"iat": "now", "exp": NOW + 60}, False),
        ({"iat": float("nan"), "exp": NOW + 60}, False),
    ],
)
async def test_a_token_lives_as_long_as_is_allowed(claims: dict[str, object], taken: bool) -> None:
    strict = JwtAuthenticator(KEYS, max_lifetime=3600, clock=lambda: NOW)
    if taken:
        assert await strict.authenticate(signed(claims))
    else:
        with pytest.raises(Exception, match=r"lives longer|must be"):
            await strict.authenticate(signed(claims))

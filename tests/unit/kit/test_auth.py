"""Tokens: what is accepted, and every way in which one is not."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from tocsin.type.v1.access_pb2 import TENANTS_ALL, TENANTS_OWN_OR_ALL, TENANTS_UNSPECIFIED
from tocsin_kit.auth import (
    JwtAuthenticator,
    Principal,
    SigningKeys,
    TokenCache,
    TokenSource,
    authenticate,
    mint,
)
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.access import Access

NOW = 1_800_000_000.0
KEY = b"k" * 32
KEYS = SigningKeys((("new", KEY), ("old", b"o" * 32)))


def authenticator(now: float = NOW) -> JwtAuthenticator:
    return JwtAuthenticator(KEYS, clock=lambda: now)


def token(**changes: Any) -> str:
    given: dict[str, Any] = {"org_id": "acme", "subject": "users/ana", "scopes": {"b", "a"}, "ttl": 600, "now": NOW}
    return mint(KEYS, **given | changes)


def signed(claims: dict[str, Any], *, key: Any = KEY, algorithm: str = "HS256", kid: str | None = "new") -> str:
    base = {"iss": "tocsin", "org": "acme", "sub": "users/ana", "scope": "a", "exp": NOW + 600}
    payload = {name: value for name, value in (base | claims).items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid} if kid else {})


async def reason(text: str, now: float = NOW) -> str:
    with pytest.raises(TocsinError) as caught:
        await authenticate([authenticator(now)], text)
    assert len(text) < 20 or text not in str(caught.value)
    return caught.value.reason_name


async def test_a_minted_token_is_its_principal() -> None:
    expected = Principal("acme", "users/ana", frozenset({"a", "b"}))
    assert await authenticator().authenticate(token()) == expected
    old_first = SigningKeys(KEYS.keys[::-1])
    rotated = mint(old_first, org_id="acme", subject="users/ana", scopes={"a", "b"}, ttl=9, now=NOW)
    assert await authenticator().authenticate(rotated) == expected


async def test_what_any_jwt_library_reads_in_it() -> None:
    assert jwt.get_unverified_header(token()) == {"alg": "HS256", "kid": "new", "typ": "JWT"}
    claims = jwt.decode(
        token(), KEY, algorithms=["HS256"], audience="tocsin", options={"verify_exp": False, "verify_iat": False}
    )
    assert claims == {
        "iss": "tocsin",
        "aud": "tocsin",
        "org": "acme",
        "sub": "users/ana",
        "scope": "a b",
        "iat": NOW,
        "exp": NOW + 600,
        "jti": claims["jti"],
    }
    assert claims["jti"] != jwt.decode(token(), options={"verify_signature": False})["jti"]


async def test_a_token_for_several_audiences_or_of_before_there_was_one() -> None:
    assert await authenticator().authenticate(signed({"aud": ["other", "tocsin"]}))
    assert await authenticator().authenticate(signed({}))


@pytest.mark.parametrize(
    ("scope", "tenants", "org", "scopes", "allowed"),
    [
        ("a:read", TENANTS_UNSPECIFIED, "acme", "a:read", True),
        ("a:read", TENANTS_UNSPECIFIED, "acme", "a:write internal", False),
        ("a:read", TENANTS_UNSPECIFIED, "*", "a:read", False),
        ("a:read", TENANTS_UNSPECIFIED, "*", "a:read internal", True),
        ("a:read", TENANTS_ALL, "acme", "a:read internal", False),
        ("a:read", TENANTS_ALL, "*", "a:read", True),
        ("a:read", TENANTS_OWN_OR_ALL, "acme", "a:read", True),
        ("a:read", TENANTS_OWN_OR_ALL, "*", "a:read", True),
        ("internal", TENANTS_UNSPECIFIED, "acme", "internal", False),
        ("internal", TENANTS_UNSPECIFIED, "*", "internal", True),
    ],
)
def test_what_spans_tenants_is_for_operators(scope: str, tenants: Any, org: str, scopes: str, allowed: bool) -> None:
    access = Access(scope, tenants)
    principal = Principal(org, "users/ana", frozenset(scopes.split()))
    if allowed:
        access.check(principal)
    else:
        with pytest.raises(TocsinError, match="scope"):
            access.check(principal)


async def test_time_ends_a_token_after_the_leeway() -> None:
    assert await authenticator(NOW + 659).authenticate(token())
    assert await reason(token(), NOW + 660) == "CREDENTIAL_EXPIRED"
    assert await authenticator(NOW - 59).authenticate(signed({"nbf": NOW}))
    assert await reason(signed({"nbf": NOW}), NOW - 61) == "CREDENTIAL_INVALID"


async def test_a_remembered_token_expires_all_the_same() -> None:
    now = NOW
    remembering = JwtAuthenticator(KEYS, clock=lambda: now)
    text = token()
    assert await remembering.authenticate(text)
    now = NOW + 661
    with pytest.raises(TocsinError):
        await remembering.authenticate(text)


def unsigned(algorithm: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"iss": "tocsin", "org": "acme", "sub": "x", "exp": NOW + 600}
    return f"{part({'alg': algorithm, 'kid': 'new'})}.{part(claims)}."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rubbish",
        "a.b.c",
        unsigned("none"),
        unsigned("HS256"),
        token()[:-4] + "AAAA",
        signed({}, key=b"x" * 32),
        signed({}, kid="unknown"),
        signed({}, kid=None),
        signed({}, key=b"k" * 64, algorithm="HS512"),
        signed({"iss": "somebody"}),
        signed({"iss": None}),
        signed({"sub": None}),
        signed({"exp": None}),
        signed({"exp": "soon"}),
        signed({"exp": float("nan")}),
        signed({"org": None}),
        signed({"org": ""}),
        signed({"org": "**"}),
        signed({"aud": "elsewhere"}),
        signed({"aud": ["elsewhere"]}),
        signed({"aud": []}),
        signed({"exp": 10**400}),
        signed({"exp": float("inf")}),
        signed({"nbf": float("nan")}),
        signed({"org": ["acme"]}),
        signed({"org": "a b"}),
    ],
)
async def test_what_is_not_accepted(text: str) -> None:
    assert await reason(text) in ("CREDENTIAL_INVALID", "CREDENTIAL_EXPIRED")


async def test_an_asymmetric_token_is_for_another_authenticator() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert await authenticator().authenticate(signed({}, key=key, algorithm="RS256")) is None


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
async def test_no_text_breaks_it(text: str) -> None:
    with pytest.raises(TocsinError):
        await authenticate([authenticator()], text)


async def test_a_service_acts_for_every_tenant() -> None:
    text = TokenSource(KEYS, "relay", clock=lambda: NOW).token()
    assert await authenticator().authenticate(text) == Principal("*", "services/relay", frozenset({"internal"}))


def test_a_token_source_renews_at_half_life() -> None:
    now = NOW
    source = TokenSource(KEYS, "relay", ttl=100, clock=lambda: now)
    first = source.token()
    now += 49
    assert source.token() == first
    now += 2
    assert source.token() != first


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    cache, principal = TokenCache(3), Principal("a", "b", frozenset())
    for name in "abca":
        cache.put(name, principal, NOW + 1)
    cache.put("d", principal, NOW + 1)
    assert [cache.get(name, NOW) is not None for name in "abcd"] == [True, False, True, True]
    assert cache.get("a", NOW + 1) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "k1:" + "A" * 43,
        "k1:" + "AQEB" * 11,
        "k1",
        "k1:",
        ":" + "A" * 43,
        "k1:short",
        "k1:!!!" + "A" * 43,
        f"k1:{'A' * 43},k1:{'B' * 43}",
    ],
)
def test_bad_keys_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        SigningKeys.parse(text)
    assert "AAAA" not in str(caught.value)


def test_keys_are_parsed_in_order_and_never_printed() -> None:
    keys = SigningKeys.parse(f" k2:{'Ab3dEf6hIj9lMn' * 3}A, k1:{'_-gh7Yq' * 6}_- ")
    assert [kid for kid, _ in keys.keys] == ["k2", "k1"]
    assert repr(keys) == "SigningKeys(k2, k1)"


@pytest.mark.parametrize("subject", ["", "users/a\0b", "users/a\nb", "u" * 256, None, 7])
async def test_a_subject_that_could_not_be_written_down_is_no_subject(subject: object) -> None:
    assert await reason(signed({"sub": subject})) == "CREDENTIAL_INVALID"

"""An issuer's tokens, with a real HTTP server as the issuer."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tocsin_kit import oidc, wall_clock
from tocsin_kit.auth import Principal
from tocsin_kit.errors import TocsinError
from tocsin_kit.oidc import OidcAuthenticator
from tocsin_kit.roles import ROLES
from tocsin_kit.settings import ServiceSettings, read

from tests.wired import KEYS, NOWHERE

NOW = 1_800_000_000.0


@cache
def _key() -> rsa.RSAPrivateKey:
    """The first key of each issuer: to make it takes sixty milliseconds."""
    return rsa.generate_private_key(65537, 2048)


class Issuer:
    """Publishes keys; counts how often they are fetched."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"one": _key()}
        self.fetches = 0
        self.broken = False
        self.url = ""

    async def discovery(self, _request: web.Request) -> web.Response:
        return web.json_response({"jwks_uri": f"{self.url}/keys"})

    async def jwks(self, _request: web.Request) -> web.Response:
        self.fetches += 1
        if self.broken:
            return web.Response(status=500)
        published = []
        for kid, key in self.keys.items():
            ecdsa = isinstance(key, ec.EllipticCurvePrivateKey)
            algorithm = jwt.algorithms.ECAlgorithm if ecdsa else jwt.algorithms.RSAAlgorithm
            described = json.loads(algorithm.to_jwk(key.public_key()))
            published.append({**described, "kid": kid, "use": "sig", "alg": "ES256" if ecdsa else "RS256"})
        return web.json_response({"keys": published})

    def token(self, kid: str = "one", *, algorithm: str = "RS256", **changes: Any) -> str:
        claims = {"iss": self.url, "aud": "tocsin", "sub": "ana", "org": "acme", "scope": "a b", "exp": NOW + 600}
        return jwt.encode(claims | changes, self.keys[kid], algorithm=algorithm, headers={"kid": kid})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    app = web.Application()
    app.add_routes([web.get("/.well-known/openid-configuration", made.discovery), web.get("/keys", made.jwks)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def authenticator(issuer: Issuer) -> AsyncIterator[OidcAuthenticator]:
    made = OidcAuthenticator(issuer.url, audience="tocsin", clock=lambda: NOW)
    yield made
    await made.close()


async def refused(authenticator: OidcAuthenticator, token: str) -> str:
    with pytest.raises(TocsinError) as caught:
        await authenticator.authenticate(token)
    return caught.value.reason_name


async def test_a_users_token(issuer: Issuer, authenticator: OidcAuthenticator) -> None:
    expected = Principal("acme", "users/ana", frozenset({"a", "b"}))
    assert (
        await asyncio.gather(*(authenticator.authenticate(issuer.token(jti=str(n))) for n in range(10)))
        == [expected] * 10
    )
    assert issuer.fetches == 1


async def test_an_issuer_cannot_make_a_service(issuer: Issuer, authenticator: OidcAuthenticator) -> None:
    principal = await authenticator.authenticate(issuer.token(scope="internal a *"))
    assert principal is not None
    assert principal.scopes == {"a"}
    assert await refused(authenticator, issuer.token(org="*", scope="internal")) == "CREDENTIAL_INVALID"


async def test_roles_of_the_issuer_count_but_the_operators(issuer: Issuer, authenticator: OidcAuthenticator) -> None:
    principal = await authenticator.authenticate(issuer.token(scope="", roles=["responder", "operator"]))
    assert principal is not None
    assert principal.scopes == ROLES["responder"]


async def test_what_is_refused(issuer: Issuer, authenticator: OidcAuthenticator) -> None:
    issuer.keys["other"] = ec.generate_private_key(ec.SECP256R1())
    assert await refused(authenticator, issuer.token(aud="somebody")) == "CREDENTIAL_INVALID"
    assert await refused(authenticator, issuer.token(iss="https://evil")) == "CREDENTIAL_INVALID"
    assert await refused(authenticator, issuer.token(exp=NOW - 61)) == "CREDENTIAL_EXPIRED"
    assert await refused(authenticator, issuer.token(org=None)) == "CREDENTIAL_INVALID"
    assert await refused(authenticator, issuer.token()[:-8] + "AAAAAAAA") == "CREDENTIAL_INVALID"
    assert await refused(authenticator, issuer.token(algorithm="RS512")) == "CREDENTIAL_INVALID"
    forged = jwt.encode({"sub": "x"}, rsa.generate_private_key(65537, 2048), algorithm="RS256", headers={"kid": "one"})
    assert await refused(authenticator, forged) == "CREDENTIAL_INVALID"


async def test_the_public_key_is_no_secret_to_sign_with(issuer: Issuer, authenticator: OidcAuthenticator) -> None:
    confused = jwt.encode(
        {"iss": issuer.url, "sub": "x", "exp": NOW + 9}, b"k" * 32, algorithm="HS256", headers={"kid": "one"}
    )
    assert await authenticator.authenticate(confused) is None


async def test_a_new_key_is_fetched_but_not_for_every_stranger(
    issuer: Issuer, authenticator: OidcAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await authenticator.authenticate(issuer.token())
    issuer.keys["two"] = ec.generate_private_key(ec.SECP256R1())
    rotated = issuer.token("two", algorithm="ES256")
    for _ in range(5):
        assert await refused(authenticator, rotated) == "CREDENTIAL_INVALID"
    assert issuer.fetches == 1
    monkeypatch.setattr(oidc, "REFRESH_INTERVAL", 0.0)
    assert await authenticator.authenticate(rotated)
    assert issuer.fetches == 2
    issuer.broken = True
    issuer.keys["three"] = issuer.keys["one"]
    assert await refused(authenticator, issuer.token("three")) == "CREDENTIAL_INVALID"
    assert await authenticator.authenticate(issuer.token(jti="known keys stay good"))


async def test_an_issuer_that_is_away_is_no_fault_of_the_caller(
    issuer: Issuer, authenticator: OidcAuthenticator
) -> None:
    issuer.broken = True
    assert await refused(authenticator, issuer.token()) == "SERVICE_UNAVAILABLE"


async def as_set(monkeypatch: pytest.MonkeyPatch, token: str, **environment: str) -> Principal | str:
    """Whose the token is by these variables, or why it is refused."""
    variables = {"DATABASE_URL": "postgresql://unused", "AUTH_SIGNING_KEYS": KEYS, "AUTH_OIDC_AUDIENCE": "tocsin"}
    with monkeypatch.context() as patch:
        for name, value in (variables | environment).items():
            patch.setenv(name, value)
        authenticator = OidcAuthenticator.from_settings(read(ServiceSettings))
    try:
        principal = await authenticator.authenticate(token)
    except TocsinError as error:
        return error.reason_name
    finally:
        await authenticator.close()
    assert principal is not None
    return principal


async def test_the_claims_that_the_settings_name(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issuer.token(exp=wall_clock.now() + 600, scope="", tenant="globex", roles=["viewer"], groups=["responder"])
    usual = await as_set(monkeypatch, token, AUTH_OIDC_ISSUER=issuer.url)
    assert usual == Principal("acme", "users/ana", ROLES["viewer"])
    changed = {"AUTH_OIDC_ORG_CLAIM": "tenant", "AUTH_OIDC_ROLES_CLAIM": "groups"}
    theirs = await as_set(monkeypatch, token, AUTH_OIDC_ISSUER=issuer.url, **changed)
    assert theirs == Principal("globex", "users/ana", ROLES["responder"])


async def test_keys_from_where_the_settings_say(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an issuer that describes itself nowhere."""
    silent = f"http://{NOWHERE}"
    token = issuer.token(iss=silent, exp=wall_clock.now() + 600)
    assert await as_set(monkeypatch, token, AUTH_OIDC_ISSUER=silent) == "SERVICE_UNAVAILABLE"
    keys = {"AUTH_OIDC_JWKS_URL": f"{issuer.url}/keys"}
    assert isinstance(await as_set(monkeypatch, token, AUTH_OIDC_ISSUER=silent, **keys), Principal)


async def test_how_long_tokens_of_the_issuer_may_live(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issuer.token(exp=wall_clock.now() + 5000)
    longest = {"AUTH_OIDC_ISSUER": issuer.url}
    assert isinstance(await as_set(monkeypatch, token, **longest, AUTH_MAX_TOKEN_SECONDS="6000"), Principal)
    assert await as_set(monkeypatch, token, **longest, AUTH_MAX_TOKEN_SECONDS="4000") == "CREDENTIAL_INVALID"

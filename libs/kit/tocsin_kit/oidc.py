"""Tokens of an OpenID Connect issuer, verified with the keys it publishes (OIDC Discovery 1.0, RFC 7517).

The keys are fetched when first needed, cached, and fetched again for an unknown key id, at most every 30 s however many tokens
name one: a stranger cannot make this process overload the issuer.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp
import jwt
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit import wall_clock
from tocsin_kit.auth import (
    ALL_ORGS,
    INTERNAL,
    Principal,
    TokenCache,
    check_times,
    checked_org,
    checked_subject,
    invalid_credential,
    issued_of,
    scopes_of,
    token_id_of,
    unverified_header,
    verified_claims,
)
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.roles import scopes_of_roles
from tocsin_kit.settings import ServiceSettings

_log = get_logger(__name__)

# Only asymmetric ones: with a symmetric one the published key itself could sign.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
REFRESH_INTERVAL: Final = 30.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_MAX_BYTES: Final = 1 << 20


class OidcAuthenticator:
    """Principals from an issuer's tokens: tenant from `org_claim`, subject `users/{sub}`, scopes from scope or scp, and roles."""

    def __init__(
        self,
        issuer: str,
        *,
        audience: str,
        jwks_url: str = "",
        org_claim: str = "org",
        roles_claim: str = "roles",
        max_lifetime: float = math.inf,
        clock: Callable[[], float] = wall_clock.now,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._jwks_url = jwks_url
        self._org_claim = org_claim
        self._roles_claim = roles_claim
        self._max_lifetime = max_lifetime
        self._clock = clock
        self._cache = TokenCache()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_settings(cls, settings: ServiceSettings) -> "OidcAuthenticator":
        """As the AUTH_OIDC_… variables say."""
        return cls(
            settings.auth_oidc_issuer,
            audience=settings.auth_oidc_audience,
            jwks_url=settings.auth_oidc_jwks_url,
            org_claim=settings.auth_oidc_org_claim,
            roles_claim=settings.auth_oidc_roles_claim,
            max_lifetime=settings.auth_max_token_seconds,
        )

    def now(self) -> float:
        """Epoch seconds, by the clock that checks tokens."""
        return self._clock()

    async def close(self) -> None:
        """Close the connections to the issuer."""
        if self._session is not None:
            await self._session.close()

    async def authenticate(self, token: str) -> Principal | None:
        """See `Authenticator`. Raises SERVICE_UNAVAILABLE while the issuer's keys cannot be fetched."""
        now = self._clock()
        principal = self._cache.get(token, now)
        if principal is not None:
            return principal
        claims = await self.claims(token)
        if claims is None:
            return None
        expiry = check_times(claims, now, self._max_lifetime)
        scopes = _scopes(claims) | scopes_of_roles(claims.get(self._roles_claim), operator=False)
        principal = Principal(
            checked_org(claims.get(self._org_claim)),
            f"users/{checked_subject(claims.get('sub'))}",
            scopes,
            token_id_of(claims),
            issued_of(claims),
            expires=expiry,
        )
        self._cache.put(token, principal, expiry)
        return principal

    async def claims(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that the issuer signed for this audience; None for another kind of token. Its times are not
        checked.

        Raises CREDENTIAL_INVALID, and SERVICE_UNAVAILABLE while the issuer's keys cannot be had.
        """
        header = unverified_header(token)
        if header is None or header.get("alg") not in ALGORITHMS:
            return None
        key = await self._key(str(header.get("kid", "")))
        if key.algorithm_name != header["alg"]:
            raise invalid_credential("the token's algorithm is not its key's")
        claims: dict[str, Any] = verified_claims(
            token, key.key, algorithms=(header["alg"],), issuer=self._issuer, audience=self._audience or None
        )
        return claims

    async def discover(self) -> dict[str, Any]:
        """The issuer's own description. Raises SERVICE_UNAVAILABLE."""
        try:
            found = await self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self._issuer:
                raise ValueError("it says that it is another issuer")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            _log.warning("oidc_unreadable", issuer=self._issuer, error=f"{type(error).__name__}: {error}")
            raise _away("the login provider cannot be reached") from error
        return found

    async def exchange(self, url: str, form: dict[str, str], secret: str) -> dict[str, Any]:
        """The answer of the issuer's token endpoint (RFC 6749 §4.1.3). `secret`: of the form's `client_id`, if it has one.

        Raises CREDENTIAL_INVALID, SERVICE_UNAVAILABLE.
        """
        headers = {"Accept": "application/json"}
        if secret:  # both are encoded as in a form before they become a login (RFC 6749 §2.3.1)
            headers["Authorization"] = aiohttp.encode_basic_auth(quote_plus(form["client_id"]), quote_plus(secret))
        try:
            async with self._connections().post(url, data=form, allow_redirects=False, headers=headers) as response:
                body = await response.content.read(_MAX_BYTES)
                if response.status in (400, 401):
                    raise invalid_credential("the login provider refused the code")
                answer = json.loads(body) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise _away("the login provider cannot be reached") from error
        if not isinstance(answer, dict):
            raise _away("the login provider answers with something else than tokens")
        return answer

    async def _key(self, kid: str) -> jwt.PyJWK:
        if kid not in self._keys:
            async with self._fetching:
                if kid not in self._keys and time.monotonic() - self._fetched_at >= REFRESH_INTERVAL:
                    await self._refresh()
        key = self._keys.get(kid)
        if key is not None:
            return key
        if self._keys:
            raise invalid_credential("its issuer publishes no key of that id")
        raise _away("the keys of the token issuer cannot be read")

    async def _refresh(self) -> None:
        self._fetched_at = time.monotonic()
        try:
            url = self._jwks_url
            if not url:
                base = self._issuer.rstrip("/")
                url = str((await self._get(f"{base}/.well-known/openid-configuration"))["jwks_uri"])
            keys = jwt.PyJWKSet.from_dict(await self._get(url)).keys
        except (aiohttp.ClientError, TimeoutError, jwt.PyJWTError, ValueError, KeyError, TypeError) as error:
            # The known keys stay valid; the next unknown key id tries again.
            _log.warning("oidc_keys_unreadable", issuer=self._issuer, error=f"{type(error).__name__}: {error}")
            return
        self._keys = {key.key_id or "": key for key in keys if key.public_key_use in (None, "sig")}
        _log.info("oidc_keys_read", issuer=self._issuer, keys=len(self._keys))

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._connections().get(url, allow_redirects=False) as response:
            response.raise_for_status()
            if response.status != 200 or (response.content_length or 0) > _MAX_BYTES:
                raise ValueError(f"unusable answer: status {response.status}")
            answer: dict[str, Any] = await response.json(content_type=None)
            return answer

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self._session


def _away(what: str) -> TocsinError:
    return TocsinError(ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE, what, metadata={"service": "oidc"})


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    # Only Tocsin's own key makes a service; an issuer of people's tokens cannot.
    return scopes_of(claims.get("scope", claims.get("scp", ""))) - {INTERNAL, ALL_ORGS}

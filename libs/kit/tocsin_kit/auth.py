"""Authentication: bearer tokens to principals, and the tokens that the services use between themselves.

A credential names its tenant and its scopes; nothing in a request can change either. Tokens of Tocsin's own are
HS256 JWTs (RFC 7519) with a key id in the header; tokens of an OIDC issuer are in `tocsin_kit.oidc`.
"""

import base64
import binascii
import math
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final, Protocol

import jwt
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit import wall_clock
from tocsin_kit.bounded import Bounded
from tocsin_kit.errors import TocsinError
from tocsin_kit.roles import scopes_of_roles

ISSUER: Final = "tocsin"
AUDIENCE: Final = "tocsin"
INTERNAL: Final = "internal"
"""The scope of Tocsin's own services only."""
ALL_ORGS: Final = "*"
LEEWAY: Final = 60.0
"""Seconds by which the clocks of issuer and server may differ."""
MIN_KEY_BYTES: Final = 32  # RFC 7518 §3.2: at least as long as the hash
MIN_KEY_VALUES: Final = 8
"""Different bytes that a key must hold. Of 32 random bytes, fewer occur once in 10^27 keys; a placeholder mostly has fewer."""
_CACHE_SIZE: Final = 4096
_ORG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_MOST_SUBJECT: Final = 255


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity of a credential."""

    org_id: str
    """The tenant; `*` for operators, and for Tocsin's own services, which name the tenant they act for."""
    subject: str
    """For example `users/ana` or `services/escalation`; written to logs and records."""
    scopes: frozenset[str]
    token_id: str = field(default="", compare=False)
    """The id by which the credential can be revoked: a token's `jti`, the id of an API key."""
    issued: float = field(default=math.inf, compare=False)
    """When the credential was made, in epoch seconds. A revocation of the subject covers credentials made up to its time."""
    sources: tuple[IPv4Network | IPv6Network, ...] = field(default=(), compare=False)
    """Where the credential may be used; empty: anywhere."""
    expires: float = field(default=math.inf, compare=False)
    """When the credential ends by itself, in epoch seconds, leeway included. Calls that are still open then must end."""


class Authenticator(Protocol):
    """One kind of credential."""

    async def authenticate(self, token: str) -> Principal | None:
        """None: another kind of credential, ask the next authenticator. Raises CREDENTIAL_INVALID or CREDENTIAL_EXPIRED for a
        wrong credential of this kind."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class SigningKeys:
    """Symmetric keys by id. The first signs, all verify: rotate by putting a new one first and removing the old one later."""

    keys: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, text: str) -> "SigningKeys":
        """`kid:base64url,kid2:base64url`, each of at least 32 bytes. Raises ValueError without repeating a key."""
        keys: dict[str, bytes] = {}
        for position, part in enumerate(filter(None, (piece.strip() for piece in text.split(","))), 1):
            kid, colon, encoded = part.partition(":")
            try:
                key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if not kid or not colon or kid in keys or len(key) < MIN_KEY_BYTES:
                raise ValueError(
                    f"key {position} must be kid:base64url with a kid of its own and at least {MIN_KEY_BYTES} bytes"
                )
            if len(set(key)) < MIN_KEY_VALUES:
                raise ValueError(f"key {position} is not random, so anybody could guess it; make one of random bytes")
            keys[kid] = key
        if not keys:
            raise ValueError("at least one key is needed: kid:base64url of 32 random bytes")
        return cls(tuple(keys.items()))

    @property
    def signing(self) -> tuple[str, bytes]:
        """The id of the signing key, and the key."""
        return self.keys[0]

    def get(self, kid: str) -> bytes | None:
        """The key of that id."""
        return next((key for name, key in self.keys if name == kid), None)

    def __repr__(self) -> str:
        return f"SigningKeys({', '.join(kid for kid, _ in self.keys)})"


def mint(
    keys: SigningKeys, *, org_id: str, subject: str, scopes: Collection[str], ttl: float, now: float | None = None
) -> str:
    """A signed token, valid for `ttl` seconds from `now` (epoch seconds; `wall_clock.now` unless given)."""
    kid, key = keys.signing
    issued = int(wall_clock.now() if now is None else now)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "org": org_id,
        "sub": subject,
        "scope": " ".join(sorted(scopes)),
        "iat": issued,
        "exp": issued + int(ttl),
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": kid})


class TokenSource:
    """The token a service sends to the others: all tenants, scope `internal`, renewed before it expires."""

    def __init__(
        self, keys: SigningKeys, service: str, *, ttl: float = 600.0, clock: Callable[[], float] = wall_clock.now
    ) -> None:
        self._keys = keys
        self._subject = f"services/{service}"
        self._ttl = ttl
        self._clock = clock
        self._token = ""
        self._renew_at = float("-inf")

    def token(self) -> str:
        """A token with at least half its life left."""
        now = self._clock()
        if now >= self._renew_at:
            self._token = mint(
                self._keys, org_id=ALL_ORGS, subject=self._subject, scopes=(INTERNAL,), ttl=self._ttl, now=now
            )
            self._renew_at = now + self._ttl / 2
        return self._token


class TokenCache:
    """Principals of verified tokens until these expire: the signature of a busy caller is checked once, not at each call."""

    def __init__(self, size: int = _CACHE_SIZE) -> None:
        self._entries: Bounded[str, tuple[Principal, float]] = Bounded(size)

    def get(self, token: str, now: float) -> Principal | None:
        """The principal, while the token lives."""
        entry = self._entries.get(token)
        return entry[0] if entry is not None and now < entry[1] else None

    def put(self, token: str, principal: Principal, expiry: float) -> None:
        """Remember until `expiry`; the oldest entry is dropped when the cache is full."""
        self._entries[token] = (principal, expiry)


class JwtAuthenticator:
    """Tokens that `mint` made, with any key of the set. Accepts HS256 only, so that no other algorithm can be substituted."""

    def __init__(
        self, keys: SigningKeys, *, max_lifetime: float = math.inf, clock: Callable[[], float] = wall_clock.now
    ) -> None:
        """`max_lifetime`: seconds from issue to expiry that a token may have."""
        self._keys = keys
        self._max_lifetime = max_lifetime
        self._clock = clock
        self._cache = TokenCache()

    async def authenticate(self, token: str) -> Principal | None:
        """See `Authenticator`."""
        now = self._clock()
        principal = self._cache.get(token, now)
        if principal is not None:
            return principal
        header = unverified_header(token)
        if header is None or header.get("alg") != "HS256":
            return None
        kid = header.get("kid")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            return None
        claims = verified_claims(token, key, algorithms=("HS256",), issuer=ISSUER)
        _check_own_audience(claims)
        expiry = check_times(claims, now, self._max_lifetime)
        org_id = claims.get("org")
        scopes = scopes_of(claims.get("scope", "")) | scopes_of_roles(claims.get("roles"), operator=org_id == ALL_ORGS)
        if org_id != ALL_ORGS:
            org_id = checked_org(org_id)
        subject = checked_subject(claims.get("sub"))
        principal = Principal(org_id, subject, scopes, token_id_of(claims), issued_of(claims), expires=expiry)
        self._cache.put(token, principal, expiry)
        return principal


async def authenticate(authenticators: Iterable[Authenticator], token: str) -> Principal:
    """Ask each in turn. Raises CREDENTIAL_INVALID when none recognises the token."""
    for authenticator in authenticators:
        principal = await authenticator.authenticate(token)
        if principal is not None:
            return principal
    raise invalid_credential("no key or issuer this server trusts made it")


def unverified_header(token: str) -> dict[str, Any] | None:
    """The header of a JWT, to choose its verifier; None when it is no JWT."""
    try:
        return jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        return None


def verified_claims(
    token: str, key: Any, *, algorithms: Sequence[str], issuer: str, audience: str | None = None
) -> Any:
    """The claims, once signature, issuer and audience hold; `check_times` checks the times. Raises CREDENTIAL_INVALID."""
    try:
        return jwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            issuer=issuer,
            audience=audience,
            options={
                "require": ["exp", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": audience is not None,
            },
        )
    except jwt.PyJWTError as error:
        # The library's text names the check that failed, and contains no part of the token.
        raise invalid_credential(str(error)) from error


def check_times(claims: dict[str, Any], now: float, max_lifetime: float = math.inf) -> float:
    """When to stop trusting the token: epoch seconds, leeway included. Raises CREDENTIAL_EXPIRED or _INVALID.

    A token without an issue time counts as issued now, so that leaving the time out does not extend its life.
    """
    try:
        expiry = float(claims["exp"]) + LEEWAY
        begin = float(claims.get("nbf", 0)) - LEEWAY
        issued = float(claims.get("iat", now))
    except (TypeError, ValueError, OverflowError):
        raise invalid_credential("exp, nbf and iat must be numbers") from None
    if not (math.isfinite(expiry) and math.isfinite(begin) and math.isfinite(issued)):
        raise invalid_credential("exp, nbf and iat must be finite")
    if expiry - LEEWAY - min(now, issued) > max_lifetime:
        raise invalid_credential(
            f"it lives longer than the {max_lifetime:.0f} s that are allowed (AUTH_MAX_TOKEN_SECONDS)"
        )
    if not now < expiry:
        raise TocsinError(ErrorReason.ERROR_REASON_CREDENTIAL_EXPIRED, "the token has expired; get a new one")
    if now < begin:
        raise invalid_credential("the token is not valid yet")
    return expiry


def issued_of(claims: dict[str, Any]) -> float:
    """The issue time of a token whose times were checked. A token without one may be as old as any revoked token."""
    return float(claims.get("iat", 0))


def token_id_of(claims: dict[str, Any]) -> str:
    """The token's `jti` (RFC 7519 section 4.1.7), or an empty text."""
    token_id = claims.get("jti")
    return token_id if isinstance(token_id, str) else ""


def _check_own_audience(claims: dict[str, Any]) -> None:
    """Tokens that were made before `mint` set an audience have none; they are valid until they expire."""
    audience = claims.get("aud", AUDIENCE)
    if audience != AUDIENCE and not (isinstance(audience, list) and AUDIENCE in audience):
        raise invalid_credential("it was made for another audience")


def scopes_of(claim: object) -> frozenset[str]:
    """The scopes in a claim: a text of words (RFC 8693 §4.2) or a list of texts; none in anything else."""
    if isinstance(claim, str):
        return frozenset(claim.split())
    return frozenset(each for each in claim if isinstance(each, str)) if isinstance(claim, list) else frozenset()


def checked_org(org_id: object) -> str:
    """A tenant's id as a token may carry it. Raises CREDENTIAL_INVALID for anything else."""
    if isinstance(org_id, str) and _ORG.fullmatch(org_id):
        return org_id
    raise invalid_credential("the token names no tenant")


def checked_subject(subject: object) -> str:
    """The subject of a token. It is stored with the subject's actions, so it must be storable text.

    At most 255 characters (OpenID Connect Core §2), none of them a control character. Raises CREDENTIAL_INVALID for others.
    """
    if isinstance(subject, str) and 0 < len(subject) <= _MOST_SUBJECT and not _CONTROL.search(subject):
        return subject
    raise invalid_credential("the token names no subject of 1 to 255 printable characters")


def invalid_credential(detail: str, **metadata: str) -> TocsinError:
    """CREDENTIAL_INVALID."""
    message = f"the credential is not valid: {detail}"
    return TocsinError(ErrorReason.ERROR_REASON_CREDENTIAL_INVALID, message, metadata=metadata)

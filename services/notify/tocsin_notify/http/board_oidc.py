"""Logging in at the board through an OpenID Connect provider: the authorisation code flow with PKCE, state and nonce.

The state of the flow is in a cookie that only this service can decrypt. So unfinished logins use no memory, and any
replica can finish one. The provider says who a person is; the settings say which of its people are operators. Such a
login gets a token of Tocsin's own for the board's scopes and one hour: it can be revoked like any other.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.auth import ALL_ORGS, SigningKeys, check_times, checked_subject, invalid_credential, mint
from tocsin_kit.errors import TocsinError
from tocsin_kit.oidc import OidcAuthenticator
from tocsin_kit.secret_boxes import Boxes, SecretLost

from tocsin_notify.http.board_page import PATH

START: Final = f"{PATH}/login/oidc"
DONE: Final = f"{PATH}/login/oidc/done"
SECONDS: Final = 3600.0
"""How long a login lasts: then the provider is asked again whether the person still is an operator."""
COOKIE: Final = "tocsin_board_login"
_FLOW_SECONDS: Final = 600.0
_MOST: Final = 4096
_CONTEXT: Final = "board login"
_READS: Final = ("queues:read", "outbox:read")
_WRITES: Final = (*_READS, "queues:write", "outbox:write")


@dataclass(frozen=True, slots=True)
class OidcClient:
    """The client id at the provider, and which of its people are operators.

    `url`: where they open the board. `asked`: the scopes that the provider is asked for, with blanks between.
    """

    url: str
    client_id: str
    client_secret: str
    asked: str
    claim: str
    readers: Collection[str]
    writers: Collection[str]


class OidcLogin:
    """Logs operators in at one OpenID Connect provider."""

    def __init__(
        self,
        issuer: OidcAuthenticator,
        client: OidcClient,
        keys: SigningKeys,
        boxes: Boxes,
    ) -> None:
        """`issuer`: for the audience `client.client_id`. `boxes`: close the cookie of a login under way."""
        self._issuer = issuer
        self._client = client
        self._keys = keys
        self._boxes = boxes

    @property
    def secure(self) -> bool:
        """Whether operators come by HTTPS."""
        return self._client.url.startswith("https:")

    async def begin(self, response: web.StreamResponse) -> str:
        """The URL for the browser; its cookie keeps the state until it returns. Raises SERVICE_UNAVAILABLE."""
        found = await self._issuer.discover()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = {"state": state, "nonce": nonce, "verifier": verifier, "until": self._issuer.now() + _FLOW_SECONDS}
        response.set_cookie(
            COOKIE,
            base64.urlsafe_b64encode(self._boxes.close(_CONTEXT, json.dumps(flow).encode())).decode(),
            path=f"{PATH}/login",
            max_age=int(_FLOW_SECONDS),
            httponly=True,
            samesite="Lax",  # the browser comes back from another site
            secure=self.secure,
        )
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._client.url + DONE,
            "scope": self._client.asked,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = _endpoint(found, "authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    async def finish(self, request: web.Request) -> str:
        """A token for the operator who came back. Raises CREDENTIAL_INVALID, PERMISSION_DENIED, SERVICE_UNAVAILABLE."""
        flow = self._flow(request)
        given = request.query.get("state", "")
        if flow is None or not hmac.compare_digest(given.encode(), str(flow["state"]).encode()):
            raise invalid_credential("the login was begun in another browser, or too long ago; begin again")
        if "error" in request.query:
            raise invalid_credential(f"the login provider says {request.query['error'][:100]}")
        claims = await self._claims(request.query.get("code", "")[:_MOST], str(flow["verifier"]))
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), str(flow["nonce"]).encode()):
            raise invalid_credential("the login provider answers to another login")
        subject = f"operators/{checked_subject(claims.get('sub'))}"
        return mint(self._keys, org_id=ALL_ORGS, subject=subject, scopes=self._scopes(claims), ttl=SECONDS)

    async def _claims(self, code: str, verifier: str) -> Mapping[str, Any]:
        found, client = await self._issuer.discover(), self._client
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.url + DONE,
            "client_id": client.client_id,
            "code_verifier": verifier,
        }
        answer = await self._issuer.exchange(_endpoint(found, "token_endpoint"), form, client.client_secret)
        claims = await self._issuer.claims(str(answer.get("id_token", "")))
        if claims is None:
            raise invalid_credential("the login provider answers without a token that says who you are")
        check_times(claims, self._issuer.now())
        if claims.get("azp", client.client_id) != client.client_id:
            raise invalid_credential("the login provider's token is for another application")
        return claims

    def _scopes(self, claims: Mapping[str, Any]) -> Collection[str]:
        said = claims.get(self._client.claim)
        names = {said} if isinstance(said, str) else {each for each in said or () if isinstance(each, str)}
        if names & set(self._client.writers):
            return _WRITES
        if names & set(self._client.readers):
            return _READS
        raise TocsinError(
            ErrorReason.ERROR_REASON_SCOPE_MISSING,
            f"you are no operator: none of what {self._client.claim} says of you is in NOTIFY_BOARD_OIDC_READERS or "
            "NOTIFY_BOARD_OIDC_WRITERS"
            if names
            else f"the login provider tells no {self._client.claim} of you: what it is asked for is NOTIFY_BOARD_OIDC_SCOPES",
            metadata={"scope": "queues:read"},
        )

    def _flow(self, request: web.Request) -> dict[str, Any] | None:
        try:
            closed = base64.urlsafe_b64decode(request.cookies.get(COOKIE, "")[:_MOST])
            flow: dict[str, Any] = json.loads(self._boxes.open(_CONTEXT, closed))
        except (ValueError, SecretLost):
            return None
        return flow if flow["until"] > self._issuer.now() else None


def _endpoint(found: Mapping[str, Any], name: str) -> str:
    url = found.get(name)
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise TocsinError(
            ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
            f"the login provider names no {name}",
            metadata={"service": "oidc"},
        )
    return url

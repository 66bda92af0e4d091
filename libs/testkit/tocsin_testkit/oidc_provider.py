"""A stand-in for an OpenID Connect provider, over real sockets: codes with PKCE, and signed ID tokens.

It refuses what a real one refuses (RFC 6749 §4.1, RFC 7636 §4.6): a code a second time, another verifier, another client, another
address to return to.
"""

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import aiohttp
import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT: Final = "tocsin-board"
SECRET: Final = "the board's own"


@dataclass(frozen=True, slots=True)
class _Code:
    redirect_uri: str
    challenge: str
    nonce: str
    scopes: list[str]


@cache
def _key() -> rsa.RSAPrivateKey:
    """The same one for all: to make it takes sixty milliseconds."""
    return rsa.generate_private_key(65537, 2048)


class OidcProvider:
    """Each visitor is logged in as `subject` with `groups`, unless `denies`."""

    def __init__(self) -> None:
        self._key = _key()
        self._codes: dict[str, _Code] = {}
        self.url = ""
        self.returns_to = ""
        """The one address that the client may name."""
        self.subject = "olga"
        self.groups: list[str] = ["sre"]
        self.groups_need = "openid"
        """The scope without which it tells no groups."""
        self.denies = False
        self.says: dict[str, Any] = {}
        """Claims in place of the right ones."""

    async def start(self) -> None:
        """Serve at a free port."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._discovery),
                web.get("/keys", self._keys),
                web.get("/authorize", self._authorize),
                web.post("/token", self._token),
            ]
        )
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """End."""
        await self._runner.cleanup()

    async def _discovery(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
            }
        )

    async def _keys(self, request: web.Request) -> web.Response:
        described = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return web.json_response({"keys": [{**described, "kid": "one", "use": "sig", "alg": "RS256"}]})

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = request.query
        wanted = {"response_type": "code", "client_id": CLIENT, "code_challenge_method": "S256"}
        if any(asked.get(name) != value for name, value in wanted.items()) or asked["redirect_uri"] != self.returns_to:
            return web.Response(status=400, text="this is no request of that client")
        answer = {"state": asked["state"]}
        if self.denies:
            answer["error"] = "access_denied"
        else:
            answer["code"] = secrets.token_urlsafe(16)
            self._codes[answer["code"]] = _Code(
                asked["redirect_uri"], asked["code_challenge"], asked["nonce"], asked["scope"].split()
            )
        return web.Response(status=302, headers={"Location": f"{asked['redirect_uri']}?{urlencode(answer)}"})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        code = self._codes.pop(str(form.get("code")), None)
        verifier = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
        if request.headers.get("Authorization") != aiohttp.encode_basic_auth(CLIENT, quote_plus(SECRET)):
            return web.json_response({"error": "invalid_client"}, status=401)
        if code is None or code.challenge != challenge or code.redirect_uri != form.get("redirect_uri"):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": self.subject,
            "iat": now,
            "exp": now + 300,
            "nonce": code.nonce,
        }
        if self.groups_need in code.scopes:
            claims["groups"] = self.groups
        token = jwt.encode(claims | self.says, self._key, algorithm="RS256", headers={"kid": "one"})
        return web.json_response({"access_token": "opaque", "token_type": "Bearer", "id_token": token})

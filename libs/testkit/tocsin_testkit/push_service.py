"""A stand-in for the push service of a browser's maker (RFC 8030), and for browsers that are subscribed to it."""

import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tocsin_testkit.provider import Provider
from tocsin_testkit.received import Received

VAPID_PRIVATE_KEY = "X04Yj5_SXifRGA67oLQQM5D3gTHy3c_eX5Y7pAhVkiw"
VAPID_SUBJECT = "mailto:operator@example.com"
_VAPID = re.compile(r"vapid t=([\w.-]+), k=([\w-]+)")
_MOST_BYTES = 4096
_CURVE = ec.SECP256R1()


@dataclass(slots=True)
class Browser:
    """One that is subscribed. `shown`: what its service worker showed, oldest first; `headers` of each request."""

    id: str
    endpoint: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(_CURVE))
    auth: bytes = b"sixteen bytes 16"
    shown: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def subscription(self) -> str:
        """What `JSON.stringify(subscription)` says in it."""
        keys = {"p256dh": _text(_point(self.key.public_key())), "auth": _text(self.auth)}
        return json.dumps({"endpoint": self.endpoint, "expirationTime": None, "keys": keys})

    def open(self, sealed: bytes) -> dict[str, Any]:
        """The message in the body of a request. Raises InvalidTag for one that was encrypted for another browser."""
        salt, record, length = sealed[:16], int.from_bytes(sealed[16:20], "big"), sealed[20]
        sender, content = sealed[21 : 21 + length], sealed[21 + length :]
        assert len(content) <= record, "one record"
        shared = self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, sender))
        secret = _derive(self.auth, shared, b"WebPush: info\0" + _point(self.key.public_key()) + sender, 32)
        key = _derive(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
        nonce = _derive(salt, secret, b"Content-Encoding: nonce\0", 12)
        padded = AESGCM(key).decrypt(nonce, content, None).rstrip(b"\0")
        assert padded.endswith(b"\x02"), "the last record"
        message: dict[str, Any] = json.loads(padded[:-1])
        return message


class PushService(Provider):
    """Knows the browsers that subscribed to it. `refuse`, `hang` and `reset` go by a browser's id; `gone` holds those that ended
    their subscription."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.browsers: dict[str, Browser] = {}
        self.gone: set[str] = set()

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """A push resource for each browser."""
        return (web.post("/push/{id}", self._push),)

    def settings(self) -> dict[str, Any]:
        """The variables that make a service send to browsers."""
        return {"VAPID_PRIVATE_KEY": VAPID_PRIVATE_KEY, "VAPID_SUBJECT": VAPID_SUBJECT}

    def subscribe(self, id: str) -> Browser:
        """A browser that asked for pushes."""
        self.browsers[id] = Browser(id, f"{self.url}/push/{id}")
        return self.browsers[id]

    async def _push(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        id = request.match_info["id"]
        refused = self.refusal(id)
        if refused is not None:
            return refused
        browser = self.browsers.get(id)
        if browser is None or id in self.gone:
            return web.Response(status=410)
        if not self._known(request.headers.get("Authorization", "")):
            return web.Response(status=403)
        body = await request.read()
        if len(body) > _MOST_BYTES:
            return web.Response(status=413)
        if request.headers.get("Content-Encoding") != "aes128gcm" or not request.headers.get("TTL", "").isdigit():
            return web.Response(status=400)
        message = browser.open(body)
        browser.shown.append(message)
        browser.headers.append(dict(request.headers))
        await self.inbox.put(
            Received(
                address=id,
                channel="web_push",
                kind="verification" if message.get("code") else "",
                subject=message["title"],
                incident="",
                level=0,
                code=message.get("code", ""),
                key=message["tag"],
                at=time.monotonic(),
                body=message["body"].encode(),
            )
        )
        await self.fail(request, id)
        return web.Response(status=201, headers={"Location": f"{self.url}/message/{len(browser.shown)}"})

    def _known(self, authorization: str) -> bool:
        """Whether the application server proves that it has the key that it names (RFC 8292 §4.2)."""
        match = _VAPID.fullmatch(authorization)
        if match is None:
            return False
        token, key = match.groups()
        public = _subscribed_with()
        if key != _text(_point(public)):
            return False
        try:
            # Tests move the clock by which it is made.
            claims = jwt.decode(token, public, algorithms=["ES256"], audience=self.url, options={"verify_exp": False})
        except jwt.InvalidTokenError:
            return False
        return bool(claims["sub"] == VAPID_SUBJECT and claims["exp"])


def _subscribed_with() -> ec.EllipticCurvePublicKey:
    """What browsers name as `applicationServerKey`."""
    return ec.derive_private_key(int.from_bytes(urlsafe_b64decode(VAPID_PRIVATE_KEY + "="), "big"), _CURVE).public_key()


def _derive(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()

"""Encrypts a message for one browser, so that the push service cannot read it; and signs for the sender.

RFC 8291 (message encryption for Web Push), RFC 8188 (its content coding `aes128gcm`), RFC 8292 (VAPID).
"""

import base64
import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from yarl import URL

from tocsin_notify.channels.base import BadAddress

LONGEST: Final = 3800
"""Bytes of a message. Every push service accepts 4,096 encrypted bytes (RFC 8030 §7.2)."""
_RECORD: Final = 4096
_LAST_RECORD: Final = b"\x02"
_SALT_BYTES: Final = 16
_AUTH_BYTES: Final = 16
_KEY_BYTES: Final = 32
_CURVE: Final = ec.SECP256R1()
_VAPID_LIFETIME: Final = timedelta(hours=12)
"""RFC 8292 §2: at most 24 hours; a push service's clock may differ."""
_VAPID_STEP: Final = 3600


@dataclass(frozen=True, slots=True)
class Subscription:
    """The endpoint of one browser, and its keys."""

    endpoint: str
    key: ec.EllipticCurvePublicKey
    auth: bytes

    def __repr__(self) -> str:
        return "Subscription()"


def read_subscription(text: str) -> Subscription:
    """What `JSON.stringify(subscription)` gives in a browser (W3C Push API, `PushSubscriptionJSON`). Raises BadAddress."""
    try:
        given = json.loads(text)
        endpoint, keys = given["endpoint"], given["keys"]
        key, auth = decode(keys["p256dh"]), decode(keys["auth"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadAddress(
            "must be what the browser's PushSubscription says as JSON: an endpoint, and keys with p256dh and auth"
        ) from None
    if not isinstance(endpoint, str):
        raise BadAddress("must have an endpoint that is a URL")
    if len(auth) != _AUTH_BYTES:
        raise BadAddress(f"must have a key auth of {_AUTH_BYTES} bytes")
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, key)
    except ValueError:
        raise BadAddress("must have a key p256dh that is a point of the curve P-256") from None
    return Subscription(endpoint, point, auth)


def write_subscription(subscription: Subscription) -> str:
    """The same in its one form."""
    keys = {"p256dh": encode(_point(subscription.key)), "auth": encode(subscription.auth)}
    return json.dumps({"endpoint": subscription.endpoint, "keys": keys}, separators=(",", ":"))


def seal(
    message: bytes,
    subscription: Subscription,
    *,
    sender: ec.EllipticCurvePrivateKey | None = None,
    salt: bytes | None = None,
) -> bytes:
    """The body of the request. `sender` and `salt` are fresh for each message; tests name them."""
    sender = sender or ec.generate_private_key(_CURVE)
    salt = salt or os.urandom(_SALT_BYTES)
    ours, theirs = _point(sender.public_key()), _point(subscription.key)
    shared = sender.exchange(ec.ECDH(), subscription.key)
    secret = _derive(subscription.auth, shared, b"WebPush: info\0" + theirs + ours, 32)
    key = _derive(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derive(salt, secret, b"Content-Encoding: nonce\0", 12)
    head = salt + _RECORD.to_bytes(4, "big") + len(ours).to_bytes(1, "big") + ours
    return head + AESGCM(key).encrypt(nonce, message + _LAST_RECORD, None)


@dataclass(frozen=True, slots=True)
class Vapid:
    """The operator's application server (RFC 8292). An empty `private_key`: nothing is sent by web push."""

    private_key: str
    """32 bytes in base64url, as `web-push generate-vapid-keys` prints it."""
    subject: str = ""
    """The contact for a push service: `mailto:` or `https:`."""

    def __repr__(self) -> str:
        return f"Vapid({self.subject})"

    @property
    def public_key(self) -> str:
        """What browsers subscribe with as `applicationServerKey`, in base64url."""
        return encode(_point(_private(self.private_key).public_key()))

    def authorization(self, endpoint: str, now: datetime) -> str:
        """The header of a request to this endpoint."""
        expire = (int((now + _VAPID_LIFETIME).timestamp()) // _VAPID_STEP) * _VAPID_STEP
        return _authorization(self, str(URL(endpoint).origin()), expire)


def check_private_key(text: str) -> str:
    """As it is. Raises ValueError."""
    if text:
        _private(text)
    return text


def decode(text: str) -> bytes:
    """Base64url, with or without padding. Raises ValueError."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
    except (ValueError, AttributeError) as error:
        raise ValueError("must be base64url") from error


def encode(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# A token is valid for hours, and signing one costs more than encrypting a message.
@lru_cache(maxsize=256)
def _authorization(vapid: Vapid, origin: str, expire: int) -> str:
    claims = {"aud": origin, "exp": expire, "sub": vapid.subject}
    token = jwt.encode(claims, _private(vapid.private_key), algorithm="ES256")
    return f"vapid t={token}, k={vapid.public_key}"


@lru_cache(maxsize=4)
def _private(text: str) -> ec.EllipticCurvePrivateKey:
    raw = decode(text)
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"must be {_KEY_BYTES} bytes in base64url, as `web-push generate-vapid-keys` prints it")
    try:
        return ec.derive_private_key(int.from_bytes(raw, "big"), _CURVE)
    except ValueError as error:
        raise ValueError("must be a private key of the curve P-256") from error


def _derive(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

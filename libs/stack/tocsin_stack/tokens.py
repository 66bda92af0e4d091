"""Bearer tokens for trying things out, signed with the key the stack's own services trust."""

import base64
import time
from collections.abc import Iterable

ISSUER = "tocsin"
SENDER = ("alerts:write", "alerts:read")
RESPONDER = ("incidents:read", "incidents:write", "directory:read", "policies:read", "notifications:read")
ADMINISTRATOR = (
    *("alerts:read", "alerts:write", "contacts:read", "contacts:write", "directory:read", "directory:write"),
    *("incidents:read", "incidents:write", "integrations:read", "integrations:write", "notifications:read"),
    *("notifications:write", "policies:read", "policies:write", "queues:read", "queues:write"),
)


def mint(signing_keys: str, org: str, scopes: Iterable[str], *, subject: str = "", ttl: float = 86400) -> str:
    """A token for the tenant `org`, good for `ttl` seconds.

    `signing_keys` is what the services get as AUTH_SIGNING_KEYS, `kid:base64url[,…]`; the first key signs.
    """
    import jwt  # here: with the cryptography it brings along it would be a third of the launcher's own start-up time

    key_id, _, secret = signing_keys.split(",")[0].partition(":")
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "org": org,
        "sub": subject or f"{org}-operator",
        "scope": " ".join(scopes),
        "iat": now,
        "exp": now + int(ttl),
    }
    key = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": key_id})

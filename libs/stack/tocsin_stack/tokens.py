"""Bearer tokens for trying things out, signed with the key the stack's own services trust."""

from collections.abc import Collection
from typing import Final

SENDER: Final = ("alerts:write", "alerts:read")
RESPONDER: Final = (
    *("incidents:read", "incidents:write", "directory:read", "policies:read", "notifications:read", "schedules:read"),
    *("silences:read", "silences:write"),
)
ADMINISTRATOR: Final = (
    *(
        "alerts:read",
        "alerts:write",
        "contacts:read",
        "contacts:self",
        "contacts:write",
        "directory:read",
        "directory:write",
    ),
    *("incidents:read", "incidents:write", "integrations:read", "integrations:write", "notifications:read"),
    *("messages:read", "messages:write"),
    *("notifications:write", "policies:read", "policies:write", "outbox:read", "outbox:write"),
    *("schedules:read", "schedules:self", "schedules:write", "credentials:read", "credentials:write"),
    *("silences:read", "silences:write", "subscriptions:read", "subscriptions:write", "audit:read"),
    *("templates:read", "templates:write"),
)
OPERATOR: Final = (
    *("limits:read", "limits:write", "notifications:read", "notifications:write", "outbox:read", "outbox:write"),
    *("queues:read", "queues:write", "credentials:read", "credentials:write", "audit:read"),
)
"""What the operator of the installation may do across tenants, with a token whose tenant is `ALL_ORGS`."""
ALL_ORGS: Final = "*"


def mint(signing_keys: str, org: str, scopes: Collection[str], *, subject: str, ttl: float = 86400) -> str:
    """A token for the tenant `org`, good for `ttl` seconds; `signing_keys` as the services get it (AUTH_SIGNING_KEYS).

    Raises:
        ValueError: the keys cannot be read.
    """
    # Here: with the cryptography it brings along it would be a third of the launcher's own start-up time.
    from tocsin_kit import auth

    keys = auth.SigningKeys.parse(signing_keys)
    return auth.mint(keys, org_id=org, subject=subject, scopes=scopes, ttl=ttl)

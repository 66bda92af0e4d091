"""An integration as its contract shows it."""

from datetime import timedelta
from typing import Final

from tocsin.ingest.v1.integration_service_pb2 import Integration
from tocsin_kit.errors import invalid
from tocsin_kit.ids import format_name
from tocsin_kit.keys.sources import parse_ranges
from tocsin_kit.rpc.masks import etag

from tocsin_ingest.store.integrations.integrations import IntegrationRow

WRITABLE: Final = (
    "display_name",
    "routing_rules",
    "default_policy",
    "source_ranges",
    "auto_resolve_after",
    "heartbeat_interval",
    "mapping",
    "mail",
    "signature",
)


def integration_of(row: IntegrationRow) -> Integration:
    """The row in full."""
    integration = Integration.FromString(row.routing_rules)
    integration.name = format_name("integrations", row.integration_id)
    integration.display_name = row.display_name
    integration.default_policy = row.default_policy
    integration.key_prefixes.extend(row.key_prefixes)
    integration.source_ranges.extend(row.source_ranges)
    integration.create_time.FromDatetime(row.create_time)
    integration.update_time.FromDatetime(row.update_time)
    integration.etag = etag(row.version)
    if row.auto_resolve_after is not None:
        integration.auto_resolve_after.FromTimedelta(row.auto_resolve_after)
    if row.heartbeat_interval is not None:
        integration.heartbeat_interval.FromTimedelta(row.heartbeat_interval)
    if row.heartbeat_time is not None:
        integration.heartbeat_time.FromDatetime(row.heartbeat_time)
    if row.heartbeat_due_time is not None:
        integration.heartbeat_due_time.FromDatetime(row.heartbeat_due_time)
    integration.heartbeat_missing = row.heartbeat_missing
    if row.key_expire_time is not None:
        integration.key_expire_time.FromDatetime(row.key_expire_time)
    return integration


def ranges_of(integration: Integration) -> tuple[str, ...]:
    """Its source ranges in their one form. Raises INVALID_FIELD."""
    return tuple(map(str, parse_ranges(integration.source_ranges, "integration.source_ranges")))


def quiet_of(integration: Integration) -> timedelta | None:
    """After how long without a trigger its incidents are resolved; None: never."""
    return integration.auto_resolve_after.ToTimedelta() if integration.HasField("auto_resolve_after") else None


def heartbeat_of(integration: Integration) -> timedelta | None:
    """How often a heartbeat must come; None: none is expected. Raises INVALID_FIELD beside `auto_resolve_after`."""
    if not integration.HasField("heartbeat_interval"):
        return None
    if integration.HasField("auto_resolve_after"):
        # The alert of missing heartbeats is triggered once, so its incident would be resolved as quiet while they are missing.
        raise invalid("integration.heartbeat_interval", "must not be set together with auto_resolve_after")
    return integration.heartbeat_interval.ToTimedelta()


def rules_of(integration: Integration) -> bytes:
    """What is stored of its routing rules, its mapping, its rules for mails, and of signatures all but the secret."""
    stored = Integration(routing_rules=integration.routing_rules)
    if integration.HasField("mail"):
        stored.mail.CopyFrom(integration.mail)
    if integration.HasField("signature"):
        stored.signature.CopyFrom(integration.signature)
        stored.signature.ClearField("secret")
    if integration.HasField("mapping"):
        stored.mapping.CopyFrom(integration.mapping)
    return stored.SerializeToString()

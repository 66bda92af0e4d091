"""An integration as its contract shows it."""

from datetime import timedelta
from typing import Final

from tocsin.ingest.v1.integration_service_pb2 import Integration
from tocsin_kit.ids import format_name
from tocsin_kit.keys.sources import parse_ranges
from tocsin_kit.rpc.masks import etag

from tocsin_ingest.store.integrations import IntegrationRow

WRITABLE: Final = ("display_name", "routing_rules", "default_policy", "source_ranges", "auto_resolve_after")


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
    if row.key_expire_time is not None:
        integration.key_expire_time.FromDatetime(row.key_expire_time)
    return integration


def ranges_of(integration: Integration) -> tuple[str, ...]:
    """Its source ranges in their one form. Raises INVALID_FIELD."""
    return tuple(map(str, parse_ranges(integration.source_ranges, "integration.source_ranges")))


def quiet_of(integration: Integration) -> timedelta | None:
    """After how long without a trigger its incidents are resolved; None: never."""
    return integration.auto_resolve_after.ToTimedelta() if integration.HasField("auto_resolve_after") else None


def rules_of(integration: Integration) -> bytes:
    """What is stored of its routing rules."""
    return Integration(routing_rules=integration.routing_rules).SerializeToString()

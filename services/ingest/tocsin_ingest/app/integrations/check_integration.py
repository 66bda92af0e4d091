"""What is checked of an integration before it is created or changed."""

from collections.abc import Sequence

from tocsin.ingest.v1.integration_service_pb2 import Integration

from tocsin_ingest.app.integrations.compile_mail import compile_mail
from tocsin_ingest.app.integrations.compile_mapping import compile_mapping
from tocsin_ingest.app.integrations.compile_rules import compile_rules
from tocsin_ingest.app.integrations.integration_view import ranges_of
from tocsin_ingest.app.integrations.policies import PolicyChecker, require_policies


async def check_integration(policies: PolicyChecker, org_id: str, integration: Integration) -> Sequence[str]:
    """The source ranges, as they are stored. Escalation is asked about the policies, so not within a transaction.

    Raises INVALID_FIELD (an expression that RE2 refuses, a source range that is none), POLICY_NOT_FOUND, SERVICE_UNAVAILABLE.
    """
    compile_rules(integration.routing_rules)
    if integration.HasField("mapping"):
        compile_mapping(integration.mapping)
    compile_mail(integration.mail)
    ranges = ranges_of(integration)
    await require_policies(policies, org_id, integration)
    return ranges

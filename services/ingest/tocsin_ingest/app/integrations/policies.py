"""Whether the policies an integration names exist. Escalation knows."""

from collections.abc import Iterable
from typing import Protocol

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import Integration
from tocsin_kit.errors import FieldViolation, TocsinError


class PolicyChecker(Protocol):
    """The port to escalation."""

    async def missing(self, org_id: str, policies: Iterable[str]) -> frozenset[str]:
        """Those of the policies that do not exist. Raises SERVICE_UNAVAILABLE."""


async def require_policies(checker: PolicyChecker, org_id: str, integration: Integration) -> None:
    """Raises POLICY_NOT_FOUND (INVALID_ARGUMENT) naming each field whose policy does not exist, SERVICE_UNAVAILABLE.

    A policy may be deleted later all the same: escalation then runs the tenant's fallback policy.
    """
    named = {
        f"integration.routing_rules[{index}].policy": rule.policy
        for index, rule in enumerate(integration.routing_rules)
        if rule.policy
    }
    if integration.default_policy:
        named["integration.default_policy"] = integration.default_policy
    if not named:
        return
    missing = await checker.missing(org_id, dict.fromkeys(named.values()))
    fields = [
        FieldViolation(field, f"{policy} does not exist; create it first, or leave the field empty for the fallback")
        for field, policy in named.items()
        if policy in missing
    ]
    if fields:
        first = named[fields[0].field]
        raise TocsinError(
            ErrorReason.ERROR_REASON_POLICY_NOT_FOUND,
            f"{fields[0].field}: {fields[0].description}",
            code=grpc.StatusCode.INVALID_ARGUMENT,
            metadata={"name": first},
            fields=fields,
        )

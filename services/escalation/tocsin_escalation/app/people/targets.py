"""Targets that a request names must exist: the error says which field names an unknown one."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import grpc
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import FieldViolation, TocsinError

from tocsin_escalation.domain.policy import Policy, Target, TargetKind
from tocsin_escalation.store.incidents import escalations
from tocsin_escalation.store.people import directory, policies

REASONS: Final = {
    TargetKind.USER: reasons.ERROR_REASON_USER_NOT_FOUND,
    TargetKind.TEAM: reasons.ERROR_REASON_TEAM_NOT_FOUND,
    TargetKind.SCHEDULE: reasons.ERROR_REASON_SCHEDULE_NOT_FOUND,
}


async def check(tx: Tx, named: Sequence[tuple[str, Target]]) -> None:
    """Every (field, target) must exist. Raises USER_NOT_FOUND, TEAM_NOT_FOUND or SCHEDULE_NOT_FOUND, as
    INVALID_ARGUMENT, with the fields.
    """
    missing = set(await directory.unknown(tx, [target for _, target in named]))
    wrong = [(field, target) for field, target in named if target in missing]
    if wrong:
        field, first = wrong[0]
        raise TocsinError(
            REASONS[first.kind],
            f"{field}: {first} does not exist; create it first",
            code=grpc.StatusCode.INVALID_ARGUMENT,
            metadata={"name": str(first)},
            fields=[FieldViolation(field, f"{target} does not exist; create it first") for field, target in wrong],
        )


async def must_exist(db: Database, org_id: str, named: Sequence[tuple[str, Target]]) -> None:
    """`check` in a transaction of its own."""
    async with db.transaction(org_id) as tx:
        await check(tx, named)


async def policy(db: Database, org_id: str, id: str, field: str) -> Policy:
    """The policy named by `field`. Raises POLICY_NOT_FOUND as INVALID_ARGUMENT."""
    async with db.transaction(org_id) as tx:
        row = await policies.get(tx, id)
    if row is None:
        raise no_policy(id, field)
    return row.policy


def no_policy(id: str, field: str) -> TocsinError:
    """The policy that `field` names does not exist."""
    name = f"policies/{id}"
    return TocsinError(
        reasons.ERROR_REASON_POLICY_NOT_FOUND,
        f"{field}: {name} does not exist",
        code=grpc.StatusCode.INVALID_ARGUMENT,
        metadata={"name": name},
        fields=[FieldViolation(field, f"{name} does not exist")],
    )


async def policy_of(db: Database, org_id: str, incident_id: UUID) -> Policy | None:
    """The policy of an incident in its present version; None when the incident or the policy does not exist."""
    return (await policies_of(db, org_id, [incident_id])).get(incident_id)


async def policies_of(db: Database, org_id: str, incident_ids: Sequence[UUID]) -> dict[UUID, Policy]:
    """The policies of these incidents in their present version; without incidents or policies that do not exist."""
    async with db.transaction(org_id) as tx:
        rows = await escalations.get_many(tx, incident_ids)
        named = {id: row.run.policy.id for id, row in rows.items() if row.run.policy is not None}
        found = {id: await policies.get(tx, id) for id in set(named.values())}
    return {id: row.policy for id, name in named.items() if (row := found[name]) is not None}

"""The policies to which runs may be handed on. Policies that name no next policy cost nothing here."""

from collections.abc import Iterable, Mapping

from tocsin_kit.db.pool import Tx

from tocsin_escalation.domain.chain import MOST_HAND_ONS
from tocsin_escalation.domain.policy import Policy, Target
from tocsin_escalation.store.people import policies

NextPolicies = Mapping[tuple[str, str], Policy]
"""By tenant and id, in their present version."""


async def load(tx: Tx, named: Iterable[tuple[str, Policy]]) -> NextPolicies:
    """Every policy to which these, of (tenant, policy), may be handed on, one after the other. One that was deleted is left out."""
    found: dict[tuple[str, str], Policy] = {}
    wanted = _next(named)
    for _ in range(MOST_HAND_ONS):
        wanted -= found.keys()
        if not wanted:
            break
        loaded = await policies.usable(tx, wanted, set())
        found |= loaded
        wanted = _next((org_id, policy) for (org_id, _), policy in loaded.items())
    return found


def targets(ahead: NextPolicies) -> list[tuple[str, Target]]:
    """All targets that they may page."""
    return [(org_id, target) for (org_id, _), policy in ahead.items() for target in policy.targets()]


def pairs(ahead: NextPolicies) -> list[tuple[str, Policy]]:
    """With their tenants."""
    return [(org_id, policy) for (org_id, _), policy in ahead.items()]


def from_(named: Iterable[tuple[str, Policy]], ahead: NextPolicies) -> list[tuple[str, Policy]]:
    """Those to which these, of (tenant, policy), may be handed on, one after the other."""
    found: dict[tuple[str, str], Policy] = {}
    wanted = _next(named)
    while wanted := wanted & ahead.keys() - found.keys():
        found |= {key: ahead[key] for key in wanted}
        wanted = _next((org_id, ahead[org_id, id]) for org_id, id in wanted)
    return pairs(found)


def of_tenant(ahead: NextPolicies, org_id: str) -> dict[str, Policy]:
    """Those of one tenant, by id."""
    return {id: policy for (owner, id), policy in ahead.items() if owner == org_id}


def _next(named: Iterable[tuple[str, Policy]]) -> set[tuple[str, str]]:
    return {(org_id, policy.next_policy) for org_id, policy in named if policy.next_policy}

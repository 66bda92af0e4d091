"""Warnings of policies about levels that have no user because of a gap in the coming days, as ListCoverage shows them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tocsin_kit.db.pool import Database, Tx

from tocsin_escalation.app.computing import Computations, compute, in_transaction
from tocsin_escalation.app.foresight import foresee
from tocsin_escalation.app.foresight.coverage import SCHEDULES_AT_ONCE
from tocsin_escalation.app.foresight.earliest import WORK_AT_ONCE
from tocsin_escalation.domain.coverage import CoverageSearch
from tocsin_escalation.domain.policy import Policy
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.warnings import Warned, warn_of_gaps

Found = Sequence[Warned] | None
"""The warnings of a policy; None when its schedules were too many, or too large, to be resolved after those of earlier policies."""


async def of_policies(db: Database, org_id: str, wanted: Sequence[Policy], days: int) -> list[Found]:
    """For each policy the first gap of each of its levels within the coming days."""
    # The policies it is handed on to are not checked.
    alone = [replace(policy, next_policy="") for policy in wanted]
    taken = _within_bounds(alone)
    if not any(policy.schedules() for policy in taken):
        return [[] for _ in alone]

    async def look_up(tx: Tx, computations: Computations) -> tuple[datetime, foresee.People]:
        now = await tx.now()
        return now, await foresee.people(tx, taken, now, now + timedelta(days=days), computations)

    now, there = await in_transaction(db, org_id, look_up)
    until = now + timedelta(days=days)

    def ask() -> list[Found]:
        look = CoverageSearch(there.base, there.schedules, minute_of(now), minute_of(until))
        return [_of_policy(look, policy) for policy in taken]

    # In a thread: resolving days of many schedules takes longer than other calls may wait.
    found = iter(await compute(org_id, ask))
    kept = {id(policy) for policy in taken}
    return [next(found) if id(policy) in kept else None for policy in alone]


def _of_policy(look: CoverageSearch, policy: Policy) -> Found:
    if look.work + look.cost([policy]) > WORK_AT_ONCE:
        return None
    return warn_of_gaps(policy, look.at_levels(policy))


def _within_bounds(policies: Sequence[Policy]) -> list[Policy]:
    taken, named = list[Policy](), set[str]()
    for policy in policies:
        with_it = named.union(policy.schedules())
        if len(with_it) <= SCHEDULES_AT_ONCE:
            taken.append(policy)
            named = with_it
    return taken

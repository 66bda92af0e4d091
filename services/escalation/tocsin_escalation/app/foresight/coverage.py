"""For how much of the coming weeks policies page a user: one page of policies, whose schedules are read together."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tocsin_kit.db.pool import Database, Tx

from tocsin_escalation.app.computing import Computations, compute, in_transaction
from tocsin_escalation.app.foresight import foresee
from tocsin_escalation.app.foresight.earliest import WORK_AT_ONCE
from tocsin_escalation.app.incidents import next_policies
from tocsin_escalation.app.schedules.schedules import LONGEST_OF_ALL, span
from tocsin_escalation.domain.chain import chain
from tocsin_escalation.domain.coverage import CoverageSearch, PolicyCoverage
from tocsin_escalation.domain.policy import Directory, Policy
from tocsin_escalation.store.people import policies

SCHEDULES_AT_ONCE: Final = 500
"""Of one page: a policy may name some 200, and so may each to which it is handed on. A page ends early before the policy that would
exceed it."""


async def of_policies(
    db: Database, org_id: str, only: Sequence[str], since: datetime, until: datetime, after: str, limit: int
) -> tuple[list[PolicyCoverage], str]:
    """Within [since, until), by policy id behind `after`, and behind which the next page begins; empty at the end.

    Raises INVALID_FIELD.
    """
    first, last = span(since, until, LONGEST_OF_ALL)

    async def look_up(tx: Tx, computations: Computations) -> tuple[list[Policy], bool, foresee.People]:
        wanted, more = await _policies(tx, only, after, limit)
        return wanted, more, await foresee.people(tx, wanted, since, until, computations)

    wanted, more, there = await in_transaction(db, org_id, look_up)

    def ask() -> list[PolicyCoverage]:
        look, found = CoverageSearch(there.base, there.schedules, first, last), list[PolicyCoverage]()
        for policy in wanted:
            found.append(look.at_policy(policy))
            if look.work >= WORK_AT_ONCE:
                break
        return found

    # In a thread: resolving weeks of many schedules takes longer than other calls may wait.
    found = await compute(org_id, ask)
    return found, found[-1].policy if found and (more or len(found) < len(wanted)) else ""


async def _policies(tx: Tx, only: Sequence[str], after: str, limit: int) -> tuple[list[Policy], bool]:
    """In the order of their ids, and whether more follow. Unreadable ones are left out."""
    while True:
        ids = await policies.ids(tx, after, limit + 1, list(only) or None)
        found = await policies.usable(tx, {(tx.org_id, id) for id in ids[:limit]}, set())
        read = [found[tx.org_id, id] for id in ids[:limit] if (tx.org_id, id) in found]
        more = len(ids) > limit
        if read or not more:
            break
        after = ids[limit - 1]
    ahead = await next_policies.load(tx, [(tx.org_id, policy) for policy in read])
    following = Directory(policies=next_policies.of_tenant(ahead, tx.org_id))
    taken, named = list[Policy](), set[str]()
    for policy in read:
        named.update(id for each in chain(policy, following) for id in each.schedules())
        if taken and len(named) > SCHEDULES_AT_ONCE:
            return taken, True
        taken.append(policy)
    return taken, more

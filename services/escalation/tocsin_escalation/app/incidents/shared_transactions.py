"""Which incidents share a transaction, by the number of schedules that they may page.

The rows of all of them are locked until the last schedule has been resolved. So incidents of policies that name many schedules
are decided after the others and by themselves, and incidents of other tenants do not wait for them. Schedules are counted, and no
time is measured: the cost of each is limited (`domain.schedules.paging`), and the grouping is the same on every machine.
"""

from collections.abc import Collection, Mapping
from typing import Final
from uuid import UUID

Key = tuple[str, str]
"""The tenant and the schedule's id."""

MOST: Final = 200
"""Schedules that the incidents of one transaction may page together."""
MOST_OF_TENANT: Final = 20
"""The same for the incidents of one tenant."""
MOST_LOOKED_AT: Final = 250
"""Schedules of one tenant that one transaction resolves, those of the next levels first. A policy names 200 at most."""


def apart(named: Mapping[UUID, Collection[Key]]) -> frozenset[UUID]:
    """Those of the incidents that are left to another transaction, given the schedules that each may page.

    The lightest are taken first. At least one of them is taken, even if it must be alone.
    """
    seen = set[Key]()
    of_tenant: dict[str, int] = {}
    left = set[UUID]()
    for incident, keys in sorted(named.items(), key=lambda each: len(set(each[1]))):
        new = set(keys) - seen
        counted = {org_id: sum(key[0] == org_id for key in new) for org_id, _ in new}
        many = any(of_tenant.get(org_id, 0) + count > MOST_OF_TENANT for org_id, count in counted.items())
        if new and seen and (many or len(seen) + len(new) > MOST):
            left.add(incident)
            continue
        seen |= new
        for org_id, count in counted.items():
            of_tenant[org_id] = of_tenant.get(org_id, 0) + count
    return frozenset(left)

"""Whether the targets of policies can be reached: escalation knows the people, and notify their contact methods."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.incidents import next_policies
from tocsin_escalation.domain.policy import Directory, Policy
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.warnings import Warned, warn, warn_of_conditions, warn_of_next, warn_of_turns
from tocsin_escalation.store.people import directory, policies

_log = get_logger(__name__)

_POLICIES_AT_ONCE: Final = 50
_ROUNDS: Final = 10


class Reaching(Protocol):
    """Notify, for reachability."""

    async def unreachable(self, org_id: str, users: Sequence[str]) -> dict[str, str]:
        """The reason, by user id, for each of the users to whom no page can be sent. Raises TocsinError when it is not known."""


@dataclass(frozen=True, slots=True)
class Reachability:
    """What is known of one policy. `complete`: notify has answered; otherwise only empty teams and the like are known.

    `turns`: levels that page one person after the other, some of whom cannot be reached. `conditions`: incidents that no level is
    for. `following`: a next policy that was deleted, also after other ones.
    """

    warned: tuple[Warned, ...]
    turns: tuple[Warned, ...]
    conditions: tuple[Warned, ...]
    following: tuple[Warned, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class UnreachableTarget:
    """One target of one policy; `position` counts the policy's targets of this kind from 0."""

    policy: str
    position: int
    warned: Warned


async def of_policies(
    db: Database, notify: Reaching, org_id: str, wanted: Sequence[Policy], *, strict: bool = False
) -> list[Reachability]:
    """One answer per policy. With `strict` it raises notify's error; otherwise the result says that reachability is not known."""
    targets = [(org_id, target) for policy in wanted for target in policy.targets()]
    async with db.transaction(org_id) as tx:
        people = (await directory.load(tx, targets)).get(org_id, Directory())
        ahead = await next_policies.load(tx, [(org_id, policy) for policy in wanted])
        people = replace(people, policies=next_policies.of_tenant(ahead, org_id))
        minute = minute_of(await tx.now())
    users = people.resolve(target for _, target in targets)
    try:
        unreachable, complete = await notify.unreachable(org_id, users) if users else {}, True
    except TocsinError as error:
        if strict:
            raise
        _log.warning("reachability_unknown", org_id=org_id, error=error.message)
        unreachable, complete = {}, False
    return [
        Reachability(
            warn(policy, people, unreachable),
            warn_of_turns(policy, people, unreachable),
            warn_of_conditions(policy, people, minute),
            warn_of_next(policy, people),
            complete,
        )
        for policy in wanted
    ]


async def list_unreachable(
    db: Database, notify: Reaching, org_id: str, after: tuple[str, int], limit: int
) -> tuple[list[UnreachableTarget], tuple[str, int] | None]:
    """Targets after (policy id, position), and where the next page begins; None at the end.

    Reads a limited number of policies, so that a tenant with thousands of correct ones gets an answer in time. Raises
    SERVICE_UNAVAILABLE.
    """
    found: list[UnreachableTarget] = []
    cursor, position = after
    for _ in range(_ROUNDS):
        async with db.transaction(org_id) as tx:
            # The policy of the cursor may have more targets than fitted into the last page.
            current = await policies.get(tx, cursor) if cursor else None
            rows = [current] if current else []
            rows += await policies.page(tx, cursor, _POLICIES_AT_ONCE)
        reached = await of_policies(db, notify, org_id, [row.policy for row in rows], strict=True)
        for row, reach in zip(rows, reached, strict=True):
            for number, warned in enumerate(reach.warned):
                if row.policy.id == cursor and number < position:
                    continue
                if len(found) == limit:
                    return found, (row.policy.id, number)
                found.append(UnreachableTarget(row.policy.id, number, warned))
        if len(rows) < _POLICIES_AT_ONCE:
            return found, None
        cursor, position = rows[-1].policy.id, len(reached[-1].warned)
    return found, (cursor, position)

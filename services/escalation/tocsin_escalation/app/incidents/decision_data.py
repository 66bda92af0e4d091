"""The steps for incidents, and the data that decisions need: locked escalations, and the people who may be paged."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_escalation.app.incidents import next_policies, round_robin, shared_transactions
from tocsin_escalation.app.incidents.round_robin import Taking
from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.domain.events import Event, Reassigned, RespondersAdded
from tocsin_escalation.domain.policy import Directory, Policy, Target
from tocsin_escalation.store.people import directory

OrgTarget = tuple[str, Target]
"""A tenant, and a target of one of its policies."""


@dataclass(frozen=True, slots=True)
class Step:
    """One event for one incident. `etag`: apply it only if it is still the incident's. `sequence`: ingest's number.

    `org_id`: in a system transaction, the tenant that asked for the step; empty for a timer. `answers`: a person answers a page.
    If the incident is merged meanwhile, the answer is for its target.
    """

    incident_id: UUID
    event: Event
    etag: str = ""
    sequence: int = 0
    org_id: str = ""
    answers: bool = False


@dataclass(frozen=True, slots=True)
class DecisionData:
    """Locked escalations, and the people whom their steps may page, by tenant. Those of version 0 are new: `advance` inserts
    them."""

    runs: Mapping[UUID, Escalation]
    people: Mapping[str, Directory]
    feed_tenants: Collection[str] | None = None
    """The tenants of these that have a feed of events; None: not read, and the statement that writes events checks."""

    @classmethod
    async def read(
        cls,
        tx: Tx,
        runs: Mapping[UUID, Escalation],
        steps: Sequence[Step] = (),
        *,
        starting: Sequence[tuple[str, Policy]] = (),
        taking: Taking | None = None,
        most_schedules: int = shared_transactions.MOST_LOOKED_AT,
        feed_tenants: Collection[str] | None = None,
    ) -> "DecisionData":
        """With the people whom these steps may page. `runs` are locked already.

        `starting`: policies that runs may start on, with their tenants. `taking`: what `round_robin.lock_for` found for these
        steps, if it was asked. `most_schedules`: of each tenant, the number that are resolved.
        """
        running = [
            *starting,
            *(each for step in steps for each in round_robin.running(step, runs.get(step.incident_id))),
        ]
        ahead = await next_policies.load(tx, running) if taking is None else taking.ahead
        named = [
            *_targets_of(steps, runs),
            *_starting_targets_of(starting),
            *next_policies.targets(ahead),
            *_passed_targets_of(steps, runs),
        ]
        people = await directory.load(tx, named, most_schedules=most_schedules)
        if ahead:
            people = {
                org: replace(there, policies=next_policies.of_tenant(ahead, org)) for org, there in people.items()
            }
        keys = round_robin.of_policies([*running, *next_policies.pairs(ahead)])
        locked = await round_robin.lock(tx, keys) if taking is None else taking.locked
        return cls(runs, await round_robin.add(tx, people, keys, locked), feed_tenants)


def _targets_of(steps: Sequence[Step], runs: Mapping[UUID, Escalation]) -> Iterable[OrgTarget]:
    """All targets that these steps could page, except those of passed levels. An acknowledge resolves no schedule."""
    for step, run in _known_of(steps, runs):
        if isinstance(step.event, Reassigned | RespondersAdded):
            yield from ((run.org_id, target) for target in step.event.targets)
        for org_id, policy in round_robin.running(step, run):
            level = run.level if policy is run.policy else 0
            yield from ((org_id, target) for target in policy.targets_from(level))


def _starting_targets_of(starting: Sequence[tuple[str, Policy]]) -> Iterable[OrgTarget]:
    """All targets of policies on which incidents may start; those of policies with few schedules first."""
    for org_id, policy in sorted(starting, key=lambda each: len(each[1].schedules())):
        yield from ((org_id, target) for target in policy.targets())


def _passed_targets_of(steps: Sequence[Step], runs: Mapping[UUID, Escalation]) -> Iterable[OrgTarget]:
    """The rest: they are paged when the policy is repeated."""
    for step, run in _known_of(steps, runs):
        for org_id, policy in round_robin.running(step, run):
            if policy is run.policy:
                yield from ((org_id, target) for target in policy.targets_before(run.level))


def _known_of(steps: Sequence[Step], runs: Mapping[UUID, Escalation]) -> Iterable[tuple[Step, Escalation]]:
    for step in steps:
        run = runs.get(step.incident_id)
        if run is not None:
            yield step, run

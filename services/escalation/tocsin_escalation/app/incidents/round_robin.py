"""Whose turn it is, for decisions about policies that page one person after the other. Other policies cost nothing here."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_escalation.app.incidents import next_policies, shared_transactions
from tocsin_escalation.app.incidents.next_policies import NextPolicies
from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.domain.events import (
    AlertsAdded,
    Edited,
    Escalated,
    Event,
    MergedFrom,
    PageOutcome,
    Reassigned,
    Restarted,
    Started,
    StopForgotten,
    TimerFired,
    Unacknowledged,
    Unmerged,
)
from tocsin_escalation.domain.policy import Directory, Policy
from tocsin_escalation.store.incidents import turns
from tocsin_escalation.store.incidents.turns import Key


class Stepping(Protocol):
    """An event for an incident."""

    @property
    def incident_id(self) -> UUID:
        """Whose event it is."""

    @property
    def event(self) -> Event:
        """What happened."""


@dataclass(frozen=True, slots=True)
class LockedTurns:
    """The turns that this transaction holds. `busy`: those that another transaction holds."""

    turns: Mapping[Key, tuple[str, ...]]
    busy: frozenset[Key] = frozenset()


def running(step: Stepping, run: Escalation | None) -> list[tuple[str, Policy]]:
    """The policies on which this step may page. An acknowledge pages on no policy, so it waits for no other transaction."""
    if run is None or not _may_page(run, step.event):
        return []
    named = [run.policy]
    if isinstance(step.event, Started | Reassigned | Restarted):
        named.insert(0, step.event.policy)
    return [(run.org_id, policy) for policy in named if policy is not None]


def of_policies(named: Iterable[tuple[str, Policy]]) -> set[Key]:
    """Those of the policies that page in turn."""
    return {(org_id, policy.id) for org_id, policy in named if policy.has_turns}


def _may_page(run: Escalation, event: Event) -> bool:
    match event:
        case AlertsAdded(severity=severity):
            return 0 < severity < run.facts.severity
        case Edited(severity=severity):
            return severity is not None and severity < run.facts.severity
        case PageOutcome():
            return event.ends
        case MergedFrom(severity=severity):
            return 0 < severity < run.facts.severity
        case Started() | TimerFired() | Unacknowledged() | Unmerged() | Escalated() | Reassigned() | Restarted():
            return True
        case StopForgotten():
            return True
        case _:
            return False


async def lock(tx: Tx, keys: Collection[Key], *, wait: bool = True) -> LockedTurns:
    """Lock these turns. With `wait` False those that another transaction holds are `busy`; a deleted policy has none."""
    if not keys:
        return LockedTurns({})
    known = set() if wait else set(await turns.read(tx, keys))
    locked = await turns.lock(tx, keys, wait=wait)
    return LockedTurns(locked, frozenset(known - locked.keys()))


@dataclass(frozen=True, slots=True)
class Taking:
    """The policies on which incidents may page. `held`: incidents whose turns another transaction holds. `apart`: those that may
    page more schedules than a shared transaction resolves (`app.incidents.shared_transactions`).
    """

    ahead: NextPolicies
    locked: LockedTurns
    held: frozenset[UUID]
    apart: frozenset[UUID]


async def lock_for(tx: Tx, running: Mapping[UUID, Sequence[tuple[str, Policy]]], *, wait: bool) -> Taking:
    """Lock the turns that incidents may take on these policies, and on those to which they hand on.

    With `wait` none is held or apart: the transaction has one incident only, and no other one waits for it.
    """
    ahead = await next_policies.load(tx, [each for named in running.values() for each in named])
    reaching = {id: [*named, *next_policies.from_(named, ahead)] for id, named in running.items()}
    apart = (
        frozenset[UUID]()
        if wait
        else shared_transactions.apart({id: _schedules(named) for id, named in reaching.items()})
    )
    keys = {id: of_policies(named) for id, named in reaching.items() if id not in apart}
    locked = await lock(tx, set().union(*keys.values()), wait=wait)
    return Taking(ahead, locked, frozenset(id for id, wanted in keys.items() if wanted & locked.busy), apart)


def _schedules(named: Iterable[tuple[str, Policy]]) -> set[shared_transactions.Key]:
    return {(org_id, id) for org_id, policy in named for id in policy.schedules()}


def running_of(steps: Iterable[Stepping], runs: Mapping[UUID, Escalation]) -> dict[UUID, list[tuple[str, Policy]]]:
    """The policies on which these steps may page, by incident."""
    found: dict[UUID, list[tuple[str, Policy]]] = {}
    for step in steps:
        found.setdefault(step.incident_id, []).extend(running(step, runs.get(step.incident_id)))
    return found


async def add(
    tx: Tx, people: Mapping[str, Directory], keys: Collection[Key], locked: LockedTurns
) -> dict[str, Directory]:
    """The people with their turns so far, and who of them is away."""
    orgs = {org_id for org_id, _ in keys}
    if not orgs:
        return dict(people)
    away = await turns.away(tx, [(org, user) for org in orgs if org in people for user in people[org].users])
    return {
        org: replace(
            there,
            turns={id: users for (owner, id), users in locked.turns.items() if owner == org},
            away=frozenset(user for owner, user in away if owner == org),
        )
        if org in orgs
        else there
        for org, there in people.items()
    }

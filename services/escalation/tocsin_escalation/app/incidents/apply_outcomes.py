"""Page outcomes from notify."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tocsin_kit.db.pool import Database, OneRoundTrip, Tx
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.incidents import publish_notes, round_robin
from tocsin_escalation.app.incidents.advance import advance
from tocsin_escalation.app.incidents.decision_data import DecisionData, Step
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.round_robin import Taking
from tocsin_escalation.domain.decision import Note
from tocsin_escalation.domain.escalation import Escalation, Run
from tocsin_escalation.domain.events import PageOutcome
from tocsin_escalation.domain.outcomes import inform, tell
from tocsin_escalation.store.incidents import escalations, pages, timeline

_log = get_logger(__name__)


class OutcomeResult(StrEnum):
    """The result of an outcome; PageOutcomeResult's values."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    INCIDENT_UNKNOWN = "incident_unknown"


@dataclass(frozen=True, slots=True)
class OutcomeArrival:
    """One outcome as it was received."""

    org_id: str
    incident_id: UUID
    outcome: PageOutcome


async def apply_outcomes(db: Database, effects: Effects, arrivals: Sequence[OutcomeArrival]) -> list[OutcomeResult]:
    """Apply outcomes, each once, however often it is sent.

    Incidents whose level may change, because one of their pages ended, are one transaction. Those that only get information are
    another, which reads less. Incidents whose policy's turns another transaction holds wait for it alone, after the others are
    committed and hold no lock any more. So do those that may page many schedules (`shared_transactions`), one incident
    after the other. Raises DATABASE_UNAVAILABLE, CONFLICT.
    """
    results: dict[int, OutcomeResult] = {}
    ending = {each.incident_id for each in arrivals if each.outcome.ends}
    if moving := [place for place, each in enumerate(arrivals) if each.incident_id in ending]:
        applied, taking = await _apply(db, effects, [arrivals[place] for place in moving])
        results |= zip(moving, applied, strict=True)
        for incidents in filter(None, (taking.held, *({each} for each in sorted(taking.apart))) if taking else ()):
            # Outcomes that were applied above are duplicates now, and keep their first result.
            again = [place for place in moving if arrivals[place].incident_id in incidents]
            waited, _ = await _apply(db, effects, [arrivals[place] for place in again], wait=True)
            results |= zip(again, waited, strict=True)
    if informing := [place for place, each in enumerate(arrivals) if each.incident_id not in ending]:
        results |= zip(informing, await _inform(db, effects, [arrivals[place] for place in informing]), strict=True)
    return [results[place] for place in range(len(arrivals))]


async def _inform(db: Database, effects: Effects, arrivals: Sequence[OutcomeArrival]) -> list[OutcomeResult]:
    """Most outcomes: a page that was sent, or is being retried, changes no level and needs no people, policy or timer."""

    async def work(tx: Tx) -> list[OutcomeResult]:
        locked = await pages.lock(tx, list({each.incident_id for each in arrivals}))
        results, new = await _sort(tx, locked, arrivals)
        runs, notes = dict(locked), list[tuple[Run, Note]]()
        for each in new:
            run = runs[each.incident_id] = inform(runs[each.incident_id], each.outcome)
            notes.append((run, tell(each.outcome)))
        round_trip = OneRoundTrip(tx)
        await pages.save(round_trip, [run for id, run in runs.items() if run is not locked[id]])
        await timeline.write(round_trip, notes)
        await round_trip.send()
        tx.after_commit(lambda: publish_notes.publish(effects, notes))
        return results

    return await db.run(None, work)


async def _apply(
    db: Database, effects: Effects, arrivals: Sequence[OutcomeArrival], *, wait: bool = False
) -> tuple[list[OutcomeResult], Taking | None]:
    """With `wait` False, incidents that are held or apart are not changed; they are returned.

    The incident is locked before its timeline is read, so that two replicas that get the same outcome apply it one after the
    other.
    """

    async def work(tx: Tx) -> tuple[list[OutcomeResult], Taking | None]:
        locked = await escalations.lock(tx, list({each.incident_id for each in arrivals}))
        # The lock returns the rows of every tenant: an incident that is named with another tenant counts as unknown.
        runs = {each.incident_id: locked[each.incident_id] for each in arrivals if _owns(locked, each)}
        results, new = await _sort(tx, locked, arrivals)
        steps = [Step(each.incident_id, each.outcome, org_id=each.org_id) for each in new]
        return results, await _take(tx, effects, runs, steps, wait=wait) if steps else None

    return await db.run(None, work)


async def _sort(
    tx: Tx, locked: Mapping[UUID, Run], arrivals: Sequence[OutcomeArrival]
) -> tuple[list[OutcomeResult], list[OutcomeArrival]]:
    """The result of each, and those that are new. The incidents are locked, so that no other transaction applies them meanwhile."""
    known = await timeline.outcomes_recorded(
        tx, [(each.org_id, each.incident_id, each.outcome.key) for each in arrivals]
    )
    results, new = list[OutcomeResult](), list[OutcomeArrival]()
    for each in arrivals:
        key = each.outcome.key
        if not _owns(locked, each):
            results.append(OutcomeResult.INCIDENT_UNKNOWN)
            _log.warning("page_outcome_without_incident", org_id=each.org_id, incident=str(each.incident_id))
        elif key in known:
            results.append(OutcomeResult.DUPLICATE)
        else:
            known.add(key)
            results.append(OutcomeResult.APPLIED)
            new.append(each)
    return results, new


async def _take(
    tx: Tx, effects: Effects, runs: Mapping[UUID, Escalation], steps: Sequence[Step], *, wait: bool
) -> Taking:
    """The applied outcomes, and the incidents that were left alone."""
    # Pages that were sent, or are being retried, change no level: they need no people and no turns.
    moving = [step for step in steps if isinstance(step.event, PageOutcome) and step.event.ends]
    taking = await round_robin.lock_for(tx, round_robin.running_of(moving, runs), wait=wait)
    left = taking.held | taking.apart
    free = [step for step in steps if step.incident_id not in left]
    if free:
        moving = [step for step in moving if step.incident_id not in left]
        known = await DecisionData.read(tx, runs, moving, taking=taking)
        await advance(tx, free, effects, known, entries=False)
    return taking


def _owns(locked: Mapping[UUID, Run], arrival: OutcomeArrival) -> bool:
    run = locked.get(arrival.incident_id)
    return run is not None and run.org_id == arrival.org_id

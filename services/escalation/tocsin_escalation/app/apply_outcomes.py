"""What notify says became of pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_escalation.app import turning
from tocsin_escalation.app.advance import Known, Step, advance
from tocsin_escalation.app.effects import Effects
from tocsin_escalation.app.turning import Taking
from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.domain.events import PageOutcome
from tocsin_escalation.store import escalations, timeline

log = get_logger(__name__)


class OutcomeResult(StrEnum):
    """How an outcome went; PageOutcomeResult's values."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    INCIDENT_UNKNOWN = "incident_unknown"


@dataclass(frozen=True, slots=True)
class Told:
    """One outcome as it came."""

    org_id: str
    incident_id: UUID
    outcome: PageOutcome


async def apply_outcomes(db: Database, effects: Effects, told: Sequence[Told]) -> list[OutcomeResult]:
    """Apply outcomes, each once however often it is told.

    All are one transaction, but those that may page on a policy of which another transaction takes a turn: these wait for
    it by themselves, when the others are committed and hold no lock any more. So do those that may page many schedules
    (`app.sharing`), one incident after the other. Raises DATABASE_UNAVAILABLE, CONFLICT.
    """
    results, taking = await _apply(db, effects, told)
    if taking is not None:
        for incidents in filter(None, (taking.held, *({each} for each in sorted(taking.apart)))):
            # What was applied above is a duplicate now, and keeps its first answer.
            again = [place for place, each in enumerate(told) if each.incident_id in incidents]
            waited, _ = await _apply(db, effects, [told[place] for place in again], wait=True)
            for place, result in zip(again, waited, strict=True):
                results[place] = result
    return results


async def _apply(
    db: Database, effects: Effects, told: Sequence[Told], *, wait: bool = False
) -> tuple[list[OutcomeResult], Taking | None]:
    """With `wait` False, incidents that are held or apart are left as they are, and named in the answer.

    The incident is locked before the timeline is asked what it holds, so that two replicas that are told the same at the
    same time take it one after the other.
    """

    async def work(tx: Tx) -> tuple[list[OutcomeResult], Taking | None]:
        locked = await escalations.lock(tx, list({each.incident_id for each in told}))
        # The lock shows every tenant's rows: an incident named together with another tenant is not there.
        runs = {each.incident_id: locked[each.incident_id] for each in told if _owns(locked, each)}
        known = await timeline.told(tx, [(each.org_id, each.incident_id, each.outcome.key) for each in told])
        results, steps = list[OutcomeResult](), list[Step]()
        for each in told:
            if not _owns(locked, each):
                results.append(OutcomeResult.INCIDENT_UNKNOWN)
                log.warning("page_outcome_without_incident", org_id=each.org_id, incident=str(each.incident_id))
            elif each.outcome.key in known:
                results.append(OutcomeResult.DUPLICATE)
            else:
                known.add(each.outcome.key)
                results.append(OutcomeResult.APPLIED)
                steps.append(Step(each.incident_id, each.outcome, org_id=each.org_id))
        return results, await _take(tx, effects, runs, steps, wait=wait) if steps else None

    return await db.run(None, work)


async def _take(
    tx: Tx, effects: Effects, runs: Mapping[UUID, Escalation], steps: Sequence[Step], *, wait: bool
) -> Taking:
    """What was taken, and the incidents that were left alone."""
    # What was sent, or is tried on, changes no level: most outcomes need no people and no turns.
    moving = [step for step in steps if isinstance(step.event, PageOutcome) and step.event.ends]
    taking = await turning.lock_for(tx, turning.running_of(moving, runs), wait=wait)
    left = taking.held | taking.apart
    free = [step for step in steps if step.incident_id not in left]
    if free:
        moving = [step for step in moving if step.incident_id not in left]
        known = await Known.read(tx, runs, moving, ahead=taking.ahead, locked=taking.locked)
        await advance(tx, free, effects, known, entries=False)
    return taking


def _owns(locked: Mapping[UUID, Escalation], told: Told) -> bool:
    run = locked.get(told.incident_id)
    return run is not None and run.org_id == told.org_id

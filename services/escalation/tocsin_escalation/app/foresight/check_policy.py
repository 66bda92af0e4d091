"""Checks a whole policy, before or after it is saved: its warnings, and who would be paged at each level at some times."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from tocsin_kit.db.pool import Database, Tx

from tocsin_escalation.app.computing import Computations, in_transaction
from tocsin_escalation.app.foresight import foresee, gap_warnings
from tocsin_escalation.app.people import policies, reach
from tocsin_escalation.app.people.reach import Reachability, Reaching
from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.policy import Policy
from tocsin_escalation.domain.simulate import Plan, SimulatedEntry

MOST_STEPS: Final = 500
_LATER: Final = timedelta(days=7)
_LEVELS: Final = (
    NoteKind.POLICY_FALLBACK,
    NoteKind.LEVEL_PAGED,
    NoteKind.LEVEL_SKIPPED,
    NoteKind.LEVEL_PASSED,
    NoteKind.LEVEL_HELD,
    NoteKind.LEVEL_DEFERRED,
)
_ENDS: Final = (NoteKind.REPEATED, NoteKind.HANDED_ON, NoteKind.EXHAUSTED)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The first pass through the levels of an incident that begins at `start`."""

    start: datetime
    steps: tuple[SimulatedEntry, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """About one policy. `starts`: when incidents of this `severity` begin; none: now, and a week later. `gap_days`: how far ahead
    gaps are looked for. `saved`: it exists; otherwise it is a draft, and is checked as CreatePolicy does."""

    policy: Policy
    starts: Sequence[datetime]
    severity: int
    gap_days: int
    saved: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """All results. `reachability_known`: notify has answered."""

    reachability: Reachability
    gaps: gap_warnings.Found
    forecasts: tuple[Forecast, ...]
    reachability_known: bool


async def check_policy(db: Database, notify: Reaching, org_id: str, check: PolicyCheck) -> Checked:
    """Raises INVALID_FIELD for `start_times`, and for a policy that is not `saved` the errors of CreatePolicy."""
    policy = check.policy

    async def checked(tx: Tx, computations: Computations) -> datetime:
        if not check.saved:
            await policies.check(tx, policy, computations, "draft")
        return await tx.now()

    now = await in_transaction(db, org_id, checked)
    starts = check.starts or (now, now + _LATER)
    begins = [foresee.begin(now, start, f"start_times[{number}]") for number, start in enumerate(starts)]
    # Each in its own transaction: each may have schedules of its own to read, for which a transaction ends.
    openings = [
        await in_transaction(db, org_id, partial(foresee.on_draft, policy=policy, begins=each, severity=check.severity))
        for each in begins
    ]
    unreachable, known = await foresee.unreachable_of(notify, org_id, *(opening.there for opening in openings))
    [reachability] = await reach.of_policies(db, notify, org_id, [policy])
    [ahead] = await gap_warnings.of_policies(db, org_id, [policy], check.gap_days)
    forecasts = [forecast(opening.begins, await opening.play(unreachable)) for opening in openings]
    return Checked(reachability, ahead, tuple(forecasts), known)


def forecast(start: datetime, plan: Plan) -> Forecast:
    """The steps of the levels in a plan, up to the first repeat or the end."""
    ends = next((at for at, step in enumerate(plan.steps) if step.note.kind in _ENDS), len(plan.steps))
    found = [step for step in plan.steps[: ends + 1] if step.note.kind in (*_LEVELS, *_ENDS)]
    cut = plan.truncated and ends == len(plan.steps)
    return Forecast(start, tuple(found[:MOST_STEPS]), cut or len(found) > MOST_STEPS)

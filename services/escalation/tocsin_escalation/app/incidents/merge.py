"""Merge incidents, and take them apart again."""

from collections.abc import Mapping
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.errors import invalid, not_found

from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.app.incidents.step_refusals import refused
from tocsin_escalation.domain import merging
from tocsin_escalation.domain.decision import Refusal
from tocsin_escalation.domain.escalation import Escalation, State
from tocsin_escalation.domain.events import Unmerged, UnmergedFrom


def plan_merge(runs: Mapping[UUID, Escalation], source: UUID, target: UUID, actor: str, etag: str) -> list[Step]:
    """The steps of a merge; the first is the source's, the second the target's. A repeat is one step, of the source alone.

    Raises INCIDENT_NOT_FOUND, INVALID_FIELD for the incident itself, INCIDENT_RESOLVED and INCIDENT_STATE of the target.
    """
    into, merged = _known(runs, target), _known(runs, source)
    if source == target:
        raise invalid("into", "must be another incident")
    repeats = merged.state is State.MERGED and merged.merged_into == target
    if not repeats:
        check_target(into)
    parts = [run for run in runs.values() if run.state is State.MERGED and run.merged_into == source]
    events = list(merging.merge_all(merged, into, parts, actor))
    steps = [Step(id, event, etag if id == source else "") for id, event in events]
    return steps[:1] if repeats else steps


def plan_part(runs: Mapping[UUID, Escalation], source: UUID, target: UUID, actor: str) -> list[Step]:
    """Like `plan_merge`, for one of many incidents whose steps are applied together: a source that would be refused raises here.

    Otherwise the target's timeline would show a merge that did not happen.
    """
    run = _known(runs, source)
    if run.state is State.RESOLVED:
        raise refused(run, Refusal.INCIDENT_RESOLVED)
    if run.state is State.MERGED and run.merged_into != target:
        raise refused(run, Refusal.INCIDENT_MERGED)
    return plan_merge(runs, source, target, actor, "")


def check_target(into: Escalation) -> None:
    """Raises INCIDENT_RESOLVED or INCIDENT_STATE for an incident into which none can be merged."""
    refusal = merging.refuse(into)
    if refusal is not None:
        raise refused(into, refusal)


def plan_unmerge(runs: Mapping[UUID, Escalation], source: UUID, actor: str, etag: str) -> list[Step]:
    """The steps that take an incident out of the one into which it was merged; the first is its own. Raises INCIDENT_NOT_FOUND."""
    merged = _known(runs, source)
    steps = [Step(source, Unmerged(actor), etag)]
    if merged.state is State.MERGED and merged.merged_into is not None and merged.merged_into in runs:
        steps.append(Step(merged.merged_into, UnmergedFrom(actor, source)))
    return steps


def _known(runs: Mapping[UUID, Escalation], id: UUID) -> Escalation:
    run = runs.get(id)
    if run is None:
        raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{id}")
    return run

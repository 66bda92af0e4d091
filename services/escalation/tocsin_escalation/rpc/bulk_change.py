"""The request and the answer of BulkChangeIncidents."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from google.protobuf.message import Message
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError, invalid

from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.app.incidents.bulk import Action, Change, Fitting
from tocsin_escalation.app.people import targets
from tocsin_escalation.domain.events import (
    Acknowledged,
    Edited,
    Escalated,
    Event,
    Noted,
    Reassigned,
    RespondersAdded,
    Snoozed,
    Unacknowledged,
)
from tocsin_escalation.rpc import mapping
from tocsin_escalation.rpc.incident_results import results, told

_ACTIONS: Final = {
    pb.BULK_ACTION_ACKNOWLEDGE: Action.ACKNOWLEDGE,
    pb.BULK_ACTION_SNOOZE: Action.SNOOZE,
    pb.BULK_ACTION_RESOLVE: Action.RESOLVE,
    pb.BULK_ACTION_UNACKNOWLEDGE: Action.UNACKNOWLEDGE,
    pb.BULK_ACTION_ESCALATE: Action.ESCALATE,
    pb.BULK_ACTION_REASSIGN: Action.REASSIGN,
    pb.BULK_ACTION_ADD_RESPONDERS: Action.ADD_RESPONDERS,
    pb.BULK_ACTION_RESTART: Action.RESTART,
    pb.BULK_ACTION_SET_SEVERITY: Action.SET_SEVERITY,
    pb.BULK_ACTION_ADD_NOTE: Action.ADD_NOTE,
    pb.BULK_ACTION_MERGE: Action.MERGE,
    pb.BULK_ACTION_UNMERGE: Action.UNMERGE,
}
_NEEDED: Final = {
    Action.SNOOZE: ("snooze_duration",),
    Action.REASSIGN: ("targets", "policy"),
    Action.ADD_RESPONDERS: ("targets",),
    Action.SET_SEVERITY: ("severity",),
    Action.ADD_NOTE: ("note",),
    Action.MERGE: ("into",),
}
"""The detail that an action needs: exactly one of these fields."""
_ALLOWED: Final = {Action.ESCALATE: ("level",)}
_DETAILS: Final = ("snooze_duration", "level", "targets", "policy", "severity", "note", "into")


async def change_from(db: Database, org_id: str, actor: str, request: pb.BulkChangeIncidentsRequest) -> Change:
    """The requested change.

    Raises INVALID_FIELD for a detail that the action does not have, or lacks; and USER_NOT_FOUND, TEAM_NOT_FOUND,
    SCHEDULE_NOT_FOUND and POLICY_NOT_FOUND as INVALID_ARGUMENT.
    """
    action = _ACTIONS[request.action]
    _check_details(action, request)
    into = mapping.incident_id(request.into, "into") if request.into else None
    return Change(action, actor, await _event(db, org_id, actor, action, request), into)


def _check_details(action: Action, request: pb.BulkChangeIncidentsRequest) -> None:
    needed = _NEEDED.get(action, ())
    given = [detail for detail in _DETAILS if _is_set(request, detail)]
    for detail in given:
        if detail not in needed and detail not in _ALLOWED.get(action, ()):
            raise invalid(detail, f"must not be set to {action.value}")
    if needed and not given:
        raise invalid(needed[0], f"is required to {action.value}" + (f", or {needed[1]} is" if needed[1:] else ""))
    if len(given) > 1:
        raise invalid(given[1], f"must not be set with {given[0]}")


def _is_set(request: Message, name: str) -> bool:
    return any(field.name == name for field, _ in request.ListFields())


async def _event(
    db: Database, org_id: str, actor: str, action: Action, request: pb.BulkChangeIncidentsRequest
) -> Event | None:
    match action:
        case Action.ACKNOWLEDGE:
            return Acknowledged(actor)
        case Action.UNACKNOWLEDGE:
            return Unacknowledged(actor)
        case Action.SNOOZE:
            return Snoozed(actor, request.snooze_duration.ToTimedelta())
        case Action.ESCALATE:
            return Escalated(actor, request.level)
        case Action.SET_SEVERITY:
            return Edited(actor, None, request.severity)
        case Action.ADD_NOTE:
            return Noted(actor, request.note)
        case Action.REASSIGN if request.policy:
            policy = await targets.policy(db, org_id, request.policy.removeprefix("policies/"), "policy")
            return Reassigned(actor, policy=policy)
        case Action.REASSIGN | Action.ADD_RESPONDERS:
            named = tuple(map(mapping.target_from, request.targets.targets))
            await targets.must_exist(db, org_id, [("targets.targets", target) for target in named])
            return Reassigned(actor, targets=named) if action is Action.REASSIGN else RespondersAdded(actor, named)
        case _:
            return None


def foreseen(found: Fitting, count: int, token: str) -> pb.BulkChangeIncidentsResponse:
    """The answer of a dry run."""
    return pb.BulkChangeIncidentsResponse(
        results=told((row.run, row.update_time) for row in found.rows),
        more=found.end is not None,
        next_page_token=token,
        matching_count=count,
    )


def changed(
    action: Action, ids: Sequence[UUID], answers: Sequence[Advanced | TocsinError], token: str
) -> pb.BulkChangeIncidentsResponse:
    """The answer of a call that changed them."""
    # All of them were unresolved when they were found, and ingest's own event about this resolve may have arrived first.
    resolved = action is Action.RESOLVE
    return pb.BulkChangeIncidentsResponse(
        results=results(ids, answers),
        more=bool(token),
        next_page_token=token,
        changed_count=sum(isinstance(answer, Advanced) and (resolved or not answer.already) for answer in answers),
        failed_count=sum(isinstance(answer, TocsinError) for answer in answers),
    )

"""Contract messages to domain and back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin.escalation.v1 import directory_service_pb2, incident_pb2, policy_service_pb2
from tocsin.type.v1 import target_pb2
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import duration, timestamp

from tocsin_escalation.app.people.reach import Reachability
from tocsin_escalation.domain.conditions import ALWAYS, Condition
from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.escalation import Escalation, Reached, State
from tocsin_escalation.domain.policy import GapChoice, Level, Policy, Target, TargetKind
from tocsin_escalation.domain.urgencies import Urgency, UrgencyRule
from tocsin_escalation.domain.warnings import Warned
from tocsin_escalation.rpc.window_mapping import window_from, window_to
from tocsin_escalation.store.incidents.timeline import Entry
from tocsin_escalation.store.people.directory import TeamRow, UserRow
from tocsin_escalation.store.people.policies import PolicyRow

STATES: Final = {
    State.TRIGGERED: incident_pb2.INCIDENT_STATE_TRIGGERED,
    State.ACKNOWLEDGED: incident_pb2.INCIDENT_STATE_ACKNOWLEDGED,
    State.SNOOZED: incident_pb2.INCIDENT_STATE_SNOOZED,
    State.EXHAUSTED: incident_pb2.INCIDENT_STATE_EXHAUSTED,
    State.RESOLVED: incident_pb2.INCIDENT_STATE_RESOLVED,
    State.MERGED: incident_pb2.INCIDENT_STATE_MERGED,
}
REACHED: Final = {
    Reached.UNKNOWN: incident_pb2.REACHED_UNKNOWN,
    Reached.SOMEBODY: incident_pb2.REACHED_SOMEBODY,
    Reached.NOBODY: incident_pb2.REACHED_NOBODY,
}
REACHED_NAMES: Final = {value: key.value for key, value in REACHED.items()}
STATE_NAMES: Final = {value: key.value for key, value in STATES.items()}


TIMELINE_KINDS: Final = {kind.value: incident_pb2.TimelineKind.Value(f"TIMELINE_KIND_{kind.name}") for kind in NoteKind}
KINDS: Final = frozenset(TargetKind)
GAP_CHOICES: Final = {
    GapChoice.SKIP: policy_service_pb2.GAP_CHOICE_SKIP,
    GapChoice.HOLD: policy_service_pb2.GAP_CHOICE_HOLD,
    GapChoice.FALLBACK: policy_service_pb2.GAP_CHOICE_FALLBACK,
}
URGENCIES: Final = {
    Urgency.HIGH: policy_service_pb2.PAGE_URGENCY_HIGH,
    Urgency.LOW: policy_service_pb2.PAGE_URGENCY_LOW,
    Urgency.DEFERRED: policy_service_pb2.PAGE_URGENCY_DEFERRED,
}
URGENCY_NAMES: Final = {value: key for key, value in URGENCIES.items()}
MODES: Final = {False: policy_service_pb2.LEVEL_MODE_ALL, True: policy_service_pb2.LEVEL_MODE_IN_TURN}
GAP_CHOICE_NAMES: Final = {value: key for key, value in GAP_CHOICES.items()}


def incident_id(name: str, field: str = "name") -> UUID:
    """The id in `incidents/{uuid}`."""
    return parse_uuid_name(name, "incidents", field=field)


def incident(run: Escalation, update_time: datetime | None = None) -> incident_pb2.Incident:
    """An incident as responders see it."""
    due = run.timer.due_time if run.timer else None
    return incident_pb2.Incident(
        name=f"incidents/{run.incident_id}",
        title=run.facts.title,
        source=run.facts.source,
        severity=run.facts.severity,  # type: ignore[arg-type]  # the number is the enum's own
        state=STATES.get(run.state, incident_pb2.INCIDENT_STATE_UNSPECIFIED),
        policy=f"policies/{run.policy.id}" if run.policy else "",
        on_fallback_policy=run.on_fallback_policy,
        team=f"teams/{run.policy.team}" if run.policy and run.policy.team else "",
        level=run.level,
        repeat=run.repeat,
        generation=run.generation,
        assignees=[f"users/{user}" for user in run.assignees],
        labels=run.facts.labels,
        alert_count=run.facts.alert_count,
        integration=run.facts.integration,
        create_time=timestamp(run.facts.create_time),
        update_time=timestamp(update_time),
        acknowledge_time=timestamp(run.acknowledge_time),
        acknowledged_by=run.acknowledged_by,
        snooze_end_time=timestamp(due) if run.state is State.SNOOZED else None,
        resolve_time=timestamp(run.resolve_time),
        resolved_by=run.resolved_by,
        next_step_time=timestamp(due),
        etag=etag(run.version),
        links=[incident_pb2.IncidentLink(href=href, text=text) for href, text in run.facts.links],
        reached=REACHED.get(run.reached, incident_pb2.REACHED_UNSPECIFIED),
        merged_into=f"incidents/{run.merged_into}" if run.merged_into else "",
    )


def timeline_entry(entry: Entry) -> incident_pb2.TimelineEntry:
    """A timeline entry, for the contract."""
    return incident_pb2.TimelineEntry(
        name=f"timelineEntries/{entry.id}",
        create_time=timestamp(entry.create_time),
        kind=TIMELINE_KINDS.get(entry.kind, incident_pb2.TIMELINE_KIND_UNSPECIFIED),
        actor=entry.actor,
        message=entry.message,
        level=entry.level,
        repeat=entry.repeat,
        generation=entry.generation,
        paged_users=[f"users/{user}" for user in entry.paged_users],
        pages=[f"pages/{page}" for page in entry.pages],
        lateness_ms=entry.lateness_ms,
        state=STATES.get(State(entry.state), incident_pb2.INCIDENT_STATE_UNSPECIFIED),
    )


def target_from(message: target_pb2.Target) -> Target:
    """A target of the contract."""
    kind = message.WhichOneof("kind")
    assert kind is not None, "the contract requires one"
    return Target(TargetKind(kind), getattr(message, kind).partition("/")[2])


def target_to(target: Target) -> target_pb2.Target:
    """A target for the contract."""
    if target.kind not in KINDS:
        return target_pb2.Target()  # one that only a newer version knows
    return target_pb2.Target(**{target.kind.value: str(target)})


def policy_from(id: str, message: policy_service_pb2.Policy) -> Policy:
    """A policy of the contract; its shape has been checked."""
    return Policy(
        id=id,
        levels=tuple(
            Level(
                tuple(map(target_from, level.targets)),
                level.timeout.ToTimedelta(),
                level.mode == policy_service_pb2.LEVEL_MODE_IN_TURN,
                level.turn_timeout.ToTimedelta() if level.HasField("turn_timeout") else None,
                _condition_from(level.condition) if level.HasField("condition") else ALWAYS,
                level.repeat_count,
                level.repeat_interval.ToTimedelta() if level.HasField("repeat_interval") else None,
            )
            for level in message.levels
        ),
        repeat_count=message.repeat_count,
        fallback_target=target_from(message.fallback_target) if message.HasField("fallback_target") else None,
        ack_timeout=message.ack_timeout.ToTimedelta() if message.HasField("ack_timeout") else None,
        team=message.team.removeprefix("teams/"),
        status_updates=message.status_updates != policy_service_pb2.STATUS_UPDATES_NONE,
        page_raised_urgency=message.urgency_raise != policy_service_pb2.URGENCY_RAISE_NOTE,
        on_gap=GAP_CHOICE_NAMES.get(message.on_gap, GapChoice.SKIP),
        next_policy=message.next_policy.removeprefix("policies/"),
        unresolved_after=message.unresolved_after.ToTimedelta() if message.HasField("unresolved_after") else None,
        unresolved_target=target_from(message.unresolved_target) if message.HasField("unresolved_target") else None,
        urgency_rules=tuple(
            UrgencyRule(
                URGENCY_NAMES[rule.urgency], _condition_from(rule.condition) if rule.HasField("condition") else ALWAYS
            )
            for rule in message.urgency_rules
        ),
    )


def _condition_from(message: policy_service_pb2.LevelCondition) -> Condition:
    return Condition(tuple(sorted(message.severities)), tuple(map(window_from, message.windows)), message.time_zone)


def _condition_to(condition: Condition) -> policy_service_pb2.LevelCondition:
    return policy_service_pb2.LevelCondition(
        severities=condition.severities,  # type: ignore[arg-type]  # the numbers are the enum's own
        windows=list(map(window_to, condition.windows)),
        time_zone=condition.zone,
    )


def policy_to(row: PolicyRow) -> policy_service_pb2.Policy:
    """A policy for the contract."""
    policy = row.policy
    updates = (
        policy_service_pb2.STATUS_UPDATES_PAGED if policy.status_updates else policy_service_pb2.STATUS_UPDATES_NONE
    )
    return policy_service_pb2.Policy(
        name=f"policies/{policy.id}",
        display_name=row.display_name,
        team=f"teams/{policy.team}" if policy.team else "",
        levels=[
            policy_service_pb2.Level(
                targets=list(map(target_to, level.targets)),
                timeout=duration(level.timeout),
                mode=MODES[level.in_turn],
                turn_timeout=duration(level.turn_timeout),
                condition=None if level.condition is ALWAYS else _condition_to(level.condition),
                repeat_count=level.repeats,
                repeat_interval=duration(level.repeat_interval),
            )
            for level in policy.levels
        ],
        repeat_count=policy.repeat_count,
        fallback_target=target_to(policy.fallback_target) if policy.fallback_target else None,
        ack_timeout=duration(policy.ack_timeout),
        tenant_fallback=row.tenant_fallback,
        status_updates=updates,
        urgency_raise=policy_service_pb2.URGENCY_RAISE_PAGE
        if policy.page_raised_urgency
        else policy_service_pb2.URGENCY_RAISE_NOTE,
        on_gap=GAP_CHOICES.get(policy.on_gap, policy_service_pb2.GAP_CHOICE_UNSPECIFIED),
        next_policy=f"policies/{policy.next_policy}" if policy.next_policy else "",
        unresolved_after=duration(policy.unresolved_after),
        unresolved_target=target_to(policy.unresolved_target) if policy.unresolved_target else None,
        urgency_rules=[
            policy_service_pb2.UrgencyRule(
                urgency=URGENCIES.get(rule.urgency, policy_service_pb2.PAGE_URGENCY_UNSPECIFIED),
                condition=None if rule.condition is ALWAYS else _condition_to(rule.condition),
            )
            for rule in policy.urgency_rules
        ],
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
    )


def warnings_to(reachability: Reachability) -> list[policy_service_pb2.PolicyWarning]:
    """What a policy warns of at present."""
    warnings = [
        *_warnings(policy_service_pb2.POLICY_WARNING_KIND_UNREACHABLE, reachability.warned),
        *_warnings(policy_service_pb2.POLICY_WARNING_KIND_TURN, reachability.turns),
        *_warnings(policy_service_pb2.POLICY_WARNING_KIND_CONDITION, reachability.conditions),
        *_warnings(policy_service_pb2.POLICY_WARNING_KIND_NEXT_POLICY, reachability.following),
    ]
    if not reachability.complete:
        unknown = "whether its targets can be reached is not known: notify did not answer in time"
        kind = policy_service_pb2.POLICY_WARNING_KIND_UNKNOWN
        warnings.append(policy_service_pb2.PolicyWarning(kind=kind, message=unknown))
    return warnings


def gap_warnings_to(found: Sequence[Warned] | None) -> list[policy_service_pb2.PolicyWarning]:
    """What a policy warns of the coming days; None when that was not looked at."""
    if found is None:
        unknown = (
            "whether its levels have gaps in the coming days is not known: its schedules are too many or too large to be looked at "
            "at once; ListCoverage with by_policy tells"
        )
        kind = policy_service_pb2.POLICY_WARNING_KIND_UNKNOWN
        return [policy_service_pb2.PolicyWarning(kind=kind, message=unknown)]
    return _warnings(policy_service_pb2.POLICY_WARNING_KIND_GAP, found)


def _warnings(
    kind: policy_service_pb2.PolicyWarningKind.ValueType, found: Sequence[Warned]
) -> list[policy_service_pb2.PolicyWarning]:
    return [
        policy_service_pb2.PolicyWarning(
            kind=kind,
            level=warned.level,
            target=target_to(warned.target) if warned.target else None,
            message=warned.message,
        )
        for warned in found
    ]


def user_to(row: UserRow) -> directory_service_pb2.User:
    """A user for the contract."""
    return directory_service_pb2.User(
        name=f"users/{row.id}",
        display_name=row.display_name,
        time_zone=row.time_zone,
        disabled=row.disabled,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
    )


def team_to(row: TeamRow) -> directory_service_pb2.Team:
    """A team for the contract."""
    return directory_service_pb2.Team(
        name=f"teams/{row.id}",
        display_name=row.display_name,
        members=[f"users/{user}" for user in row.members],
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
    )

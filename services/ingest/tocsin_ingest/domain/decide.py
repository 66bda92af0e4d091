"""What one message does: the whole deduplication policy, with no clock and no I/O."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import assert_never
from uuid import UUID

from tocsin_ingest.domain.events import Acknowledged, AlertsAdded, Event, Opened, Resolved
from tocsin_ingest.domain.severity import Severity, worst


class Action(IntEnum):
    """What the sender wants, numbered as `tocsin.ingest.v1.AlertAction` (a test compares them)."""

    TRIGGER = 1
    ACKNOWLEDGE = 2
    RESOLVE = 3


class Outcome(IntEnum):
    """What became of a message, numbered as `tocsin.ingest.v1.AlertOutcome` (a test compares them)."""

    OPENED = 1
    DEDUPLICATED = 2
    GROUPED = 3
    RESOLVED = 4
    SUPPRESSED = 5
    IGNORED = 6
    ACKNOWLEDGED = 7


class AlertState(StrEnum):
    """An alert is live while it is firing or suppressed; at most one alert of a key is live."""

    FIRING = "firing"
    SUPPRESSED = "suppressed"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Message:
    """One alert as it arrived, routed."""

    integration_id: str
    dedup_key: str
    action: Action
    actor: str
    group_key: str
    policy: str
    severity: Severity
    suppress: bool
    summary: str
    source: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Alert:
    """One firing of one key, with its newest message's text."""

    id: UUID
    integration_id: str
    dedup_key: str
    state: AlertState
    incident_id: UUID | None
    severity: Severity
    summary: str
    source: str
    content: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Incident:
    """What people react to. Open exactly while an alert of it is firing; its severity never falls while it is open."""

    id: UUID
    integration_id: str
    group_key: str
    open: bool
    title: str
    source: str
    severity: Severity
    policy: str
    content: bytes
    alert_count: int
    firing_count: int
    resolved_by: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The alert and incident as they are after the message (None: there is none), and what escalation must hear."""

    outcome: Outcome
    alert: Alert | None = None
    incident: Incident | None = None
    event: Event | None = None

    @property
    def incident_resolved(self) -> bool:
        """Whether this message closed the incident."""
        return isinstance(self.event, Resolved)


def decide(message: Message, alert: Alert | None, incident: Incident | None, new_id: Callable[[], UUID]) -> Decision:
    """What the message does.

    `alert` is the live alert of its key. `incident` is that alert's incident when it is firing, else the open incident
    of the message's group key. Either may be None. `new_id` gives fresh ids.
    """
    match message.action:
        case Action.TRIGGER:
            return _trigger(message, alert, incident, new_id)
        case Action.ACKNOWLEDGE:
            if alert is None or incident is None or alert.state is not AlertState.FIRING:
                return Decision(Outcome.IGNORED)
            return Decision(Outcome.ACKNOWLEDGED, alert, incident, Acknowledged(message.actor))
        case Action.RESOLVE:
            return _resolve(message, alert, incident)
        case _:
            assert_never(message.action)


def _trigger(message: Message, alert: Alert | None, incident: Incident | None, new_id: Callable[[], UUID]) -> Decision:
    if alert is not None and alert.state is AlertState.FIRING:
        assert incident is not None
        # A firing alert stays where it is even when a changed rule would route it elsewhere: people are on it there.
        joined = _joined(incident, message, new_keys=0)
        return Decision(
            Outcome.DEDUPLICATED, _heard(alert, message), joined, _added(incident, joined, message, new_keys=0)
        )
    if message.suppress:
        kept = _heard(alert, message) if alert else _first(message, AlertState.SUPPRESSED, None, new_id)
        return Decision(Outcome.SUPPRESSED, kept)
    if incident is None:
        incident = Incident(
            id=new_id(),
            integration_id=message.integration_id,
            group_key=message.group_key,
            open=True,
            title=message.summary,
            source=message.source,
            severity=message.severity,
            policy=message.policy,
            content=message.content,
            alert_count=1,
            firing_count=1,
        )
        opened = Opened(
            message.summary, message.source, message.severity, message.policy, message.integration_id, message.content
        )
        return Decision(Outcome.OPENED, _fires(alert, message, incident.id, new_id), incident, opened)
    joined = _joined(incident, message, new_keys=1)
    return Decision(
        Outcome.GROUPED,
        _fires(alert, message, incident.id, new_id),
        joined,
        _added(incident, joined, message, new_keys=1),
    )


def _resolve(message: Message, alert: Alert | None, incident: Incident | None) -> Decision:
    if alert is None:
        return Decision(Outcome.IGNORED)
    over = replace(alert, state=AlertState.RESOLVED)
    if alert.state is AlertState.SUPPRESSED:
        return Decision(Outcome.RESOLVED, over)
    assert incident is not None
    if incident.firing_count > 1:
        return Decision(Outcome.RESOLVED, over, replace(incident, firing_count=incident.firing_count - 1))
    closed = close(incident, message.actor)
    return Decision(Outcome.RESOLVED, over, closed, Resolved(message.actor))


def close(incident: Incident, actor: str) -> Incident:
    """The incident after `actor` resolved it; its firing alerts are resolved with it."""
    return replace(incident, open=False, firing_count=0, resolved_by=actor)


def _first(message: Message, state: AlertState, incident_id: UUID | None, new_id: Callable[[], UUID]) -> Alert:
    return Alert(
        id=new_id(),
        integration_id=message.integration_id,
        dedup_key=message.dedup_key,
        state=state,
        incident_id=incident_id,
        severity=message.severity,
        summary=message.summary,
        source=message.source,
        content=message.content,
        count=1,
    )


def _fires(alert: Alert | None, message: Message, incident_id: UUID, new_id: Callable[[], UUID]) -> Alert:
    # A suppressed alert whose rule is gone begins to fire as the same alert: it is the same condition all along.
    if alert is None:
        return _first(message, AlertState.FIRING, incident_id, new_id)
    return replace(_heard(alert, message), state=AlertState.FIRING, incident_id=incident_id)


def _heard(alert: Alert, message: Message) -> Alert:
    return replace(
        alert,
        severity=message.severity,
        summary=message.summary,
        source=message.source,
        content=message.content,
        count=alert.count + 1,
    )


def _joined(incident: Incident, message: Message, *, new_keys: int) -> Incident:
    return replace(
        incident,
        severity=worst(incident.severity, message.severity),
        alert_count=incident.alert_count + 1,
        firing_count=incident.firing_count + new_keys,
    )


def _added(before: Incident, after: Incident, message: Message, *, new_keys: int) -> AlertsAdded:
    return AlertsAdded(
        alert_count=after.alert_count,
        severity=after.severity,
        summary=message.summary,
        new_keys=new_keys,
        worse=after.severity is not before.severity,
    )

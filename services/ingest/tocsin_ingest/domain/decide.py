"""The effect of one message: all deduplication rules, with no clock and no I/O."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, assert_never
from uuid import UUID

from tocsin_ingest.domain.decision import Alert, AlertState, Decision, DecisionRecord, Existing, Incident, Outcome
from tocsin_ingest.domain.events import Acknowledged, AlertsAdded, Noted, Opened, Resolved
from tocsin_ingest.domain.group_windows import Passed, is_over
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.pauses import Pause
from tocsin_ingest.domain.severity import worst
from tocsin_ingest.domain.silences import Hold
from tocsin_ingest.domain.thresholds import Below
from tocsin_ingest.domain.values import value

_IGNORED: Final = Decision(Outcome.IGNORED)
_MOST_RECORDS: Final = 7
"""That one batch stores of an alert, beside the newest."""


def decide(message: Message, existing: Existing, now: datetime | None, new_id: Callable[[], UUID]) -> Decision:
    """The effect of the message. `now`: needed for messages with a pause or a group window. `new_id` returns new ids."""
    alert, incident = existing.alert, existing.incident
    if message.seen is not None:
        return _look_again(message, existing, now, new_id)
    # Most messages state no time, and are not asked about it.
    if (message.started is not None or message.ended is not None) and _is_late(message, alert, existing.ended):
        return _IGNORED
    match message.action:
        case Action.TRIGGER:
            return _trigger(message, alert, existing, now, new_id)
        case Action.ACKNOWLEDGE:
            if alert is None or incident is None or alert.state is not AlertState.FIRING:
                return _IGNORED
            return Decision(Outcome.ACKNOWLEDGED, alert, incident, Acknowledged(message.actor))
        case Action.NOTE:
            if alert is None or incident is None or alert.state is not AlertState.FIRING:
                return _IGNORED
            return Decision(Outcome.NOTED, alert, incident, Noted(message.actor, message.summary))
        case Action.RESOLVE:
            return _resolve(message, alert, incident)
        case _:
            assert_never(message.action)


def _is_late(message: Message, alert: Alert | None, ended: datetime | None) -> bool:
    """Whether the message belongs to a firing that is over: a copy of its trigger that comes after its resolve, or its resolve
    that comes after the trigger of the next firing.

    Several senders may report one firing with different starts (two Prometheus servers), so a resolve is compared by the end.
    """
    if message.action is Action.TRIGGER:
        return alert is None and ended is not None and message.started is not None and message.started <= ended
    if message.action is Action.RESOLVE and alert is not None:
        return alert.started is not None and message.ended is not None and message.ended <= alert.started
    return False


def _look_again(message: Message, existing: Existing, now: datetime | None, new_id: Callable[[], UUID]) -> Decision:
    """A held or paused alert for which that may be over. An alert that was triggered or resolved in the meantime has been decided
    again."""
    alert = existing.alert
    if alert is None or alert.state is not AlertState.SUPPRESSED or alert.count != message.seen:
        return _IGNORED
    if alert.hold is None and alert.pause is None:
        return _IGNORED
    if message.action is Action.RESOLVE:
        return _resolve(message, alert, existing.incident)
    # It is no message of a sender, so it is not counted.
    return _trigger(message, replace(alert, count=alert.count - 1), existing, now, new_id)


def _trigger(
    message: Message, alert: Alert | None, existing: Existing, now: datetime | None, new_id: Callable[[], UUID]
) -> Decision:
    """In the order of the contract (AlertService): the first case that applies decides."""
    incident, hold = existing.incident, existing.hold
    if alert is not None and alert.state is AlertState.FIRING:
        assert incident is not None
        # It stays in its incident even when a changed rule would route it elsewhere now: people work on it there.
        return _join(Outcome.DEDUPLICATED, message, _repeated(alert, message), incident, new_keys=0)

    if message.suppress:
        return Decision(
            Outcome.SUPPRESSED, _triggered(Outcome.SUPPRESSED, message, alert, None, _NO_REASON, now, new_id)
        )
    pause = None if message.pause is None else _pause(message, message.pause, alert, now)
    if hold is not None:
        held = _triggered(Outcome.SILENCED, message, alert, None, _Why(hold, pause), now, new_id)
        return Decision(Outcome.SILENCED, held)
    passed = None
    if incident is not None:
        if not is_over(message.group_window, existing.joined, now):
            fires = _triggered(Outcome.GROUPED, message, alert, incident.id, _NO_REASON, now, new_id)
            return _join(Outcome.GROUPED, message, fires, incident, new_keys=1)
        assert existing.joined is not None
        passed = Passed(incident.id, existing.joined)
    if pause is not None:
        paused = _triggered(Outcome.PAUSED, message, alert, None, _Why(pause=pause, passed=passed), now, new_id)
        return Decision(Outcome.PAUSED, paused, passed=passed)
    if message.threshold is not None:
        assert existing.tally is not None
        triggers = existing.tally.total
        if triggers < message.threshold.count:
            why = _Why(below=Below(message.group_key, message.threshold, triggers, message.labels), passed=passed)
            kept = _triggered(Outcome.BELOW_THRESHOLD, message, alert, None, why, now, new_id)
            return Decision(Outcome.BELOW_THRESHOLD, kept, passed=passed)
    opened = Incident(new_id(), message.group_key, message.severity, 1, 1, first=message)
    why = _NO_REASON if passed is None else _Why(passed=passed)
    fires = _triggered(Outcome.OPENED, message, alert, opened.id, why, now, new_id)
    return Decision(Outcome.OPENED, fires, opened, Opened(message, message.severity), passed)


def _pause(message: Message, lasts: timedelta, alert: Alert | None, now: datetime | None) -> Pause | None:
    """The remaining pause of an alert that does not fire; None: it is over.

    It begins with the firing. An alert that is kept for another reason without a pause has had its pause, or fired before it had
    one.
    """
    assert now is not None
    if alert is None or (alert.hold is None and alert.pause is None and alert.below is None):
        return Pause(now + lasts, message.labels)
    if alert.pause is None or alert.pause.until <= now:
        return None
    return Pause(alert.pause.until, message.labels)


def _resolve(message: Message, alert: Alert | None, incident: Incident | None) -> Decision:
    if alert is None:
        return _IGNORED
    over = Alert(
        alert.id,
        alert.key,
        AlertState.RESOLVED,
        alert.incident_id,
        alert.count,
        alert.newest,
        alert.started,
        records=alert.records,
    )
    if alert.state is AlertState.SUPPRESSED:
        return Decision(Outcome.RESOLVED, over)
    assert incident is not None
    last = incident.firing_count == 1
    after = Incident(
        incident.id,
        incident.group_key,
        incident.severity,
        incident.alert_count,
        incident.firing_count - 1,
        incident.first,
        message.actor if last else "",
    )
    return Decision(Outcome.RESOLVED, over, after, Resolved(message.actor, message.because) if last else None)


def _join(outcome: Outcome, message: Message, alert: Alert, incident: Incident, *, new_keys: int) -> Decision:
    severity = worst(incident.severity, message.severity)
    after = Incident(
        incident.id,
        incident.group_key,
        severity,
        incident.alert_count + 1,
        incident.firing_count + new_keys,
        incident.first,
    )
    worse = severity is not incident.severity
    return Decision(outcome, alert, after, AlertsAdded(after.alert_count, severity, message.summary, new_keys, worse))


def _repeated(alert: Alert, message: Message) -> Alert:
    return Alert(
        alert.id,
        alert.key,
        alert.state,
        alert.incident_id,
        alert.count + 1,
        message,
        _earlier(alert.started, message.started),
        records=alert.records,
    )


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)


@value
class _Why:
    """Why a trigger had its outcome: what keeps its alert from firing, and the incident that it came too late for."""

    hold: Hold | None = None
    pause: Pause | None = None
    below: Below | None = None
    passed: Passed | None = None


_NO_REASON: Final = _Why()


def _triggered(
    outcome: Outcome,
    message: Message,
    alert: Alert | None,
    incident_id: UUID | None,
    why: _Why,
    now: datetime | None,
    new_id: Callable[[], UUID],
) -> Alert:
    """The alert after a trigger that found it not firing. With an incident it fires, without one it is suppressed."""
    # A suppressed alert whose rule was removed begins to fire as the same alert: its condition never ended.
    alert_id, count = (alert.id, alert.count + 1) if alert else (new_id(), 1)
    started = _earlier(alert.started if alert else None, message.started)
    state = AlertState.SUPPRESSED if incident_id is None else AlertState.FIRING
    records = alert.records if alert else ()
    if alert is None or not _goes_on(outcome, alert, why.hold):
        if why is _NO_REASON:
            record = _plain(outcome, message.route, now)
        else:
            record = DecisionRecord(outcome, message.route, now, why.hold, why.pause, why.below, why.passed)
        records = (*records[-_MOST_RECORDS:], record) if records else (record,)
    kept = (why.hold, why.pause, why.below, records)
    return Alert(alert_id, message.key, state, incident_id, count, message, started, *kept)


@lru_cache(4096)
def _plain(outcome: Outcome, route: bytes, now: datetime | None) -> DecisionRecord:
    """One object for all equal ones: a batch has one time."""
    return DecisionRecord(outcome, route, now)


def _goes_on(outcome: Outcome, alert: Alert, hold: Hold | None) -> bool:
    """Whether the alert is kept for the same reason as before. Such repeats are not recorded one by one."""
    match outcome:
        case Outcome.SILENCED:
            return alert.hold is not None and hold is not None and alert.hold.silence_id == hold.silence_id
        case Outcome.PAUSED:
            return alert.hold is None and alert.pause is not None
        case Outcome.BELOW_THRESHOLD:
            return alert.below is not None
        case Outcome.SUPPRESSED:
            return alert.hold is None and alert.pause is None and alert.below is None
    return False

"""For how long a trigger repeats the firing alert of its key, and the effect of a later one on that alert.

The incident of the earlier alert stays open: its sender has not resolved it, and people who work on it, or are still to be paged
for it, must not lose it. So that alert stays one of its `firing_count`.
"""

from datetime import datetime
from uuid import UUID

from tocsin_ingest.domain.decision import Alert, AlertState, Decision, DecisionRecord, Earlier, Outcome
from tocsin_ingest.domain.events import Noted
from tocsin_ingest.domain.message import Action, Message


def ends(
    message: Message, alert: Alert | None, heard: datetime | None, ended: datetime | None, now: datetime | None
) -> Earlier | None:
    """The alert that the message ends because it comes too late to repeat it; None: no alert ends. The end of the window is not
    part of it.

    `alert`, `ended` and `now` are those of `decide`; `heard`: when the newest trigger of the alert came. An alert without an
    incident has no window: its pause would begin again with each repeat, and never end.
    """
    if message.dedup_window is None or message.action is not Action.TRIGGER or message.seen is not None:
        return None
    if alert is None or alert.incident_id is None:
        return None
    if ended is not None and message.started is not None and message.started <= ended:
        # A late copy from the previous firing: it says nothing new about the key.
        return None
    assert now is not None
    assert heard is not None
    return Earlier(alert.id, alert.incident_id, heard) if now - heard >= message.dedup_window else None


def over(alert: Alert, message: Message, later_alert: UUID, now: datetime) -> Alert:
    """The earlier alert, which the message ended: the message is the first one of the later alert."""
    record = DecisionRecord(Outcome.RESOLVED, message.route, now, later_alert=later_alert)
    return Alert(
        *(alert.id, alert.key, AlertState.RESOLVED, alert.incident_id, alert.count, alert.newest, alert.started),
        records=(record,),
    )


def anew(decision: Decision, earlier: Earlier, now: datetime) -> Decision:
    """A decision that was made as if the earlier alert had not fired, completed with that alert."""
    alert = decision.alert
    assert alert is not None, "a trigger that ends an alert begins one"
    [record] = alert.records
    record = DecisionRecord(
        record.outcome, record.route, now, record.hold, record.pause, record.below, record.passed, earlier
    )
    begun = Alert(
        *(alert.id, alert.key, alert.state, alert.incident_id, alert.count, alert.newest, alert.started),
        *(alert.hold, alert.pause, alert.below, (record,)),
    )
    return Decision(decision.outcome, begun, decision.incident, decision.event, decision.passed, earlier)


def left(message: Message, decision: Decision) -> Noted:
    """The event for the incident of the earlier alert."""
    goes_on = "" if decision.incident is None else f" in incidents/{decision.incident.id}"
    return Noted(
        message.actor,
        f"{message.dedup_key!r} fired again, too late to repeat its alert here: a new alert began{goes_on}. "
        "No other alert joins this incident, and it stays open until a person resolves it",
    )


def opened(message: Message, earlier: Earlier) -> Noted:
    """The event for the incident that the later alert opened."""
    return Noted(
        message.actor, f"{message.dedup_key!r} fired before in incidents/{earlier.incident_id}, which is still open"
    )

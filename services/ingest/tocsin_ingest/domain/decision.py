"""What is decided about a message, and what it is decided on: alerts, incidents, and the outcome."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from tocsin_ingest.domain.events import Event, Resolved
from tocsin_ingest.domain.group_windows import Passed
from tocsin_ingest.domain.message import Message
from tocsin_ingest.domain.pauses import Pause
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.silences import Hold
from tocsin_ingest.domain.thresholds import Below, Tally
from tocsin_ingest.domain.values import value
from tocsin_ingest.domain.words import Word


class Outcome(IntEnum):
    """The outcome of a message, numbered as `tocsin.ingest.v1.AlertOutcome` (a test compares them)."""

    OPENED = 1
    DEDUPLICATED = 2
    GROUPED = 3
    RESOLVED = 4
    SUPPRESSED = 5
    IGNORED = 6
    ACKNOWLEDGED = 7
    SILENCED = 8
    PAUSED = 9
    BELOW_THRESHOLD = 10
    NOTED = 11


class AlertState(Word):
    """An alert is live while it is firing or suppressed; at most one alert of a key is live."""

    FIRING = "firing"
    SUPPRESSED = "suppressed"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Earlier:
    """An alert that ended because the next trigger of its key came too late to repeat it. `heard`: when its newest trigger came."""

    alert_id: UUID
    incident_id: UUID
    heard: datetime


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision about an alert, stored for explanations. `route`: see `Message`. `at`: the time of the decision, if it was read.
    `passed`: the open incident of its group that it came too late for. `earlier`: the alert that ended when this one began;
    `later_alert`: the one that began when this one ended."""

    outcome: Outcome
    route: bytes
    at: datetime | None = None
    hold: Hold | None = None
    pause: Pause | None = None
    below: Below | None = None
    passed: Passed | None = None
    earlier: Earlier | None = None
    later_alert: UUID | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing but its outcome, route and time is to be told."""
        return (self.hold or self.pause or self.below or self.passed or self.earlier or self.later_alert) is None


@value
class Alert:
    """One firing of one key. `newest` is its newest trigger since the snapshot; None: what is stored still holds.

    `started`: when it began by its sender's clock; the earliest reported time. `hold`, `pause` and `below`: what keeps a
    suppressed alert from opening an incident, possibly the first two together; None: a rule suppresses it.
    """

    id: UUID
    key: UUID
    state: AlertState
    incident_id: UUID | None
    count: int
    newest: Message | None = None
    started: datetime | None = None
    hold: Hold | None = None
    pause: Pause | None = None
    below: Below | None = None
    records: tuple[DecisionRecord, ...] = ()
    """The newest decisions since the snapshot that were no repeats."""

    def counted(self, more: int, newest: Message | None) -> "Alert":
        """It stands for so many more messages, of which this is the newest. Written out: `replace` takes several times as long."""
        return Alert(
            *(self.id, self.key, self.state, self.incident_id, self.count + more, newest, self.started),
            *(self.hold, self.pause, self.below, self.records),
        )


@value
class Incident:
    """The object that people react to. Open exactly while one of its alerts fires, or has ended without being resolved
    (`tocsin_ingest.domain.dedup_windows`): these are its `firing_count`. Its severity never falls.

    `group_key`: alerts with this key join it. If it is the incident's own id, which is no group's key, none do. `first` is the
    message that opened it, when that was since the snapshot.
    """

    id: UUID
    group_key: UUID
    severity: Severity
    alert_count: int
    firing_count: int
    first: Message | None = None
    resolved_by: str = ""

    @property
    def open(self) -> bool:
        """Whether alerts may join it."""
        return self.firing_count > 0

    def passed(self) -> "Incident":
        """Its group continues in another incident: no further alert joins it. Alerts that fire in it stay."""
        return replace(self, group_key=self.id)

    def counted(self, more: int) -> "Incident":
        """So many more alerts have joined it, each of which fires in it already."""
        alert_count = self.alert_count + more
        return Incident(
            *(self.id, self.group_key, self.severity, alert_count, self.firing_count, self.first, self.resolved_by)
        )


@value
class Decision:
    """The alert and incident as they are after the message (None: there is none), and the event for escalation. `passed`: the
    open incident of its group that it came too late for. `earlier`: the alert that ended with it."""

    outcome: Outcome
    alert: Alert | None = None
    incident: Incident | None = None
    event: Event | None = None
    passed: Passed | None = None
    earlier: Earlier | None = None

    @property
    def incident_resolved(self) -> bool:
        """Whether this message closed the incident."""
        return isinstance(self.event, Resolved)


@value
class Existing:
    """What exists of a message's key and group when it is decided.

    `alert` is the live alert of its key. `incident` is that alert's incident when it is firing, else the open incident of the
    message's group key; `joined`: when an alert opened or joined it for the last time, for messages with a group window. `ended`:
    when the firing of its key that ended a short while ago began, by the sender's clock. `hold`: the silence in force that matches
    the message. `tally`: of the group with this trigger, for messages with a threshold.
    """

    alert: Alert | None
    incident: Incident | None
    ended: datetime | None = None
    hold: Hold | None = None
    tally: Tally | None = None
    joined: datetime | None = None

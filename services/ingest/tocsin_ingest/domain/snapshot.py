"""Applies a batch of messages to an in-memory snapshot: computes the new state of the rows, in the order of the messages."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_ingest.domain import dedup_windows
from tocsin_ingest.domain.decide import decide
from tocsin_ingest.domain.decision import Alert, AlertState, Decision, Earlier, Existing, Incident, Outcome
from tocsin_ingest.domain.events import AlertsAdded
from tocsin_ingest.domain.expiry import Ending, Expiry
from tocsin_ingest.domain.incident_events import Events, Pending
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.pauses import Pause
from tocsin_ingest.domain.silences import Hold, Window, hold
from tocsin_ingest.domain.thresholds import Below, Tally


@dataclass(slots=True)
class Silenced:
    """The effect of one silence: messages, and alerts that it did not hold back before."""

    alerts: int = 0
    messages: int = 0


Applied = tuple[Decision, int]
"""The effect of one message: its decision, and the number of further messages that its alert stands for."""

_LASTING: Final = frozenset(
    (Outcome.DEDUPLICATED, Outcome.SUPPRESSED, Outcome.SILENCED, Outcome.PAUSED, Outcome.IGNORED)
)
"""Outcomes of a trigger that repeat when it is repeated: its alert counts one more, and nothing else changes."""

_JOINS: Final = frozenset((Outcome.OPENED, Outcome.GROUPED))
"""Outcomes of the first trigger of a firing in an incident."""


@dataclass(slots=True)
class _Repeats:
    """The same trigger again and again: `more` times since `decision`, the last one, `message`, at `position` in the batch."""

    message: Message
    decision: Decision
    more: int = 0
    position: int = 0


class Snapshot:
    """The live alerts and open incidents that a batch touches. It is filled from the database, the batch is applied, and it is
    written back."""

    def __init__(self, new_id: Callable[[], UUID]) -> None:
        self._new_id = new_id
        self._now: datetime | None = None
        self._windows: Mapping[UUID, Window] = {}
        self._holds: dict[UUID, Hold] = {}
        self._pauses: dict[UUID, Pause] = {}
        self._below: dict[UUID, Below] = {}
        self._waits = False
        self._tallies: dict[UUID, Tally] = {}
        self._live: dict[UUID, Alert] = {}
        self._open: dict[UUID, Incident] = {}
        self._incidents: dict[UUID, Incident] = {}
        self._joins: dict[UUID, datetime] = {}
        self._heard: dict[UUID, datetime] = {}
        self._known: set[UUID] = set()
        self._ended: dict[UUID, datetime] = {}
        self._said: dict[UUID, int] = {}
        self.alerts: dict[UUID, Alert] = {}
        """Alerts that changed, as they are after the batch."""
        self.incidents: dict[UUID, Incident] = {}
        """Incidents that changed, as they are after the batch."""
        self.events: dict[UUID, Events] = {}
        """The events of every incident of the snapshot and of every new one."""
        self.joined: set[UUID] = set()
        """Incidents that alerts opened or joined in this batch."""
        self.ended: dict[UUID, datetime] = {}
        """Keys of firings that ended in this batch, with their starts by the sender's clock."""
        self.silenced: dict[UUID, Silenced] = {}
        """What silences have held back in this batch."""
        self.tallies: dict[UUID, tuple[Tally, Below]] = {}
        """Groups below their thresholds with triggers in this batch, as they are after it."""
        self.reached: set[UUID] = set()
        """Groups that have reached their thresholds in this batch."""
        self.endings: dict[UUID, Ending] = {}
        """The ends of live alerts that triggers of this batch set."""

    def put_alert(self, alert: Alert, heard: datetime | None = None) -> None:
        """Adds a live alert of the snapshot. `heard`: when its newest trigger came, for messages with a dedup window."""
        self._known.add(alert.id)
        if heard is not None:
            self._heard[alert.id] = heard
        self._live[alert.key] = alert
        if alert.hold is not None:
            self._holds[alert.id] = alert.hold

    def suppressed(self, keys: Iterable[UUID]) -> list[UUID]:
        """The suppressed ones of the live alerts of these keys."""
        live = [alert for key in keys if (alert := self._live.get(key)) is not None]
        return [alert.id for alert in live if alert.state is AlertState.SUPPRESSED]

    def put_waiting(self, pauses: Mapping[UUID, Pause], below: Mapping[UUID, Below]) -> None:
        """Adds what pauses alerts of the snapshot, and the thresholds that they wait for, by their ids."""
        self._waits = True
        self._pauses.update(pauses)
        self._below.update(below)
        for key, alert in self._live.items():
            if alert.id in pauses or alert.id in below:
                self._live[key] = replace(alert, pause=pauses.get(alert.id), below=below.get(alert.id))

    def put_tallies(self, tallies: Mapping[UUID, Tally]) -> None:
        """Adds the triggers that groups have had which are below their thresholds."""
        self._tallies.update(tallies)

    def put_windows(self, windows: Mapping[UUID, Window], now: datetime) -> None:
        """Adds the silences that the messages name, and the database's clock: for these, and for messages with an expiry, a
        pause, a threshold or a window."""
        self._windows, self._now = windows, now

    def put_incident(
        self, incident: Incident, sequence: int, pending: Pending | None = None, joined: datetime | None = None
    ) -> None:
        """Adds an open incident of the snapshot. `joined`: when an alert opened or joined it for the last time, for messages with
        a group window."""
        self._known.add(incident.id)
        if joined is not None:
            self._joins[incident.id] = joined
        self._incidents[incident.id] = incident
        self._open[incident.group_key] = incident
        self.events[incident.id] = Events(sequence, pending)

    def put_ended(self, key: UUID, started: datetime) -> None:
        """Adds a firing of the snapshot that ended a short while ago."""
        self._ended[key] = started

    def changed_holds(self) -> dict[UUID, Hold | None]:
        """Alerts whose hold differs from before the batch. None: it is no longer held back."""
        return {each.id: each.hold for each in self.alerts.values() if each.hold != self._holds.get(each.id)}

    def changed_pauses(self) -> dict[UUID, Pause | None]:
        """As `changed_holds`, of pauses."""
        if not self._waits:
            return {}
        return {each.id: each.pause for each in self.alerts.values() if each.pause != self._pauses.get(each.id)}

    def changed_below(self) -> dict[UUID, Below | None]:
        """As `changed_holds`, of thresholds that alerts wait for."""
        if not self._waits:
            return {}
        now = {each.id: each.below and replace(each.below, triggers=0) for each in self.alerts.values()}
        return {alert_id: below for alert_id, below in now.items() if below != self._below.get(alert_id)}

    def is_new(self, row_id: UUID) -> bool:
        """Whether the alert or incident was made by this batch."""
        return row_id not in self._known

    def apply(self, messages: Sequence[Message]) -> list[Decision]:
        """Decides the messages one after the other; each sees the effects of the earlier ones."""
        return [self._apply_one(message) for message in self._by_now(messages)]

    def apply_with_repeats(self, messages: Sequence[Message], kinds: Sequence[Hashable] | None = None) -> list[Applied]:
        """As `apply`, for batches that contain a message many times: it is decided once or twice.

        `kinds`: the identity of each message; those of one kind differ only in summary and content. Without it, repeats of a
        message are the same object.

        Further repeats of a trigger are only counted, all at once: before another message of their key is decided, before
        anything ends or is acknowledged, for paused ones before an incident of their group opens or is joined, and at the end.
        Triggers of other keys in between do not see these counts: their effect on a shared incident is a sum, apart from the
        summary in its last event, which is that of the last message.
        """
        applied: list[Applied] = []
        repeats: dict[Hashable, _Repeats] = {}
        of_key: dict[UUID, Hashable] = {}
        paused: dict[UUID, list[Hashable]] = {}
        self._said.clear()
        if kinds is None:
            kinds = [id(each) for each in messages]
        for position, (message, kind) in enumerate(zip(self._by_now(messages), kinds, strict=True)):
            same = repeats.get(kind)
            if same is not None:
                same.message = message
                same.more += 1
                same.position = position
                applied.append((same.decision, same.more))
                continue
            if message.action is not Action.TRIGGER or message.seen is not None:
                self._count_repeats(repeats)
                of_key.clear()
                paused.clear()
            elif (other := of_key.pop(message.key, None)) is not None:
                self._count_repeats({other: repeats.pop(other)})
            decision = self._apply_one(message)
            applied.append((decision, 0))
            if decision.incident is not None:
                self._said[decision.incident.id] = position
            if paused and decision.outcome in _JOINS:
                # Alerts that were paused until now join it.
                joins = {each: repeats.pop(each) for each in paused.pop(message.group_key, ()) if each in repeats}
                for each in joins.values():
                    of_key.pop(each.message.key, None)
                self._count_repeats(joins)
            if decision.outcome in _LASTING and message.action is Action.TRIGGER and message.seen is None:
                repeats[kind] = _Repeats(message, decision)
                of_key[message.key] = kind
                if decision.outcome is Outcome.PAUSED:
                    paused.setdefault(message.group_key, []).append(kind)
        self._count_repeats(repeats)
        return applied

    def _by_now(self, messages: Sequence[Message]) -> Sequence[Message]:
        """A trigger that names an end in the past is a resolve."""
        now = self._now
        if now is None:
            return messages
        return [_over(each) if each.expiry is not None and each.expiry.past(now) else each for each in messages]

    def _count_repeats(self, repeats: dict[Hashable, _Repeats]) -> None:
        for each in sorted((each for each in repeats.values() if each.more), key=lambda each: each.position):
            self._count_more(each)
        repeats.clear()

    def _count_more(self, repeats: _Repeats) -> None:
        alert = repeats.decision.alert
        if alert is None:
            return
        self._keep_alert(alert.counted(repeats.more, repeats.message))
        if repeats.decision.outcome is Outcome.SILENCED:
            assert alert.hold is not None
            self.silenced[alert.hold.silence_id].messages += repeats.more
        if alert.incident_id is None:
            return
        incident = self._incidents[alert.incident_id]
        incident = incident.counted(repeats.more)
        self._keep_incident(incident)
        events, summary = self.events[incident.id], repeats.message.summary
        if self._said.get(incident.id, -1) > repeats.position:
            summary = events.last_summary or summary
        else:
            self._said[incident.id] = repeats.position
        events.add(AlertsAdded(incident.alert_count, incident.severity, summary, 0))

    def _apply_one(self, message: Message) -> Decision:
        live, ended = self._live.get(message.key), self._ended.get(message.key)
        earlier = None
        if live is not None and message.dedup_window is not None:
            earlier = dedup_windows.ends(message, live, self._heard.get(live.id), ended, self._now)
        existing = self._existing(message, live if earlier is None else None, ended, earlier)
        decision = decide(message, existing, self._now, self._new_id)
        if earlier is not None and live is not None:
            decision = self._end_earlier(earlier, live, message, decision)
        self._keep_of_key(message, existing, decision)
        if decision.incident is not None:
            self._keep_of_incident(message, existing, decision, decision.incident)
        return decision

    def _existing(
        self, message: Message, alert: Alert | None, ended: datetime | None, earlier: Earlier | None
    ) -> Existing:
        """`earlier`: the alert of its key that ends with the message, so that it finds none."""
        if alert is not None and alert.incident_id is not None:
            incident: Incident | None = self._incidents[alert.incident_id]
        else:
            incident = self._open.get(message.group_key)
            if earlier is not None and incident is not None and incident.id == earlier.incident_id:
                incident = None
        held = None if self._now is None else hold(message.silences, self._windows, self._now)
        if held is not None and message.labels is not None:
            held = replace(held, labels=message.labels)
        if message.pause is not None:
            self._waits = True
        tally = None
        if message.threshold is not None and message.action is Action.TRIGGER:
            assert self._now is not None
            self._waits = True
            tally = self._tallies.get(message.group_key, Tally()).one_more(self._now, message.threshold.window)
        joined = None if message.group_window is None or incident is None else self._joins.get(incident.id)
        return Existing(alert, incident, ended, held, tally, joined)

    def _keep_of_key(self, message: Message, existing: Existing, decision: Decision) -> None:
        """The new state of the message's alert, silence, group and firing."""
        if existing.tally is not None:
            self._keep_tally(message.group_key, existing.tally, decision)
        if decision.outcome is Outcome.SILENCED and existing.hold is not None:
            self._count(existing.hold, message, existing.alert)
        if message.action is Action.RESOLVE and message.started is not None:
            known = self._ended.get(message.key, message.started)
            self._ended[message.key] = self.ended[message.key] = max(known, message.started)
        if decision.alert is not None and decision.alert is not existing.alert:
            self._keep_alert(decision.alert)
            if self._now is not None and message.action is Action.TRIGGER:
                self._heard[decision.alert.id] = self._now
            if message.expiry is not None and message.action is Action.TRIGGER:
                self._end(decision.alert, message.expiry)

    def _keep_of_incident(self, message: Message, existing: Existing, decision: Decision, incident: Incident) -> None:
        """The new state of the incident that the message opened, joined or changed, and the event for escalation."""
        if decision.outcome is Outcome.OPENED and existing.incident is not None:
            # It came too late for that incident, and its key is given to the new one.
            self._leave(existing.incident)
        if decision.outcome in _JOINS:
            self.joined.add(incident.id)
            if self._now is not None:
                self._joins[incident.id] = self._now
        # An event moves the incident's event number even if nothing else changes (an acknowledge).
        if incident is not existing.incident or decision.event is not None:
            self._keep_incident(incident)
        if decision.event is not None:
            self.events[incident.id].add(decision.event)
        if decision.earlier is not None and decision.outcome is Outcome.OPENED:
            self.events[incident.id].add(dedup_windows.opened(message, decision.earlier))

    def _end_earlier(self, earlier: Earlier, alert: Alert, message: Message, decision: Decision) -> Decision:
        """The decision to store, with all other state of its key removed."""
        assert self._now is not None
        decision = dedup_windows.anew(decision, earlier, self._now)
        assert decision.alert is not None
        self._keep_alert(dedup_windows.over(alert, message, decision.alert.id, self._now))
        incident = self._incidents[earlier.incident_id]
        if incident.group_key != incident.id:
            self._leave(incident)
            self.events[incident.id].add(dedup_windows.left(message, decision))
        return decision

    def _leave(self, incident: Incident) -> None:
        """Its group continues in another incident."""
        del self._open[incident.group_key]
        self._keep_incident(incident.passed())

    def _end(self, alert: Alert, expiry: Expiry) -> None:
        assert self._now is not None
        newer, known = expiry.ending(self._now), self.endings.get(alert.id)
        self.endings[alert.id] = newer if known is None else known.then(newer)

    def _count(self, held: Hold, message: Message, before: Alert | None) -> None:
        count = self.silenced.setdefault(held.silence_id, Silenced())
        count.messages += message.seen is None
        count.alerts += before is None or before.hold is None or before.hold.silence_id != held.silence_id

    def _keep_tally(self, group_key: UUID, tally: Tally, decision: Decision) -> None:
        if decision.outcome is Outcome.BELOW_THRESHOLD:
            assert decision.alert is not None
            assert decision.alert.below is not None
            self._tallies[group_key] = tally
            self.tallies[group_key] = tally, decision.alert.below
        elif decision.outcome is Outcome.OPENED:
            self._tallies.pop(group_key, None)
            self.tallies.pop(group_key, None)
            self.reached.add(group_key)

    def _keep_alert(self, alert: Alert) -> None:
        self.alerts[alert.id] = alert
        if alert.state is AlertState.RESOLVED:
            del self._live[alert.key]
            self.endings.pop(alert.id, None)
        else:
            self._live[alert.key] = alert

    def _keep_incident(self, incident: Incident) -> None:
        self.incidents[incident.id] = incident
        self._incidents[incident.id] = incident
        if incident.open:
            self._open[incident.group_key] = incident
            self.events.setdefault(incident.id, Events(0))
        else:
            del self._open[incident.group_key]


def _over(message: Message) -> Message:
    assert message.expiry is not None
    return replace(message, action=Action.RESOLVE, ended=message.expiry.at, silences=(), expiry=None)

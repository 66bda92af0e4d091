"""The events of one incident, as a batch adds to them: those before it that are not being delivered yet can still be rewritten."""

from dataclasses import dataclass, field

from tocsin_ingest.domain.events import AlertsAdded, Event, fold


@dataclass(slots=True)
class Pending:
    """The incident's last event when it is an AlertsAdded that is not being delivered yet: it can still be rewritten."""

    event: AlertsAdded
    row_id: int
    sequence: int


@dataclass(slots=True)
class Events:
    """One incident's events of this batch. `pending` is its undelivered one from before, changed if `rewritten`."""

    sequence: int
    pending: Pending | None = None
    rewritten: bool = False
    new: list[Event] = field(default_factory=list)

    @property
    def last_sequence(self) -> int:
        """The number of the incident's last event after the batch."""
        return self.sequence + len(self.new)

    @property
    def last_summary(self) -> str:
        """What the last event says of the alerts that it tells of; empty when it does not."""
        last = self.new[-1] if self.new else self.pending.event if self.pending is not None else None
        return last.summary if isinstance(last, AlertsAdded) else ""

    @property
    def tells_of_more(self) -> bool:
        """Whether the last event waits for its delivery and tells how many alerts there are."""
        return isinstance(self.new[-1], AlertsAdded) if self.new else self.pending is not None

    def add(self, event: Event) -> None:
        """Folds the event into the last one where that loses nothing."""
        if not self.new:
            if self.pending and (folded := fold(self.pending.event, event)):
                assert isinstance(folded, AlertsAdded)
                self.pending.event, self.rewritten = folded, True
                return
            self.new.append(event)
        elif folded := fold(self.new[-1], event):
            self.new[-1] = folded
        else:
            self.new.append(event)

"""Events of an incident for escalation."""

from dataclasses import dataclass

from tocsin_ingest.domain.message import Message
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.values import value


@value
class Opened:
    """A new incident; `first` is the message that opened it, the other fields are its state at the end of the batch.

    `resolved_by`: who has resolved it already, so that it pages no one.
    """

    first: Message
    severity: Severity
    alert_count: int = 1
    resolved_by: str = ""


@value
class AlertsAdded:
    """More alerts; `new_keys` joined that were not firing in it before, `worse`: the severity rose."""

    alert_count: int
    severity: Severity
    summary: str
    new_keys: int
    worse: bool = False

    @property
    def urgent(self) -> bool:
        """Whether it contains more than duplicates; an event with only duplicates may wait a moment for more."""
        return self.new_keys > 0 or self.worse


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A sender acknowledged."""

    actor: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """It is resolved. `because` is set when neither a sender nor a person resolved it."""

    actor: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something to know about it."""

    actor: str
    text: str


Event = Opened | AlertsAdded | Acknowledged | Resolved | Noted


def fold(last: Event | None, event: Event) -> Event | None:
    """One event that replaces `last` and then `event`, or None when both are needed.

    This prevents a storm of duplicates from becoming a storm of events.
    """
    match last, event:
        case Opened(), AlertsAdded():
            return Opened(last.first, event.severity, event.alert_count)
        case AlertsAdded(), AlertsAdded():
            new_keys, worse = last.new_keys + event.new_keys, last.worse or event.worse
            return AlertsAdded(event.alert_count, event.severity, event.summary, new_keys, worse)
        case Acknowledged(), Acknowledged() if last == event:
            return last
    return None

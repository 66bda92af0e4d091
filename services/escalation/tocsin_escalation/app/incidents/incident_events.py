"""Events for subscriptions: timeline entries as contract messages.

The events are outbox rows, written only for tenants that have a feed (`feeds`). They have an ordering key and a relay of their
own: a subscription never holds up a page or a cancellation.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.notify.v1 import incident_event_pb2 as pb
from tocsin_kit.ids import new_id

from tocsin_escalation.domain.decision import Note, NoteKind
from tocsin_escalation.domain.escalation import Escalation

EVENT: Final = "incident_event"
"""The kind of outbox rows."""
_TITLE: Final = 500
_SOURCE: Final = 200
_NAME: Final = 255
_MESSAGE: Final = 1000
TYPES: Final[Mapping[NoteKind, pb.EventType.ValueType]] = MappingProxyType(
    {
        NoteKind.OPENED: pb.EVENT_TYPE_INCIDENT_OPENED,
        NoteKind.LEVEL_PAGED: pb.EVENT_TYPE_INCIDENT_LEVEL_REACHED,
        NoteKind.ESCALATED: pb.EVENT_TYPE_INCIDENT_ESCALATED,
        NoteKind.ACKNOWLEDGED: pb.EVENT_TYPE_INCIDENT_ACKNOWLEDGED,
        NoteKind.UNACKNOWLEDGED: pb.EVENT_TYPE_INCIDENT_TRIGGERED,
        NoteKind.ACK_TIMED_OUT: pb.EVENT_TYPE_INCIDENT_TRIGGERED,
        NoteKind.SNOOZE_ENDED: pb.EVENT_TYPE_INCIDENT_TRIGGERED,
        NoteKind.SNOOZED: pb.EVENT_TYPE_INCIDENT_SNOOZED,
        NoteKind.REASSIGNED: pb.EVENT_TYPE_INCIDENT_REASSIGNED,
        NoteKind.EXHAUSTED: pb.EVENT_TYPE_INCIDENT_EXHAUSTED,
        NoteKind.RESTARTED: pb.EVENT_TYPE_INCIDENT_RESTARTED,
        NoteKind.SEVERITY_RAISED: pb.EVENT_TYPE_INCIDENT_SEVERITY_CHANGED,
        NoteKind.EDITED: pb.EVENT_TYPE_INCIDENT_EDITED,
        NoteKind.NOTE: pb.EVENT_TYPE_INCIDENT_NOTE_ADDED,
        NoteKind.MERGED: pb.EVENT_TYPE_INCIDENT_MERGED,
        NoteKind.UNMERGED: pb.EVENT_TYPE_INCIDENT_UNMERGED,
        NoteKind.RESOLVED: pb.EVENT_TYPE_INCIDENT_RESOLVED,
    }
)
"""Timeline entries that become events. The outcomes of single pages are not among them: they would be most of all rows."""


def event_of(run: Escalation, note: Note, before: Escalation, time: Timestamp) -> bytes | None:
    """The event of an entry at `time`, serialized; None when the entry is no event. `before`: as the transaction found the run."""
    type_ = TYPES.get(note.kind)
    if type_ is None:
        return None
    if note.anew:
        type_ = pb.EVENT_TYPE_INCIDENT_REOPENED
    elif note.kind is NoteKind.EDITED and before.facts.severity != run.facts.severity:
        type_ = pb.EVENT_TYPE_INCIDENT_SEVERITY_CHANGED
    return pb.IncidentEvent(
        id=str(new_id()),
        org_id=run.org_id,
        type=type_,
        time=time,
        incident=pb.EventIncident(
            name=f"incidents/{run.incident_id}",
            title=run.facts.title[:_TITLE],
            source=run.facts.source[:_SOURCE],
            severity=run.facts.severity,  # type: ignore[arg-type]  # the number is the enum's own
            state=run.state.value,
            policy=f"policies/{run.policy.id}" if run.policy else "",
            level=note.level or run.level,
        ),
        actor=note.actor[:_NAME],
        message=note.message[:_MESSAGE],
    ).SerializeToString()


def ordering_key(run: Escalation) -> str:
    """Events of one incident wait for one another; its cancellations wait for none of them."""
    return f"event:{run.incident_id}"

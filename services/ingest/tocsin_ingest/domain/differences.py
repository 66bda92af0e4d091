"""How the records of an incident in ingest and escalation can differ, and which of them is right.

Each service's database may be restored from a backup alone. Later events are then known to the other service only. So the record
that has seen more events is right, and an incident that one side does not know is made from the other side's record.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class Difference(IntEnum):
    """Numbered as `tocsin.ingest.v1.IncidentDifference` (a test compares them)."""

    NOT_ESCALATED = 1
    BEHIND = 2
    AHEAD = 3
    RESOLVED_IN_ESCALATION = 4
    RESOLVED_IN_INGEST = 5
    UNKNOWN_IN_INGEST = 6


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of an incident on one side: whether and when it was resolved, and the number of the last event.

    `resolve_time` is None where it is not known, as in answers of a version that does not tell it.
    """

    resolved: bool
    sequence: int
    resolve_time: datetime | None = None


def of_open_here(sequence: int, there: Standing | None) -> Difference | None:
    """For an incident that is open in ingest; `there`: its state in escalation, None for unknown."""
    if there is None:
        return Difference.NOT_ESCALATED
    if there.resolved:
        return Difference.RESOLVED_IN_ESCALATION
    if there.sequence < sequence:
        return Difference.BEHIND
    return Difference.AHEAD if there.sequence > sequence else None


def of_open_there(here: Standing | None) -> Difference | None:
    """For an incident that is open in escalation. Those that are open in both are found from ingest's side."""
    if here is None:
        return Difference.UNKNOWN_IN_INGEST
    return Difference.RESOLVED_IN_INGEST if here.resolved else None

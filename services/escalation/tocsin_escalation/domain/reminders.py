"""Reminders: whether a due one is sent, and its next time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.words import Word


class ReminderState(Word):
    """The words are those of the table."""

    SCHEDULED = "scheduled"
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The new state of a due reminder. `next_time`: None when it does not come again; then `state` and `reason` say why."""

    sends: bool
    state: ReminderState
    next_time: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a reminder comes. `every`: the pause until it comes again; None: it comes once.

    `until_resolved`: a repeating one also comes while the incident is acknowledged.
    """

    every: timedelta | None = None
    until_resolved: bool = False

    @property
    def outlasts_acknowledge(self) -> bool:
        """Whether it comes although the incident is acknowledged."""
        return self.every is None or self.until_resolved


def judge(state: State | None, who: str, planned: datetime, rhythm: Rhythm, now: datetime) -> Verdict:
    """A reminder that was due at `planned`, of an incident in this state. None: it has no incident, so only its own end ends it.
    `who` acknowledged or resolved the incident; empty if it is neither.

    Times do not drift: the next one is the first after now at a whole number of pauses after the planned one. So one reminder
    replaces all that were missed during an outage.
    """
    if (ended := why_over(state, who, rhythm)) is not None:
        return Verdict(False, ReminderState.STOPPED, reason=ended)
    if rhythm.every is None:
        return Verdict(True, ReminderState.DONE)
    missed = max(0, (now - planned) // rhythm.every)
    return Verdict(state is not State.SNOOZED, ReminderState.SCHEDULED, planned + (missed + 1) * rhythm.every)


def why_over(state: State | None, who: str, rhythm: Rhythm) -> str | None:
    """Why the incident no longer needs such a reminder; None while it does."""
    by = f" by {who}" if who else ""
    if state is State.RESOLVED:
        return f"the incident was resolved{by}"
    if state is State.ACKNOWLEDGED and not rhythm.outlasts_acknowledge:
        return f"the incident was acknowledged{by}"
    return None


def page_id(reminder: UUID, planned: datetime, member: str = "") -> UUID:
    """The id of the page of a reminder: the same however often it is decided, so that it is sent once.

    `member`: the member of the team whose page it is.
    """
    return uuid5(reminder, f"{planned.isoformat()}/{member}" if member else planned.isoformat())

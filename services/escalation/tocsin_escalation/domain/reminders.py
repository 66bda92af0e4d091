"""Reminders: whether one that is due is sent, and when it comes next."""

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
    """What becomes of a reminder that is due. `next_time`: None when it comes no more; then `state` and `reason` say why."""

    sends: bool
    state: ReminderState
    next_time: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a reminder comes. `every`: the pause after which it comes again; None: it comes once.

    `until_resolved`: one that comes again and again does so while the incident is acknowledged as well.
    """

    every: timedelta | None = None
    until_resolved: bool = False

    @property
    def outlasts_acknowledge(self) -> bool:
        """Whether it comes although somebody has acknowledged the incident."""
        return self.every is None or self.until_resolved


def judge(state: State | None, who: str, planned: datetime, rhythm: Rhythm, now: datetime) -> Verdict:
    """A reminder that was due at `planned`, of an incident in this state; None: of none, so that only its own end ends it.
    `who` acknowledged or resolved the incident, empty if nobody did.

    Times do not drift: the next one is the first after now that lies a whole number of pauses behind the planned one. So what was
    missed while everything was down is made up for by one.
    """
    if (ended := why_over(state, who, rhythm)) is not None:
        return Verdict(False, ReminderState.STOPPED, reason=ended)
    if rhythm.every is None:
        return Verdict(True, ReminderState.DONE)
    missed = max(0, (now - planned) // rhythm.every)
    return Verdict(state is not State.SNOOZED, ReminderState.SCHEDULED, planned + (missed + 1) * rhythm.every)


def why_over(state: State | None, who: str, rhythm: Rhythm) -> str | None:
    """Why the incident needs no such reminder any more; None while it does."""
    by = f" by {who}" if who else ""
    if state is State.RESOLVED:
        return f"the incident was resolved{by}"
    if state is State.ACKNOWLEDGED and not rhythm.outlasts_acknowledge:
        return f"the incident was acknowledged{by}"
    return None


def page_id(reminder: UUID, planned: datetime, member: str = "") -> UUID:
    """The id of the page that a reminder becomes: the same however often it is decided, so that it is sent once.

    `member`: whose page it is, for the reminder of a team.
    """
    return uuid5(reminder, f"{planned.isoformat()}/{member}" if member else planned.isoformat())

"""Who is on call in a schedule at an instant, in the form that decisions use."""

from tocsin_escalation.domain.policy import OnCall
from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import Coverage, Schedule
from tocsin_escalation.domain.schedules.paging import WorkBudget, now
from tocsin_escalation.domain.schedules.words import tell


def on_call_at(schedule: Schedule, minute: int, work: WorkBudget | None = None) -> OnCall:
    """With the reason in words, and, in a gap, the next user on call. `work`: the limit for looking ahead, shared with other
    schedules."""
    here = now(schedule, minute, work or WorkBudget())
    gap = here.segment.coverage is Coverage.GAP
    next_ = here.next
    return OnCall(
        here.segment.people,
        tell(schedule.id, here.segment),
        gap,
        time_of(next_.start) if next_ is not None else None,
        next_.people if next_ is not None else (),
    )

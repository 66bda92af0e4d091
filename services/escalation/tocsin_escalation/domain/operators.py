"""Actions of an operator on an escalation's timer."""

from dataclasses import replace
from datetime import datetime

from tocsin_escalation.domain.decision import Decision, Note, NoteKind
from tocsin_escalation.domain.escalation import Escalation, State, TimerKind
from tocsin_escalation.domain.events import TimerPromoted, TimerRemoved


def promote(run: Escalation, event: TimerPromoted, now: datetime) -> Decision:
    """The timer is due now. It fires as if its time had come: the next due time counts from now."""
    timer = run.timer
    if timer is None or timer.due_time <= now:
        return Decision(run, already=True)
    told = f"{_word(timer.kind)} is due now instead of at {timer.due_time:%Y-%m-%d %H:%M:%S} UTC: promoted by {event.actor}"
    return Decision(
        replace(run, timer=replace(timer, due_time=now)), notes=(Note(NoteKind.NOTE, event.actor, told, run.level),)
    )


def remove(run: Escalation, event: TimerRemoved) -> Decision:
    """No timer will move the escalation any more. A triggered or snoozed one becomes exhausted: in its state without a timer it
    would be repaired as damaged, and fire at once. An acknowledged one stays acknowledged, without an end."""
    if run.timer is None:
        return Decision(run, already=True)
    following = replace(run, timer=None)
    removed = f"{_word(run.timer.kind)} was removed by {event.actor}"
    if run.state is State.ACKNOWLEDGED:
        told = f"{removed}: nobody is paged again if {run.acknowledged_by} does not resolve it"
        return Decision(following, notes=(Note(NoteKind.NOTE, event.actor, told, run.level),))
    note = Note(NoteKind.EXHAUSTED, event.actor, f"{removed}: nobody further is paged", run.level)
    return Decision(replace(following, state=State.EXHAUSTED), notes=(note,))


def _word(kind: TimerKind) -> str:
    return f"the timer {kind.value}"

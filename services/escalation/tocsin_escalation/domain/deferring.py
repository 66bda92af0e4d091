"""Levels that wait, because the policy defers incidents of their urgency at this time.

Requests of a person are not deferred: a level that they escalate to, and users to whom they reassign the incident or whom they
ask for help.
"""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from tocsin_escalation.domain.decision import Decision, Note, NoteKind
from tocsin_escalation.domain.escalation import Escalation, PageState, State, Timer, TimerKind
from tocsin_escalation.domain.urgencies import Deferral, Urgency, deciding, deferral


def deferred(run: Escalation, now: datetime) -> Deferral | None:
    """Until when no level of the run may begin; None when it may begin now, or when that time would never end."""
    if run.policy is None or not run.policy.urgency_rules:
        return None
    found = deferral(run.policy.urgency_rules, run.facts.severity, now)
    return found if found is not None and found.until is not None else None


def waits_to_begin(run: Escalation) -> bool:
    """Whether the level that the run is at has not begun, because it is deferred."""
    return run.timer is not None and run.timer.kind is TimerKind.DEFERRED


def defer(run: Escalation, level: int, found: Deferral, timer_id: UUID) -> Decision:
    """Wait to begin `level`. Users who were paged before stay paged, and may answer."""
    assert found.until is not None, "only what ends is waited for"
    waiting = replace(
        run,
        state=State.TRIGGERED,
        level=level,
        assignees=(),
        pages={page: state for page, state in run.pages.items() if state is PageState.OPEN},
        timer=Timer(timer_id, TimerKind.DEFERRED, found.until, run.generation),
    )
    return Decision(waiting, notes=(_note(f"level {level} waits", level, found),))


def defer_end(run: Escalation, found: Deferral, timer_id: UUID) -> Decision:
    """Wait with what comes after the last level: the fallback target."""
    assert found.until is not None, "only what ends is waited for"
    timer = Timer(timer_id, TimerKind.DEFERRED_END, found.until, run.generation)
    waits = "nobody answered; the fallback target waits"
    return Decision(replace(run, timer=timer), notes=(_note(waits, run.level, found),))


def urgent(run: Escalation, now: datetime) -> tuple[bool | None, str]:
    """The urgency of a page that is made now, and the reason in words; None and an empty text where the severity decides."""
    if run.policy is None or not run.policy.urgency_rules:
        return None, ""
    rules = run.policy.urgency_rules
    number = deciding(rules, run.facts.severity, now)
    if not number:
        return None, ""
    high = rules[number - 1].urgency is Urgency.HIGH
    return high, f" with {Urgency.HIGH if high else Urgency.LOW} urgency (urgency rule {number})"


def _note(what: str, level: int, found: Deferral) -> Note:
    text = f"{what} until {found.until:%Y-%m-%d %H:%M} UTC: urgency rule {found.rule} of the policy defers it"
    return Note(NoteKind.LEVEL_DEFERRED, "", text, level)

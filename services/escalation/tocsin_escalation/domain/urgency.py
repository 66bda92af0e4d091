"""The severity of an incident was raised, by an alert or by a person.

It became urgent if it is critical or error after warning or info, or as the urgency rules of its policy say. Until then its
people were paged by their rules for low urgency, which may have long delays. So the present level is paged again, by the rules
for high urgency. At any raise, the policy starts again if it passed a level that is for the new severity: otherwise the people of
that level would never be paged.
"""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from tocsin_escalation.domain.decision import Decision, Note, NoteKind, Page, PageType, StopPages, page_id
from tocsin_escalation.domain.deferring import deferred, waits_to_begin
from tocsin_escalation.domain.escalation import Escalation, Facts, State
from tocsin_escalation.domain.gaps import holds
from tocsin_escalation.domain.levels import Beginning, current_level, level_timer, start_level
from tocsin_escalation.domain.paging import Moment, halt, page_users
from tocsin_escalation.domain.policy import Directory, Policy
from tocsin_escalation.domain.urgencies import Urgency, urgency_at


def raise_severity(run: Escalation, was: Facts, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    """The effect on a run that is not resolved, if its severity is worse than it `was`. No effect when it is the same or fell."""
    if run.policy is None or run.facts.severity >= was.severity:
        return Decision(run)
    held = run.state in (State.ACKNOWLEDGED, State.SNOOZED)
    if waits_to_begin(run) and deferred(run, now) is None:
        return start_level(replace(run, timer=None), run.level, Beginning(now, now, directory, timer_id))
    if _became_urgent(run, run.policy, was, now) and run.policy.page_raised_urgency:
        return _tell_holder(run, now) if held else _page_anew(run, was.severity, now, directory, timer_id)
    # A person holds it, and knew the urgency already.
    if held or not _passed_wrongly(run, was.severity, now):
        return Decision(run)
    return _page_anew(run, was.severity, now, directory, timer_id)


def _became_urgent(run: Escalation, policy: Policy, was: Facts, now: datetime) -> bool:
    if not policy.urgency_rules:
        return run.facts.urgent and not was.urgent
    before, after = (urgency_at(policy.urgency_rules, each.severity, now) for each in (was, run.facts))
    return after is Urgency.HIGH and before is not Urgency.HIGH


def _page_anew(run: Escalation, was: int, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    stop = StopPages(run.generation, "superseded: the severity was raised and the incident is paged anew")
    step = current_level(run)
    if run.state is State.EXHAUSTED or step is None or not run.assignees:
        # A level that waits in a gap costs no repeat: none of its users has been paged.
        repeat = run.repeat + (not holds(run, run.level))
        again = replace(halt(run), state=State.TRIGGERED, repeat=repeat, timer=None)
        started = start_level(again, 1, Beginning(now, now, directory, timer_id))
        return Decision(started.next, (stop, *started.commands), started.notes)
    if _passed_wrongly(run, was, now):
        started = start_level(replace(halt(run), timer=None), 1, Beginning(now, now, directory, timer_id))
        return Decision(started.next, (stop, *started.commands), started.notes)
    # The people of this level, as they were resolved when it started: they know of the incident, and one of them may be on the
    # way.
    paged = page_users(halt(run), run.assignees, run.level, Moment(now, now))
    in_parts = run.timer is not None and run.timer.level_end is not None
    timer = level_timer(step, now, now, paged.next.generation, timer_id, in_parts=in_parts)
    return Decision(replace(paged.next, timer=timer), (stop, *paged.commands), paged.notes)


def _passed_wrongly(run: Escalation, was: int, now: datetime) -> bool:
    """Whether a level up to the present one is for the new severity and was not for the old one: its people do not know of the
    incident yet."""
    levels = run.policy.levels[: run.level] if run.policy else ()
    return any(
        level.condition.holds(run.facts.severity, now) and not level.condition.holds(was, now) for level in levels
    )


def _tell_holder(run: Escalation, now: datetime) -> Decision:
    """The holder accepted something less urgent. No other user is paged."""
    held = run.state is State.ACKNOWLEDGED and run.acknowledged_by.startswith("users/")
    users = (run.acknowledged_by.removeprefix("users/"),) if held else run.assignees
    pages = tuple(
        Page(
            page_id(run, PageType.URGENCY_RAISED, 0, user),
            user,
            PageType.URGENCY_RAISED,
            0,
            run.repeat,
            run.generation,
            now,
            urgent=True,
        )
        for user in users
    )
    if not pages:
        return Decision(run)
    names = ", ".join(f"users/{user}" for user in users)
    note = Note(
        NoteKind.URGENCY_RAISED, "", f"became urgent while it is {run.state.value}: telling {names}", pages=pages
    )
    return Decision(run, pages, (note,))

"""Changes by responders beside the policy: further people, a restart, corrections."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from tocsin_escalation.domain.conditions import SEVERITIES
from tocsin_escalation.domain.decision import (
    ASKED,
    Decision,
    Note,
    NoteKind,
    Page,
    PageType,
    Refusal,
    StopPages,
    page_id,
)
from tocsin_escalation.domain.deferring import urgent
from tocsin_escalation.domain.escalation import Escalation, PageState, Reached, State
from tocsin_escalation.domain.events import Edited, RespondersAdded, Restarted
from tocsin_escalation.domain.levels import Beginning, start_level
from tocsin_escalation.domain.paging import asks, halt
from tocsin_escalation.domain.policy import Directory
from tocsin_escalation.domain.urgency import raise_severity


def add_responders(run: Escalation, event: RespondersAdded, now: datetime, directory: Directory) -> Decision:
    """Page further people now. State, level and timer do not change; a person is asked once per generation."""
    users = tuple(user for user in directory.resolve(event.targets) if f"users/{user}" != event.actor)
    if not users:
        return Decision(run, refusal=Refusal.NO_RESPONDERS)
    asked = {user: page_id(run, ASKED, run.level, user) for user in users}
    high, _ = urgent(run, now)
    pages = tuple(
        Page(id, user, PageType.ESCALATION, run.level, run.repeat, run.generation, now, event.actor, high)
        for user, id in asked.items()
        if id not in run.pages
    )
    if not pages:
        return Decision(run, already=True)
    users = tuple(page.user for page in pages)
    following = replace(
        run,
        assignees=run.assignees + tuple(user for user in users if user not in run.assignees),
        paged_users=run.paged_users + tuple(user for user in users if user not in run.paged_users),
        pages={**run.pages, **{page.id: PageState.OPEN for page in pages}},
        reached=run.reached if run.reached is Reached.SOMEBODY else Reached.UNKNOWN,
    )
    names = ", ".join(f"users/{user}" for user in users)
    why = f"; {found}" if (found := directory.why(event.targets)) else ""
    note = Note(NoteKind.RESPONDERS_ADDED, event.actor, f"{event.actor} asks for {names}{why}", run.level, pages)
    return Decision(following, pages, (note,))


def restart(run: Escalation, event: Restarted, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    """Stop all pages and start again at level 1, with all repeats."""
    policy = event.policy or run.policy
    if policy is None:
        return Decision(run, refusal=Refusal.NO_POLICY)
    again = replace(
        halt(run),
        state=State.TRIGGERED,
        policy=policy,
        level=0,
        repeat=0,
        handed_on=0,
        timer=None,
        acknowledged_by="",
        acknowledge_time=None,
    )
    note = Note(NoteKind.RESTARTED, event.actor, f"policies/{policy.id} begins again, says {event.actor}")
    started = start_level(again, 1, Beginning(now, now, directory, timer_id))
    stop = StopPages(run.generation, f"begun again by {event.actor}")
    return asks(event.actor, Decision(started.next, (stop, *started.commands), (note, *started.notes)))


def edit(run: Escalation, event: Edited, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    """Correct title and severity. A raised severity pages as one that an alert raises."""
    facts, said = run.facts, []
    if event.title is not None and event.title != facts.title:
        said.append(f"title: {event.title} (was: {facts.title})")
        facts = replace(facts, title=event.title)
    if event.severity is not None and event.severity != facts.severity:
        said.append(f"severity: {SEVERITIES[event.severity]} (was: {SEVERITIES[facts.severity]})")
        facts = replace(facts, severity=event.severity)
    if not said:
        return Decision(run, already=True)
    following = replace(run, facts=facts, severity_set=run.severity_set or event.severity is not None)
    note = Note(NoteKind.EDITED, event.actor, "; ".join(said), run.level)
    raised = raise_severity(following, run.facts, now, directory, timer_id)
    return Decision(raised.next, raised.commands, (note, *raised.notes))

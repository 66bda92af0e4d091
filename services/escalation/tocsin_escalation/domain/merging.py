"""Merged incidents: several incidents that people handle as one.

A merged incident pages no one. Its alerts still come to it, and raise the severity of the incident into which it was merged. It
cannot stay open unnoticed: when the target is resolved and it is not, it pages again by itself.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from tocsin_escalation.domain.decision import Decision, Note, NoteKind, Refusal, StopPages
from tocsin_escalation.domain.escalation import Escalation, State
from tocsin_escalation.domain.events import (
    Acknowledged,
    AlertsAdded,
    Escalated,
    Event,
    Merged,
    MergedFrom,
    Noted,
    Resolved,
    Snoozed,
    Started,
    TimerFired,
    Unmerged,
    UnmergedFrom,
)
from tocsin_escalation.domain.paging import halt
from tocsin_escalation.domain.policy import Directory
from tocsin_escalation.domain.urgency import raise_severity


def merge(run: Escalation, event: Merged) -> Decision:
    """Stop all pages. One that is merged already stays merged into its target, unless that target is merged further (`along`)."""
    note = Note(NoteKind.MERGED, event.actor, f"merged into incidents/{event.into} by {event.actor}", run.level)
    if run.state is State.MERGED:
        if run.merged_into == event.into:
            return Decision(run, already=True)
        if not event.along:
            return Decision(run, refusal=Refusal.INCIDENT_MERGED)
        return Decision(replace(run, merged_into=event.into), notes=(note,))
    stop = StopPages(run.generation, f"merged into incidents/{event.into} by {event.actor}")
    following = replace(
        halt(run),
        state=State.MERGED,
        merged_into=event.into,
        assignees=(),
        acknowledged_by="",
        acknowledge_time=None,
        timer=None,
    )
    return Decision(following, (stop,), (note,))


def take_in(run: Escalation, event: MergedFrom, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    """The incident is as severe as the worst one in it, and pages as when an alert of a new key raises its severity."""
    alerts = "1 alert" if event.alert_count == 1 else f"{event.alert_count} alerts"
    told = f"incidents/{event.source} ({event.title}), of {alerts}, was merged into this one by {event.actor}"
    facts = replace(run.facts, severity=min(event.severity or run.facts.severity, run.facts.severity))
    raised = raise_severity(replace(run, facts=facts), run.facts, now, directory, timer_id)
    note = Note(NoteKind.MERGED_FROM, event.actor, told, run.level)
    return Decision(raised.next, raised.commands, (note, *raised.notes))


def let_out(run: Escalation, event: UnmergedFrom) -> Decision:
    """The merge is undone, or the other incident is resolved. The severity stays as it is."""
    what = f"is resolved by {event.actor}" if event.over else f"was taken out of this one by {event.actor or 'itself'}"
    return Decision(
        run, notes=(Note(NoteKind.UNMERGED_FROM, event.actor, f"incidents/{event.source} {what}", run.level),)
    )


def while_merged(run: Escalation, event: Event) -> Decision:
    """Events of a merged incident, except merge, unmerge, resolve, notes and outcomes of its earlier pages."""
    match event:
        case AlertsAdded():
            severity = min(event.severity or run.facts.severity, run.facts.severity)
            facts = replace(run.facts, alert_count=max(event.alert_count, run.facts.alert_count), severity=severity)
            note = Note(
                NoteKind.ALERTS_ADDED, "", f"{event.alert_count} alerts now; newest: {event.summary}", run.level
            )
            return Decision(replace(run, facts=facts), notes=(note,) if event.new_keys else ())
        case TimerFired(timer_id=fired):
            return Decision(
                run, notes=(Note(NoteKind.STALE, f"timers/{fired}", "timer fired after a merge", run.level),)
            )
        case Acknowledged(actor=actor) if actor.startswith("integrations/"):
            # A sender cannot be asked to send it for the target: if it were refused, the sender would repeat it for ever.
            note = Note(
                NoteKind.NOTE, actor, f"acknowledged by {actor}, while it is merged into another one", run.level
            )
            return Decision(run, notes=(note,))
        case Started():
            return Decision(run, already=True)
        case _:
            return Decision(run, refusal=Refusal.INCIDENT_MERGED)


def refuse(target: Escalation) -> Refusal | None:
    """Why incidents cannot be merged into `target`.

    A target that is merged itself is refused. So merges form no ring, and none leads to an incident that does not page.
    """
    match target.state:
        case State.RESOLVED:
            return Refusal.INCIDENT_RESOLVED
        case State.MERGED:
            return Refusal.INCIDENT_MERGED
        case _:
            return None


def merge_all(
    source: Escalation, target: Escalation, parts: Iterable[Escalation], actor: str
) -> Iterator[tuple[UUID, Event]]:
    """All steps of one merge. `parts`: incidents that are merged into the source; they follow it."""
    yield source.incident_id, Merged(actor, target.incident_id)
    facts = source.facts
    yield target.incident_id, MergedFrom(actor, source.incident_id, facts.title, facts.severity, facts.alert_count)
    for part in parts:
        yield part.incident_id, Merged(actor, target.incident_id, along=True)


PassedOn = Acknowledged | Snoozed | Escalated
"""The commands that are passed on to the target when a person answers a page of a merged incident."""


def pass_on(id: UUID, event: Event, runs: Mapping[UUID, Escalation]) -> tuple[UUID, Event]:
    """The incident and the event that are meant when a person answers a page of this incident. Its own for one that is not
    merged.

    A named level is a level of the incident's own policy.
    """
    into = last_of(id, runs)
    if into == id or not isinstance(event, PassedOn) or (isinstance(event, Escalated) and event.level):
        return id, event
    return into, replace(event, source=id)


def last_of(id: UUID, runs: Mapping[UUID, Escalation]) -> UUID:
    """The incident that pages for this one: itself, or its target, as far as `runs` contain it."""
    seen = {id}
    while (run := runs.get(id)) is not None and run.state is State.MERGED and run.merged_into in runs.keys() - seen:
        assert run.merged_into is not None, "a key of runs"
        id = run.merged_into
        seen.add(id)
    return id


def passed_on(into: UUID, event: PassedOn) -> Noted:
    """The timeline entry of the merged incident about it."""
    match event:
        case Acknowledged():
            did = "acknowledged"
        case Snoozed():
            did = "snoozed"
        case Escalated():
            did = "escalated"
    via = f" (by {event.via})" if event.via else ""
    return Noted(event.actor, f"{did}{via}: passed on to incidents/{into}, into which this one is merged")


def events_of_merged(
    events: Iterable[tuple[UUID, Event]], runs: Mapping[UUID, Escalation]
) -> Iterator[tuple[UUID, Event]]:
    """The effects of a transaction's events on the incidents that theirs are merged with. To be applied after them.

    `runs` are the incidents as they were before, with those into which they are merged and those that are merged into them.
    """
    events = list(events)
    over = {id: event.actor for id, event in events if isinstance(event, Resolved)}
    for id, event in events:
        run = runs.get(id)
        if run is None or run.state is not State.MERGED or run.merged_into is None:
            continue
        if isinstance(event, AlertsAdded):
            yield run.merged_into, replace(event, source=id)
        elif isinstance(event, Resolved):
            yield run.merged_into, UnmergedFrom(event.actor, id, over=True)
        elif isinstance(event, Noted):
            yield run.merged_into, replace(event, source=id)
    for id, run in runs.items():
        if run.state is State.MERGED and run.merged_into in over and id not in over:
            yield id, Unmerged("", f"incidents/{run.merged_into}, into which it was merged, is resolved")

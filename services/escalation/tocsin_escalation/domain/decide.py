"""All decisions about escalations: no clock, no I/O, no exceptions for late events.

    TRIGGERED -> ACKNOWLEDGED -> (ack timeout) -> TRIGGERED, SNOOZED -> TRIGGERED, EXHAUSTED, RESOLVED (absorbing);
    each but RESOLVED -> MERGED -> TRIGGERED

Every person's command and every change of the holder raises the generation: timers of older ones do nothing.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

from tocsin_escalation.domain.decision import (
    HANDED_TO_POLICY,
    Decision,
    Note,
    NoteKind,
    Page,
    PageType,
    Refusal,
    StopPages,
)
from tocsin_escalation.domain.deferring import defer, deferred, waits_to_begin
from tocsin_escalation.domain.escalation import Escalation, State, Timer, TimerKind, changed
from tocsin_escalation.domain.events import (
    Acknowledged,
    AlertsAdded,
    Edited,
    Escalated,
    Event,
    Merged,
    MergedFrom,
    Noted,
    PageForgotten,
    PageOutcome,
    PageStopped,
    Reassigned,
    Resolved,
    RespondersAdded,
    Restarted,
    Snoozed,
    Started,
    StopForgotten,
    TimerFired,
    TimerPromoted,
    TimerRemoved,
    Unacknowledged,
    Unmerged,
    UnmergedFrom,
)
from tocsin_escalation.domain.levels import Beginning, current_level, due_after, next_turn, repeat_pages, start_level
from tocsin_escalation.domain.merging import let_out, merge, take_in, while_merged
from tocsin_escalation.domain.operators import promote, remove
from tocsin_escalation.domain.outcomes import hand_again, take_outcome, tell, without_stopped
from tocsin_escalation.domain.paging import (
    Moment,
    asks,
    halt,
    next_generation,
    page_users,
    status_updates,
    without_own_pages,
)
from tocsin_escalation.domain.policy import Directory
from tocsin_escalation.domain.responders import add_responders, edit, restart
from tocsin_escalation.domain.turns import holder
from tocsin_escalation.domain.urgency import raise_severity

# The clocks of Redis and PostgreSQL may differ; a timer that is early by this much counts as due.
EARLY_TOLERANCE: Final = timedelta(milliseconds=100)
_GENERATIONS_BEGIN: Final = datetime(2020, 1, 1, tzinfo=UTC)


def decide(run: Escalation, event: Event, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    """The effect of `event` on `run`. `timer_id`: the id of a timer that the decision may set."""
    if run.state is State.RESOLVED and not isinstance(event, Noted):
        return _after_the_end(run, event)
    if run.state is State.MERGED and not isinstance(event, Noted | Resolved | Merged | Unmerged | PageOutcome):
        return while_merged(run, event)
    match event:
        case Started():
            return _start(run, event, now, directory, timer_id)
        case AlertsAdded():
            return _add_alerts(run, event, now, directory, timer_id)
        case TimerFired():
            return _fire(run, event, now, directory, timer_id)
        case TimerPromoted():
            return promote(run, event, now)
        case TimerRemoved():
            return remove(run, event)
        case Acknowledged():
            return _acknowledge(run, event, now, timer_id)
        case Unacknowledged(actor=actor):
            if run.state not in (State.ACKNOWLEDGED, State.SNOOZED):
                return Decision(run, refusal=Refusal.INCIDENT_STATE)
            note = Note(NoteKind.UNACKNOWLEDGED, actor, f"given back by {actor}", run.level)
            return asks(actor, _trigger_again(next_generation(run), note, now, now, directory, timer_id))
        case Snoozed():
            return _snooze(run, event, now, timer_id)
        case Escalated():
            return _escalate(run, event, now, directory, timer_id)
        case Reassigned():
            return _reassign(run, event, now, directory, timer_id)
        case RespondersAdded():
            return add_responders(run, event, now, directory)
        case Restarted():
            return restart(run, event, now, directory, timer_id)
        case Edited():
            return edit(run, event, now, directory, timer_id)
        case Noted():
            return Decision(run, notes=(Note(NoteKind.NOTE, event.actor, _written(event), run.level),))
        case Merged():
            return merge(run, event)
        case MergedFrom():
            return take_in(run, event, now, directory, timer_id)
        case Unmerged():
            return _unmerge(run, event, now, directory, timer_id)
        case UnmergedFrom():
            return let_out(run, event)
        case Resolved():
            return _resolve(run, event, now)
        case PageOutcome():
            return take_outcome(run, event, now, directory, timer_id)
        case PageForgotten():
            return hand_again(run, event, now)
        case PageStopped():
            return without_stopped(run, event)
        case StopForgotten():
            return _begin_beyond(run, event, now, directory, timer_id)
        case _:
            assert_never(event)


def _after_the_end(run: Escalation, event: Event) -> Decision:
    match event:
        case Resolved():
            return Decision(run, already=True)
        case TimerFired(timer_id=fired):
            return Decision(run, notes=(Note(NoteKind.STALE, f"timers/{fired}", "timer fired after resolve"),))
        case PageOutcome():
            return Decision(run, notes=(tell(event),))
        case Started() | AlertsAdded() | UnmergedFrom() | PageStopped():
            return Decision(run, already=True)
        case _:
            return Decision(run, refusal=Refusal.INCIDENT_RESOLVED)


def _start(run: Escalation, event: Started, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    run = changed(run, policy=event.policy, on_fallback_policy=bool(event.fallback_cause) and event.policy is not None)
    notes = [Note(NoteKind.OPENED, run.facts.integration or "services/ingest", run.facts.title)]
    if event.anew_because:
        run = replace(run, generation=max(run.generation, _unused_generation(now)))
        notes = [
            Note(
                NoteKind.OPENED,
                "services/ingest",
                f"opened anew because {event.anew_because}: {run.facts.title}",
                anew=True,
            )
        ]
    if event.left_out:
        refused = f"left out, because it could not be taken as it was: {', '.join(event.left_out)}"
        notes.append(Note(NoteKind.NOTE, "services/ingest", refused))
    if event.resolved_by:
        over = _resolve(run, Resolved(event.resolved_by), now)
        return Decision(over.next, (), (*notes, *over.notes))
    if event.fallback_cause:
        notes.append(Note(NoteKind.POLICY_FALLBACK, "", event.fallback_cause))
    started = start_level(run, 1, Beginning(now, now, directory, timer_id))
    return Decision(started.next, started.commands, (*notes, *started.notes))


def _unused_generation(now: datetime) -> int:
    """A generation above all that the incident had before its record was lost.

    Pages are identified by their generation, and those of stopped generations are never sent: an incident that starts again at 1
    could reach no one. Seconds since 2020 grow faster than any number of actions on an incident, and fit 32 bits until 2088.
    """
    return int((now - _GENERATIONS_BEGIN).total_seconds())


def _add_alerts(run: Escalation, event: AlertsAdded, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    """New alerts page again only if they make the incident urgent, or severe enough for a level that was passed.

    On an incident that a person holds they are noted, once per generation.
    """
    # A repeat of a known alert is nothing new to a person who has set the severity; an alert of a new key is.
    may_raise = not run.severity_set or event.new_keys > 0
    worse = may_raise and 0 < event.severity < run.facts.severity
    quiet = run.state in (State.ACKNOWLEDGED, State.SNOOZED, State.EXHAUSTED)
    severity = event.severity if worse else run.facts.severity
    facts = replace(run.facts, alert_count=max(event.alert_count, run.facts.alert_count), severity=severity)
    following = replace(run, facts=facts, added_alerts_noted=run.added_alerts_noted or quiet)
    raised = raise_severity(following, run.facts, now, directory, timer_id)
    notes = []
    if worse:
        notes.append(Note(NoteKind.SEVERITY_RAISED, "", f"severity raised by: {event.summary}", run.level))
    if event.new_keys or (quiet and not run.added_alerts_noted):
        where = f" of incidents/{event.source}, which is merged into this one" if event.source else ""
        told = f"an alert{where}" if where else f"{event.alert_count} alerts now; newest"
        notes.append(Note(NoteKind.ALERTS_ADDED, "", f"{told}: {event.summary}", run.level))
    return Decision(raised.next, raised.commands, (*notes, *raised.notes))


def _fire(run: Escalation, event: TimerFired, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    timer = run.timer
    actor = f"timers/{event.timer_id}"
    if timer is None or timer.id != event.timer_id or not timer.generation == event.generation == run.generation:
        return Decision(run, notes=(Note(NoteKind.STALE, actor, "timer of an earlier step: nothing to do", run.level),))
    if timer.due_time - now > EARLY_TOLERANCE:
        return Decision(run)
    late = max(0, round((now - timer.due_time).total_seconds() * 1000))
    if timer.kind is TimerKind.GAP_HOLD:
        # It is checked again with its timer: a level that is waiting already writes no new entry.
        return start_level(run, run.level, Beginning(timer.due_time, now, directory, timer_id, late), wanted=True)
    run = replace(run, timer=None)
    match timer.kind:
        case TimerKind.DEFERRED | TimerKind.DEFERRED_END:
            level = run.level if timer.kind is TimerKind.DEFERRED else run.level + 1
            return start_level(run, level, Beginning(timer.due_time, now, directory, timer_id, late), urged=True)
        case TimerKind.ACK_TIMEOUT:
            note = Note(
                NoteKind.ACK_TIMED_OUT,
                actor,
                f"{run.acknowledged_by} did not resolve it in time",
                run.level,
                lateness_ms=late,
            )
            return _trigger_again(run, note, timer.due_time, now, directory, timer_id)
        case TimerKind.SNOOZE_END:
            note = Note(NoteKind.SNOOZE_ENDED, actor, "the snooze is over", run.level, lateness_ms=late)
            return _trigger_again(run, note, timer.due_time, now, directory, timer_id)
        case _:  # The level is over; for a kind of a newer version, paging a user is better than paging no one
            if timer.level_end is not None and timer.level_end > max(timer.due_time, now):
                return _end_part(run, timer, now, directory, timer_id, late)
            planned = timer.level_end or timer.due_time
            return start_level(run, run.level + 1, Beginning(planned, now, directory, timer_id, late))


def _end_part(
    run: Escalation, timer: Timer, now: datetime, directory: Directory, timer_id: UUID, late: int
) -> Decision:
    if (until := deferred(run, now)) is not None:
        # Its pages after the deferral differ from those that it has made: the level starts anew then.
        return defer(next_generation(run), run.level, until, timer_id)
    again = repeat_pages(run, timer, now, directory, timer_id, late)
    if again is not None:
        return again
    missed = f"users/{holder(replace(run, timer=timer))} has not answered in time"
    moved = next_turn(run, timer, missed, timer.due_time, now, directory, timer_id)
    if moved is not None:
        return Decision(moved.next, moved.commands, tuple(replace(note, lateness_ms=late) for note in moved.notes))
    assert timer.level_end is not None, "only a level of turns or repeats has one that ends before the level"
    rest = Timer(timer_id, TimerKind.LEVEL_TIMEOUT, timer.level_end, run.generation, timer.level_end)
    return Decision(replace(run, timer=rest))


def _acknowledge(run: Escalation, event: Acknowledged, now: datetime, timer_id: UUID) -> Decision:
    actor = event.actor
    if run.state is State.ACKNOWLEDGED:
        return Decision(run, already=True)
    stop = StopPages(run.generation, f"acknowledged by {actor}")
    following = replace(
        halt(run),
        state=State.ACKNOWLEDGED,
        acknowledged_by=actor,
        acknowledge_time=now,
        assignees=(actor.removeprefix("users/"),) if actor.startswith("users/") else run.assignees,
        timer=None,
    )
    if run.policy is not None and run.policy.ack_timeout is not None:
        due = now + run.policy.ack_timeout
        following = replace(following, timer=Timer(timer_id, TimerKind.ACK_TIMEOUT, due, following.generation))
    note = Note(NoteKind.ACKNOWLEDGED, actor, f"acknowledged by {actor}{_by(event)}", run.level)
    return Decision(following, (stop, *status_updates(following, PageType.ACKNOWLEDGMENT, actor, now)), (note,))


def _snooze(run: Escalation, event: Snoozed, now: datetime, timer_id: UUID) -> Decision:
    following = _let_go(halt(run))
    actor, end = event.actor, now + event.duration
    following = replace(
        following, state=State.SNOOZED, timer=Timer(timer_id, TimerKind.SNOOZE_END, end, following.generation)
    )
    snoozed = f"snoozed until {end:%Y-%m-%d %H:%M:%S} UTC by {actor}"
    note = Note(NoteKind.SNOOZED, actor, f"{snoozed}{_by(event)}", run.level)
    return Decision(following, (StopPages(run.generation, snoozed),), (note,))


def _escalate(run: Escalation, event: Escalated, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    actor, level = event.actor, event.level
    last = len(run.policy.levels) if run.policy else 0
    reached = run.level - waits_to_begin(run)
    wanted = level or (1 if run.state is State.EXHAUSTED else reached + 1)
    if level > last:
        return Decision(run, refusal=Refusal.LEVEL_UNKNOWN)
    if wanted > last or (run.state is not State.EXHAUSTED and wanted <= reached):
        return Decision(run, refusal=Refusal.NO_NEXT_LEVEL)
    bumped, stops = without_own_pages(run, actor)
    bumped = _let_go(bumped)
    if run.state is State.EXHAUSTED:
        bumped = replace(bumped, repeat=run.repeat + 1)
    note = Note(NoteKind.ESCALATED, actor, f"escalated to level {wanted} by {actor}{_by(event)}", wanted)
    started = start_level(bumped, wanted, Beginning(now, now, directory, timer_id), wanted=level > 0, urged=True)
    pages = any(isinstance(command, Page) for command in started.commands)
    if not level and not pages and started.next.state is State.EXHAUSTED:
        # Otherwise a command that succeeds would exhaust the incident, and no user would be paged any more.
        return Decision(run, refusal=Refusal.NO_NEXT_LEVEL)
    return asks(actor, Decision(started.next, (*stops, *started.commands), (note, *started.notes)))


def _reassign(run: Escalation, event: Reassigned, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    bumped = _let_go(halt(run))
    stop = StopPages(run.generation, f"reassigned by {event.actor}")
    if event.policy is not None:
        note = Note(NoteKind.REASSIGNED, event.actor, f"{HANDED_TO_POLICY}{event.policy.id} by {event.actor}")
        restarted = replace(bumped, policy=event.policy, on_fallback_policy=False, level=0, repeat=0, handed_on=0)
        started = start_level(restarted, 1, Beginning(now, now, directory, timer_id))
        return asks(event.actor, Decision(started.next, (stop, *started.commands), (note, *started.notes)))
    named = ", ".join(map(str, event.targets))
    users = directory.resolve(event.targets)
    note = Note(NoteKind.REASSIGNED, event.actor, f"handed to {named} by {event.actor}", run.level)
    if not users:
        why = f": {found}" if (found := directory.why(event.targets)) else ""
        nobody = f"{named} resolves to nobody{why}; the policy goes on"
        skipped = Note(NoteKind.LEVEL_SKIPPED, "", nobody, run.level)
        started = start_level(bumped, max(run.level, 1), Beginning(now, now, directory, timer_id), wanted=run.level > 0)
        return asks(event.actor, Decision(started.next, (stop, *started.commands), (note, skipped, *started.notes)))
    paged = page_users(bumped, users, run.level, Moment(now, now), directory.why(event.targets))
    step = current_level(run)
    if step is None:
        following = replace(paged.next, state=State.EXHAUSTED, timer=None)
    else:
        timer = Timer(timer_id, TimerKind.LEVEL_TIMEOUT, due_after(now, step.timeout, now), bumped.generation)
        following = replace(paged.next, timer=timer)
    return asks(event.actor, Decision(following, (stop, *paged.commands), (note, *paged.notes)))


def _unmerge(run: Escalation, event: Unmerged, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    """Trigger again at the level at which it was merged: the user who had acknowledged it is told, and may acknowledge again."""
    if run.state is not State.MERGED:
        return Decision(run, refusal=Refusal.NOT_MERGED)
    why = f"because {event.because}" if event.because else f"by {event.actor}"
    note = Note(NoteKind.UNMERGED, event.actor, f"an incident of its own again, {why}", run.level)
    return _trigger_again(replace(next_generation(run), merged_into=None), note, now, now, directory, timer_id)


def _resolve(run: Escalation, event: Resolved, now: datetime) -> Decision:
    actor = event.actor
    following = replace(halt(run), state=State.RESOLVED, resolved_by=actor, resolve_time=now, timer=None, assignees=())
    why = f" because {event.because}" if event.because else ""
    note = Note(NoteKind.RESOLVED, actor, f"resolved by {actor}{_by(event)}{why}", run.level)
    stop = StopPages(run.generation, f"resolved by {actor}", final=True)
    # People hear of a merged incident through its target.
    told = () if run.state is State.MERGED else status_updates(following, PageType.RESOLUTION, actor, now)
    return Decision(following, (stop, *told), (note,))


def _written(event: Noted) -> str:
    about = f"of incidents/{event.source}, which is merged into this one" if event.source else ""
    return ": ".join(filter(None, (about, event.via and f"by {event.via}", event.text)))


def _by(event: Acknowledged | Snoozed | Escalated | Resolved) -> str:
    via = f" (by {event.via})" if event.via else ""
    return f"{via} in answer to incidents/{event.source}, which is merged into this one" if event.source else via


def _begin_beyond(
    run: Escalation, event: StopForgotten, now: datetime, directory: Directory, timer_id: UUID
) -> Decision:
    """The level again, in a generation that was never stopped. Pages of lost generations between the two may have been sent."""
    if run.state not in (State.TRIGGERED, State.EXHAUSTED) or run.generation > event.generation:
        return Decision(run, already=True)
    beyond = replace(next_generation(run), generation=max(event.generation + 1, _unused_generation(now)))
    text = "paged again: its pages were stopped by an answer that was lost with the last changes of the database"
    return _trigger_again(beyond, Note(NoteKind.NOTE, "", text, run.level), now, now, directory, timer_id)


def _trigger_again(
    run: Escalation, note: Note, planned: datetime, now: datetime, directory: Directory, timer_id: UUID
) -> Decision:
    """Trigger again at the run's level, for the people who are there now."""
    beginning = Beginning(planned, now, directory, timer_id, note.lateness_ms)
    started = start_level(_let_go(run), max(run.level, 1), beginning, wanted=run.level > 0)
    return Decision(started.next, started.commands, (note, *started.notes))


def _let_go(run: Escalation) -> Escalation:
    """No person holds it any more; its timer is deleted."""
    return replace(run, state=State.TRIGGERED, acknowledged_by="", acknowledge_time=None, timer=None)

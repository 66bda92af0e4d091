"""The outcomes of pages, and their effects.

Each outcome becomes one timeline entry. It changes the escalation only when it ends the last page of the current level without
having reached a person. Then the next level starts at once, or the next turn where people are paged one after the other. Pages of
earlier levels, repeats and generations have other ids than those of the current level, so their outcomes never change the level.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin_escalation.domain.decision import ASKED, Decision, Note, NoteKind, Page, PageType, page_id
from tocsin_escalation.domain.deferring import urgent
from tocsin_escalation.domain.escalation import Escalation, PagedRun, PageState, Reached, Run, State, TimerKind
from tocsin_escalation.domain.events import OutcomeKind, PageForgotten, PageOutcome, PageStopped
from tocsin_escalation.domain.levels import Beginning, current_level, next_turn, start_level
from tocsin_escalation.domain.paging import judge_reached
from tocsin_escalation.domain.policy import Directory
from tocsin_escalation.domain.turns import holder

PROMPT: Final = timedelta(seconds=2)
"""An outcome within this time after its level was due counts as immediate."""
_NOTIFY: Final = "services/notify"
_PASSED_ON: Final = (
    "nobody was reached: a user passed the incident on before a provider had accepted their page, every other one was "
    "unreachable or failed for good, and no level is left"
)
_NOBODY: Final = "nobody was reached: every page was unreachable or failed for good, and no level is left"
_KINDS: Final = {
    OutcomeKind.UNREACHABLE: NoteKind.PAGE_UNREACHABLE,
    OutcomeKind.FAILED: NoteKind.PAGE_FAILED,
    OutcomeKind.DELAYED: NoteKind.PAGE_DELAYED,
    OutcomeKind.SENT: NoteKind.PAGE_SENT,
    OutcomeKind.DELIVERED: NoteKind.PAGE_DELIVERED,
}


def take_outcome(
    run: Escalation, outcome: PageOutcome, now: datetime, directory: Directory, timer_id: UUID
) -> Decision:
    """The effect of the outcome on a run that is not resolved."""
    note = tell(outcome)
    if outcome.kind is OutcomeKind.DELAYED:
        return Decision(run, notes=(note,))
    if not outcome.ends:
        pages = _settled(run, outcome, PageState.SENT)
        return Decision(replace(run, pages=pages, reached=Reached.SOMEBODY), notes=(note,))
    following = judge_reached(replace(run, pages=_settled(run, outcome, PageState.FAILED)))
    passed = _pass_turn(following, outcome, now, directory, timer_id)
    if passed is not None:
        return Decision(passed.next, passed.commands, (note, *passed.notes))
    if _reaches_nobody(following):
        left = _leave_level(following, now, directory, timer_id)
        return Decision(left.next, left.commands, (note, *left.notes))
    if following.reached is Reached.NOBODY and run.reached is not Reached.NOBODY:
        return Decision(following, notes=(note, Note(NoteKind.NOBODY_REACHED, "", _NOBODY)))
    return Decision(following, notes=(note,))


def inform(run: PagedRun, outcome: PageOutcome) -> PagedRun:
    """The effect of an outcome that does not end its page: like `decide`, for a run that was only partly read."""
    if run.state is State.RESOLVED or outcome.kind is OutcomeKind.DELAYED:
        return run
    pages = _settled(run, outcome, PageState.SENT)
    if pages == run.pages and run.reached is Reached.SOMEBODY:
        return run
    return replace(run, pages=pages, reached=Reached.SOMEBODY)


def hand_again(run: Escalation, event: PageForgotten, now: datetime) -> Decision:
    """The same page once more, under its own id, if its outcome is unknown."""
    if run.pages.get(event.page) is not PageState.OPEN:
        return Decision(run, already=True)
    high, _ = urgent(run, now)
    page = Page(
        event.page,
        event.user,
        PageType.NEW_INCIDENT if event.first else PageType.ESCALATION,
        event.level,
        event.repeat,
        event.generation,
        event.planned_time,
        event.actor,
        high,
    )
    text = f"the page of users/{event.user} is handed to notify again, which did not know it any more"
    return Decision(run, (page,), (Note(NoteKind.NOTE, "", text, event.level, page=event.page),))


def without_stopped(run: Escalation, event: PageStopped) -> Decision:
    """It is not waited for any more. If it was the last open page, nobody may have been reached."""
    if run.pages.get(event.page) is not PageState.OPEN:
        return Decision(run, already=True)
    following = judge_reached(
        replace(run, pages={page: state for page, state in run.pages.items() if page != event.page})
    )
    if following.reached is Reached.NOBODY and run.reached is not Reached.NOBODY:
        return Decision(following, notes=(Note(NoteKind.NOBODY_REACHED, "", _PASSED_ON),))
    return Decision(following)


def tell(outcome: PageOutcome) -> Note:
    """The outcome as text for responders."""
    who, channel = outcome.user, outcome.channel or "page"
    match outcome.kind:
        case OutcomeKind.SENT:
            text = f"{channel} to {who} accepted"
            if outcome.attempts > 1:
                text += f" after {outcome.attempts} attempts"
            if outcome.reason:
                text += f", {outcome.reason}"
        case OutcomeKind.DELIVERED:
            text = f"{channel} to {who} delivered"
        case OutcomeKind.DELAYED:
            text = f"{who} is not reached yet; the {channel} is tried on: {outcome.reason}"
        case OutcomeKind.UNREACHABLE | OutcomeKind.FAILED:
            text = f"{who} could not be reached: {outcome.reason}"
    return Note(_KINDS[outcome.kind], _NOTIFY, text, outcome.level, page=outcome.page, outcome=outcome.key)


def sent_to(run: Run, user: str) -> list[UUID]:
    """The user's pages of the current level that a provider has accepted."""
    return [page for page in _pages_of(run, user) if run.pages.get(page) is PageState.SENT]


def _level_pages(run: Run) -> Iterator[UUID]:
    """The pages that people of the current level may have."""
    return (page for user in run.assignees for page in _pages_of(run, user))


def _pages_of(run: Run, user: str) -> Iterator[UUID]:
    """One from the level, one because they were asked for."""
    return (page_id(run, type_, run.level, user) for type_ in (PageType.ESCALATION, ASKED))


def _settled(run: Run, outcome: PageOutcome, state: PageState) -> dict[UUID, PageState]:
    """The page states after this one ended.

    A page that was sent stays sent: a failure that is reported later is older, or of another method. The exception: its provider
    reported later that it was not delivered.
    """
    pages = dict(run.pages)
    known = pages.pop(outcome.page, None)
    if outcome.page in _level_pages(run):
        stays = known is PageState.SENT and not outcome.undelivered
        pages[outcome.page] = PageState.SENT if stays else state
    return pages


def _reaches_nobody(run: Escalation) -> bool:
    """Whether the current level waits for an answer that cannot come: every page of it has failed."""
    waiting = run.timer is not None and run.timer.kind is TimerKind.LEVEL_TIMEOUT
    states = [run.pages[page] for page in _level_pages(run) if page in run.pages]
    if run.state is not State.TRIGGERED or not waiting or not states or _was_repeated(run):
        return False
    return all(state is PageState.FAILED for state in states)


def _was_repeated(run: Escalation) -> bool:
    """Whether its people were paged before at this level, so that one of them may know of it and be on the way."""
    step = current_level(run)
    if step is None or run.timer is None or run.timer.level_end is None or step.in_turn or step.repeat_interval is None:
        return False
    return run.timer.due_time > run.timer.level_end - step.timeout + step.repeat_interval


def _pass_turn(
    run: Escalation, outcome: PageOutcome, now: datetime, directory: Directory, timer_id: UUID
) -> Decision | None:
    """The next turn, if the person whose turn it is cannot be reached and another person is left."""
    user = holder(run)
    page = page_id(run, PageType.ESCALATION, run.level, user)
    if run.timer is None or not user or page != outcome.page or run.pages[page] is not PageState.FAILED:
        return None
    return next_turn(run, run.timer, f"users/{user} cannot be reached", now, now, directory, timer_id)


def _leave_level(run: Escalation, now: datetime, directory: Directory, timer_id: UUID) -> Decision:
    """Start the next level now.

    After an immediate outcome, the new level's timeout counts from the planned time of the level that is left, as for a level
    without users. So repeated passes through the same unreachable level do not add up their delays. Otherwise, after minutes of
    failed attempts or an outage of notify, it counts from now: the next level gets its whole timeout.
    """
    planned = now
    if run.timer is not None and run.policy is not None and 0 < run.level <= len(run.policy.levels):
        level_planned = (run.timer.level_end or run.timer.due_time) - run.policy.levels[run.level - 1].timeout
        if level_planned <= now <= level_planned + PROMPT:
            planned = level_planned
    who = ", ".join(run.assignees)
    left = Note(
        NoteKind.LEVEL_SKIPPED, "", f"level {run.level} left at once: nobody of it can be reached ({who})", run.level
    )
    started = start_level(replace(run, timer=None), run.level + 1, Beginning(planned, now, directory, timer_id))
    return Decision(started.next, started.commands, (left, *started.notes))

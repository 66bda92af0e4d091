"""Which level is next, and who is paged there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin_escalation.domain.chain import MOST_HAND_ONS
from tocsin_escalation.domain.decision import Decision, Note, NoteKind, TurnTaken
from tocsin_escalation.domain.deferring import defer, defer_end, deferred
from tocsin_escalation.domain.escalation import Escalation, Reached, State, Timer, TimerKind
from tocsin_escalation.domain.gaps import comes_on, hold, holds, still_held
from tocsin_escalation.domain.paging import Moment, judge_reached, next_generation, page_users, with_reason
from tocsin_escalation.domain.policy import Directory, GapChoice, Level, Policy
from tocsin_escalation.domain.turns import line_up, waiting

# The number of the fallback target, which is paged after the last level; it keeps its pages apart from those of levels.
FALLBACK_LEVEL: Final = 0


@dataclass(frozen=True, slots=True)
class Beginning:
    """The input for the start of a level."""

    planned: datetime
    """When it was due. The next due time counts from it, so that lateness never adds up."""
    now: datetime
    directory: Directory
    timer_id: UUID
    """The id of its timer."""
    lateness_ms: int = 0

    @property
    def moment(self) -> Moment:
        """Of its pages."""
        return Moment(self.planned, self.now, self.lateness_ms)


def start_level(
    run: Escalation, level: int, beginning: Beginning, *, wanted: bool = False, urged: bool = False
) -> Decision:
    """Page `level`, or one person of it, and set its timer. A level without a user is skipped at once, with an entry.

    So is a level whose condition does not hold, unless this level is `wanted`: a person named it, or it has begun before. Where
    the policy defers incidents of this urgency now, the level waits, unless a person has `urged` it or its wait is over. After
    the last level the policy begins again while repeats are left; then the escalation is exhausted. A policy of which no level
    pages a user now is not repeated.
    """
    notes: list[Note] = []
    now, timer_id = beginning.now, beginning.timer_id
    from_the_first = level == 1
    until = None if urged else deferred(run, now)
    while run.policy is not None:
        policy = run.policy
        if level > len(policy.levels):
            # From the first level on: every level was tried in this moment, so a repeat would find no user either.
            again = _after_the_last(run, policy, beginning.directory, may_repeat=not from_the_first)
            if again is None:
                if until is not None and policy.fallback_target is not None:
                    return _following(notes, defer_end(run, until, timer_id))
                break
            run, note = again
            notes.append(note)
            level, from_the_first = 1, True
            until = None if urged else deferred(run, now)
            continue
        if until is not None:
            return _following(notes, defer(run, level, until, timer_id))
        step = policy.levels[level - 1]
        unfit = "" if wanted else step.condition.why_not(run.facts.severity, now)
        wanted = False
        if unfit:
            notes.append(Note(NoteKind.LEVEL_PASSED, "", f"level {level} passed: {unfit}", level=level))
        else:
            begun = _begin(run, step, level, beginning)
            if begun is not None:
                return _following(notes, begun)
            notes.append(_skipped(step, level, beginning.directory))
        run = replace(run, level=level)
        level += 1
    return _following(notes, exhaust(run, beginning))


def _following(notes: Sequence[Note], decision: Decision) -> Decision:
    """The decision, with the entries that were written before it."""
    return replace(decision, notes=(*notes, *decision.notes))


def _after_the_last(
    run: Escalation, policy: Policy, directory: Directory, *, may_repeat: bool
) -> tuple[Escalation, Note] | None:
    """The run at the beginning of a repeat, or of the policy to which it is handed on; None when neither is left."""
    if may_repeat and run.repeat < policy.repeat_count:
        repeated = replace(run, repeat=run.repeat + 1)
        told = f"nobody answered; repeat {repeated.repeat} of {policy.repeat_count}"
        return repeated, Note(NoteKind.REPEATED, "", told, level=1)
    following = directory.next_policy_of(policy)
    if following is None or run.handed_on >= MOST_HAND_ONS:
        return None
    told = f"nobody answered on policies/{policy.id}; policies/{following.id} goes on"
    return _hand_on(run, following), Note(NoteKind.HANDED_ON, "", told)


def _hand_on(run: Escalation, policy: Policy) -> Escalation:
    """A generation of its own, so that its pages differ from those of the previous policy. The earlier pages are not stopped."""
    return replace(
        next_generation(run), policy=policy, on_fallback_policy=False, level=0, repeat=0, handed_on=run.handed_on + 1
    )


def _begin(run: Escalation, step: Level, level: int, beginning: Beginning) -> Decision | None:
    """Page the level's people, or handle a gap as the policy says; None to skip the level."""
    directory = beginning.directory
    users = directory.resolve(step.targets)
    if not users:
        return _meet_gap(run, step, level, beginning) if directory.gaps(step.targets) else None
    policy, why = run.policy, directory.why(step.targets)
    assert policy is not None, "only a policy has levels"
    timer = level_timer(step, beginning.planned, beginning.now, run.generation, beginning.timer_id, in_parts=True)
    if not step.in_turn:
        return page_users(run, users, level, beginning.moment, why, timer)
    line = line_up(policy, users, directory)
    away = [f"users/{user}" for user in users if user not in line]
    if away:
        why = "; ".join(filter(None, (why, f"away: {', '.join(away)}")))
    paged = page_users(run, line[:1], level, beginning.moment, with_reason(f"next of {len(line)} in turn", why))
    if len(line) == 1 and timer.level_end is not None:
        timer = replace(timer, due_time=timer.level_end)
    return Decision(replace(paged.next, timer=timer), (*paged.commands, TurnTaken(policy.id, line[0])), paged.notes)


def _skipped(step: Level, level: int, directory: Directory) -> Note:
    named = ", ".join(map(str, step.targets))
    message = with_reason(f"level {level} skipped: {named} resolves to nobody", directory.why(step.targets))
    gap = GapChoice.SKIP if directory.gaps(step.targets) else None
    return Note(NoteKind.LEVEL_SKIPPED, "", message, level=level, gap=gap)


def next_turn(
    run: Escalation, timer: Timer, missed: str, planned: datetime, now: datetime, directory: Directory, timer_id: UUID
) -> Decision | None:
    """Page the next user at the run's level, after the last one did not answer; None when every user has had a turn.

    Users who did not answer stay paged, and may still answer. The end of the level does not change. `missed` says what happened.
    """
    policy, step = run.policy, current_level(run)
    if policy is None or step is None or timer.level_end is None or not step.in_turn:
        return None
    left = waiting(run, line_up(policy, directory.resolve(step.targets), directory))
    if not left:
        return None
    user = left[0]
    paged = page_users(
        run,
        (user,),
        run.level,
        Moment(planned, now),
        with_reason(f"next in turn, because {missed}", directory.why(step.targets)),
    )
    due = timer.level_end
    if len(left) > 1 and step.turn_timeout is not None:
        due = min(due, due_after(planned, step.turn_timeout, now))
    following = replace(
        paged.next,
        assignees=(*(other for other in run.assignees if other != user), user),
        pages={**run.pages, **paged.next.pages},
        timer=Timer(timer_id, TimerKind.LEVEL_TIMEOUT, due, run.generation, timer.level_end),
    )
    return Decision(following, (*paged.commands, TurnTaken(policy.id, user)), paged.notes)


def repeat_pages(
    run: Escalation, timer: Timer, now: datetime, directory: Directory, timer_id: UUID, late: int
) -> Decision | None:
    """Page all users of the level once more, with those who are on call now; None when no repeat is left.

    Their pages belong to a generation of their own, so they differ from the earlier ones, which go on. The end of the level does
    not change, and repeats count from its start, so that delays do not add up.
    """
    step = current_level(run)
    if step is None or timer.level_end is None or step.in_turn or step.repeat_interval is None:
        return None
    started = timer.level_end - step.timeout
    number = round((timer.due_time - started) / step.repeat_interval)
    if number > step.repeats:
        return None
    due = timer.level_end
    if number < step.repeats:
        due = min(due, due_after(timer.due_time, step.repeat_interval, now))
    next_ = next_generation(run)
    following = Timer(timer_id, TimerKind.LEVEL_TIMEOUT, due, next_.generation, timer.level_end)
    users = directory.resolve(step.targets)
    which = f"repeat {number} of {step.repeats}"
    if not users:
        told = with_reason(f"level {run.level}, {which}: nobody is there to be paged", directory.why(step.targets))
        note = Note(NoteKind.LEVEL_SKIPPED, "", told, run.level, lateness_ms=late)
        return Decision(replace(run, timer=replace(following, generation=run.generation)), notes=(note,))
    return page_users(
        next_,
        users,
        run.level,
        Moment(timer.due_time, now, late),
        with_reason(which, directory.why(step.targets)),
        following,
    )


def level_timer(
    step: Level, planned: datetime, now: datetime, generation: int, timer_id: UUID, *, in_parts: bool
) -> Timer:
    """For a level that starts: its timeout, or with `in_parts` the end of the first turn, or the time of the first repeat."""
    end = due_after(planned, step.timeout, now)
    if not in_parts or (not step.in_turn and step.part is None):
        return Timer(timer_id, TimerKind.LEVEL_TIMEOUT, end, generation)
    due = due_after(planned, step.part, now) if step.part is not None else end
    return Timer(timer_id, TimerKind.LEVEL_TIMEOUT, min(due, end), generation, end)


def _meet_gap(run: Escalation, step: Level, level: int, beginning: Beginning) -> Decision | None:
    """Handle a gap as the policy says; None to skip the level, also when waiting or the fallback target would be of no use."""
    policy, directory = run.policy, beginning.directory
    assert policy is not None, "only a policy has levels"
    planned, now, timer_id = beginning.planned, beginning.now, beginning.timer_id
    why = directory.why(step.targets)
    ending = comes_on(step.targets, directory)
    if policy.on_gap is GapChoice.HOLD and ending is not None:
        if holds(run, level):
            return still_held(run, ending, now, timer_id)
        return hold(run, level, ending, now, timer_id, why=why)
    target = policy.fallback_target
    if policy.on_gap is not GapChoice.FALLBACK or target is None or not (users := directory.resolve([target])):
        return None
    instead = with_reason(f"{why}; the fallback target {target} is paged instead", directory.why([target]))
    paged = page_users(run, users, level, beginning.moment, instead)
    timer = Timer(timer_id, TimerKind.LEVEL_TIMEOUT, due_after(planned, step.timeout, now), run.generation)
    notes = tuple(replace(note, gap=GapChoice.FALLBACK) for note in paged.notes)
    return Decision(replace(paged.next, timer=timer), paged.commands, notes)


def exhaust(run: Escalation, beginning: Beginning) -> Decision:
    """No level is left: page the fallback target once, if there is one, and write that no person answered."""
    directory, late = beginning.directory, beginning.lateness_ms
    following = replace(judge_reached(replace(run, state=State.EXHAUSTED)), timer=None)
    why = with_reason(_why_exhausted(following), _why_not_handed_on(run, directory))
    target = run.policy.fallback_target if run.policy else None
    users = directory.resolve([target]) if target else ()
    if not users:
        return Decision(following, (), (Note(NoteKind.EXHAUSTED, "", why, lateness_ms=late),))
    paged = page_users(following, users, FALLBACK_LEVEL, Moment(beginning.planned, beginning.now))
    message = with_reason(f"{why}; paging the fallback target {target}", directory.why([target] if target else []))
    note = Note(NoteKind.EXHAUSTED, "", message, pages=paged.notes[0].pages, lateness_ms=late)
    return Decision(replace(paged.next, state=State.EXHAUSTED, level=run.level), paged.commands, (note,))


def current_level(run: Escalation) -> Level | None:
    """The step of the policy that the run is at; the first one before any was paged."""
    levels = run.policy.levels if run.policy else ()
    return levels[max(run.level, 1) - 1] if levels else None


def _why_exhausted(run: Escalation) -> str:
    if not run.paged_users:
        return "nobody could be paged at any level"
    match run.reached:
        case Reached.SOMEBODY:
            return "nobody answered and no level is left"
        case Reached.NOBODY:
            return "no level is left and nobody was reached: every page was unreachable or failed for good"
        case _:
            return "nobody answered and no level is left; no provider has taken a page so far"


def _why_not_handed_on(run: Escalation, directory: Directory) -> str:
    if run.policy is None or not run.policy.next_policy:
        return ""
    if directory.next_policy_of(run.policy) is None:
        return f"policies/{run.policy.next_policy}, to which it would be handed on, does not exist any more"
    return f"it was handed on {run.handed_on} times, which is the most"


def due_after(planned: datetime, timeout: timedelta, now: datetime) -> datetime:
    """The end of the time to answer.

    Counted from the planned time, so that delays do not add up from level to level. Only when that has passed already, because
    everything was down for longer than the timeout, it counts from now. Otherwise every level would be paged in the same second
    after an outage, without time to answer.
    """
    due = planned + timeout
    return due if due > now else now + timeout

"""A level without a user because a schedule has a gap, and what its policy does then.

A shift that is empty on purpose is no gap: such a level is always skipped at once.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin_escalation.domain.decision import Decision, Note, NoteKind
from tocsin_escalation.domain.escalation import Escalation, PageState, State, Timer, TimerKind
from tocsin_escalation.domain.policy import Directory, GapChoice, OnCall, Target

LOOK_AGAIN: Final = timedelta(minutes=1)
"""How often the schedules of a waiting level are read again: a new override ends the wait this soon."""


def comes_on(targets: Sequence[Target], directory: Directory) -> OnCall | None:
    """The gap among these schedules that ends first, of those with a known end."""
    ending = [(gap.comes_on, gap) for gap in directory.gaps(targets) if gap.comes_on is not None]
    return min(ending, key=lambda pair: pair[0])[1] if ending else None


def holds(run: Escalation, level: int) -> bool:
    """Whether the run waits at this level for a user to come on call."""
    return run.timer is not None and run.timer.kind is TimerKind.GAP_HOLD and run.level == level


def hold(run: Escalation, level: int, ending: OnCall, now: datetime, timer_id: UUID, *, why: str) -> Decision:
    """Wait at `level`. Users who were paged at an earlier level stay paged, and may still answer."""
    assert ending.comes_on is not None, "only a gap that ends is waited for"
    open_ = {page: state for page, state in run.pages.items() if state is PageState.OPEN}
    held = replace(
        run,
        state=State.TRIGGERED,
        level=level,
        assignees=(),
        pages=open_,
        timer=_look_again(run, ending, now, timer_id),
    )
    names = ", ".join(f"users/{user}" for user in ending.next_users)
    text = f"level {level} waits for {names}, on call from {ending.comes_on:%Y-%m-%d %H:%M} UTC on; {why}"
    return Decision(held, notes=(Note(NoteKind.LEVEL_HELD, "", text, level, gap=GapChoice.HOLD),))


def still_held(run: Escalation, ending: OnCall, now: datetime, timer_id: UUID) -> Decision:
    """The gap continues: check again later, without a new entry. Users who were added meanwhile stay paged."""
    return Decision(replace(run, timer=_look_again(run, ending, now, timer_id)))


def _look_again(run: Escalation, ending: OnCall, now: datetime, timer_id: UUID) -> Timer:
    assert ending.comes_on is not None, "only a gap that ends is waited for"
    # Always later than now: two clocks may differ a little, and a timer that is due already would fire without end.
    due = max(min(ending.comes_on, now + LOOK_AGAIN), now + timedelta(seconds=1))
    return Timer(timer_id, TimerKind.GAP_HOLD, due, run.generation)

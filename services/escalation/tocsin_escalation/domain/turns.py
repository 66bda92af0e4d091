"""Levels that page one person after the other: whose turn it is.

The unit of a turn is one person. When a level starts, its teams and schedules are replaced by the people who are members or on
call then, and the person whose last turn is the longest ago is next. A policy has one order for all its levels, so that a person
who was paged at one level is not the first of the next one too.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tocsin_escalation.domain.decision import Command, PageType, TurnTaken, page_id
from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.domain.policy import Directory, Policy

MOST: Final = 1000
"""Users of one policy whose turns are stored: the row stays small, however many people are paged through it over the years."""


def line_up(policy: Policy, users: Sequence[str], directory: Directory) -> tuple[str, ...]:
    """The people of a level, the next one first. Those who are away have turns only when no other person is there."""
    there = [user for user in users if user not in directory.away] or users
    had = {user: place for place, user in enumerate((directory.turns or {}).get(policy.id, ()))}
    return tuple(sorted(there, key=lambda user: had.get(user, -1)))


def waiting(run: Escalation, line: Iterable[str]) -> tuple[str, ...]:
    """The people who have had no turn since the present level began."""
    return tuple(user for user in line if _page(run, user) not in run.pages)


def holder(run: Escalation) -> str:
    """The person whose turn it is; at a level that pages again, the last one; empty for levels without parts."""
    if run.timer is None or run.timer.level_end is None:
        return ""
    return next((user for user in reversed(run.assignees) if _page(run, user) in run.pages), "")


def _page(run: Escalation, user: str) -> object:
    return page_id(run, PageType.ESCALATION, run.level, user)


def taken(turns: Mapping[str, tuple[str, ...]], commands: Iterable[Command]) -> dict[str, tuple[str, ...]]:
    """The turns after the decision."""
    after = dict(turns)
    for command in commands:
        if isinstance(command, TurnTaken):
            others = [user for user in after.get(command.policy, ()) if user != command.user]
            after[command.policy] = (*others, command.user)[-MOST:]
    return after

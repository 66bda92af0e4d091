"""The wanted state of a Slack user group, from who is on call and who has a Slack account."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_NAMED: Final = 5
_SHORTEST_PAUSE: Final = 10.0
_LONGEST_PAUSE: Final = 1800.0


@dataclass(frozen=True, slots=True)
class SetMembers:
    """These, and no others."""

    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disable:
    """No user is on call, so a mention of the group must reach no one."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave it as it is."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The change to make, and what is wrong in spite of it, in words."""

    want: SetMembers | Disable | Leave
    problem: str = ""


def wish_for(
    schedule: str,
    on_call: Sequence[str] | None,
    accounts: Mapping[str, str],
    *,
    disable_when_nobody: bool,
) -> Wish:
    """`on_call`: the schedule's users; None: it does not exist. `accounts`: members of Slack, by user.

    A group is never emptied because information is missing: a mention of it would reach no one.
    """
    if on_call is None:
        return Wish(Leave(), f"{schedule} does not exist any more; delete this, or name another schedule")
    if not on_call:
        return Wish(Disable() if disable_when_nobody else Leave())
    members = tuple(sorted({accounts[user] for user in on_call if user in accounts}))
    strangers = [user for user in on_call if user not in accounts]
    if not members:
        return Wish(Leave(), f"nobody who is on call has a verified contact method of Slack: {_named(strangers)}")
    missing = f"without a verified contact method of Slack: {_named(strangers)}" if strangers else ""
    return Wish(SetMembers(members), missing)


def pause_after(tries: int, after: float | None, chance: float) -> float:
    """Seconds until the next call to Slack after `tries` failures; `after`: what Slack asked for. `chance`: 0 to 1."""
    pause = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2.0 ** min(tries - 1, 20))
    return max(pause * (0.5 + chance / 2), min(after or 0.0, _LONGEST_PAUSE))


def _named(users: Sequence[str]) -> str:
    shown = ", ".join(users[:_NAMED])
    return shown if len(users) <= _NAMED else f"{shown} and {len(users) - _NAMED} more"

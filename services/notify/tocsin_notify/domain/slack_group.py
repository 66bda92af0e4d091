"""What a user group of Slack should be, from who is on call and who has an account there."""

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
    """Nobody is on call, so the group must reach nobody."""


@dataclass(frozen=True, slots=True)
class Leave:
    """As it is at Slack."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done, and what is wrong all the same, in words."""

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

    A group is never emptied for want of knowledge: a mention of it would then reach nobody.
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
    """Seconds until Slack is asked again that has failed `tries` times; `after`: what it asked for. `chance`: 0 to 1."""
    pause = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2.0 ** min(tries - 1, 20))
    return max(pause * (0.5 + chance / 2), min(after or 0.0, _LONGEST_PAUSE))


def _named(users: Sequence[str]) -> str:
    shown = ", ".join(users[:_NAMED])
    return shown if len(users) <= _NAMED else f"{shown} and {len(users) - _NAMED} more"

"""Warnings of a policy: targets that reach no one, and times at which its levels have no user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tocsin_escalation.domain.chain import chain
from tocsin_escalation.domain.conditions import SEVERITIES, left_out
from tocsin_escalation.domain.coverage import LevelCoverage
from tocsin_escalation.domain.policy import Directory, GapChoice, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import time_of

_FOLLOWS: Final = {
    GapChoice.SKIP: "the next level is paged at once then",
    GapChoice.HOLD: "the level waits until somebody comes on call",
    GapChoice.FALLBACK: "the fallback target finds nobody either then, and the next level is paged at once",
}


@dataclass(frozen=True, slots=True)
class Warned:
    """One such target. `level` counts from 1 and is 0 for the fallback target, and without a target."""

    level: int
    target: Target | None
    message: str


def warn(policy: Policy, directory: Directory, unreachable: Mapping[str, str]) -> tuple[Warned, ...]:
    """Every such target of the policy, in its order. `unreachable`: the reason, by the ids of users to whom no page can be sent."""
    named = [(number, target) for number, level in enumerate(policy.levels, 1) for target in level.targets]
    if policy.fallback_target:
        named.append((0, policy.fallback_target))
    return tuple(
        Warned(level, target, message)
        for level, target in named
        if (message := _why_nobody(target, directory, unreachable))
    )


def warn_of_turns(policy: Policy, directory: Directory, unreachable: Mapping[str, str]) -> tuple[Warned, ...]:
    """Targets of levels that page one person after the other, some of whom cannot be reached: in their turns the next one is
    paged."""
    warned = []
    for number, level in enumerate(policy.levels, 1):
        for target in level.targets if level.in_turn else ():
            users = directory.resolve([target])
            lost = [user for user in users if user in unreachable]
            if lost and len(lost) < len(users):
                reasons = "; ".join(f"{user}: {unreachable[user]}" for user in lost)
                text = f"level {number} passes over the turns of some people of {target}, who cannot be reached ({reasons})"
                warned.append(Warned(number, target, text[:1024]))
    return tuple(warned)


def warn_of_conditions(policy: Policy, directory: Directory, minute: int) -> tuple[Warned, ...]:
    """Severities for which no level is, at some time of the week that begins at `minute`.

    The policies to which it is handed on count as well. A fallback target is for all severities, but only the one of the last
    policy is used.
    """
    policies = chain(policy, directory)
    if policies[-1].fallback_target is not None:
        return ()
    conditions = [level.condition for each in policies for level in each.levels]
    found = {each: left_out(conditions, each, minute) for each in SEVERITIES}
    others = ", ".join(f"policies/{id}" for id in dict.fromkeys(each.id for each in policies[1:]))
    also = f", nor of {others} to which it is handed on," if others else ","
    last = f"policies/{policies[-1].id}" if others else "the policy"
    return tuple(
        Warned(
            0,
            None,
            f"an incident of severity {SEVERITIES[severity]} pages nobody {stretch(*gap)}: "
            f"the condition of no level holds{also} and {last} has no fallback target",
        )
        for severity, gap in found.items()
        if gap is not None
    )


def warn_of_next(policy: Policy, directory: Directory) -> tuple[Warned, ...]:
    """A next policy that does not exist any more: of this policy, or of the last one to which it is handed on."""
    last = chain(policy, directory)[-1]
    if not last.next_policy or directory.next_policy_of(last) is not None:
        return ()
    by = "" if last is policy else f" by policies/{last.id}"
    text = f"policies/{last.next_policy}, to which incidents would be handed on{by}, does not exist: they are exhausted instead"
    return (Warned(0, None, text),)


def warn_of_gaps(policy: Policy, levels: Sequence[LevelCoverage]) -> tuple[Warned, ...]:
    """The first gap of each level, caused by its schedules. `levels` are the policy's, without its fallback target."""
    warned = []
    for found in levels:
        if not found.of_schedules:
            continue
        targets = policy.levels[found.level - 1].targets
        schedules = [target for target in targets if target.kind is TargetKind.SCHEDULE]
        follows = _FOLLOWS.get(policy.on_gap, _FOLLOWS[GapChoice.SKIP])
        names = ", ".join(map(str, schedules))
        text = f"level {found.level} finds nobody {stretch(*found.of_schedules[0])}, a gap of {names}: {follows}"
        warned.append(Warned(found.level, schedules[0], text[:1024]))
    return tuple(warned)


def stretch(start: int, end: int) -> str:
    """In words, of two minutes."""
    return f"from {time_of(start):%Y-%m-%d %H:%M} to {time_of(end):%Y-%m-%d %H:%M} UTC"


def _why_nobody(target: Target, directory: Directory, unreachable: Mapping[str, str]) -> str:
    """Empty when at least one person can be reached through the target."""
    users = directory.resolve([target])
    if not users:
        if target.kind is TargetKind.USER:
            return f"{target} cannot be paged: the user does not exist or is disabled"
        if target.kind is TargetKind.SCHEDULE:
            return directory.why([target])
        return f"{target} has no member who can be paged"
    if any(user not in unreachable for user in users):
        return ""
    if target.kind is TargetKind.USER:
        return f"{target} cannot be reached: {unreachable[target.id]}"
    reasons = "; ".join(f"{user}: {unreachable[user]}" for user in users)
    return f"nobody of {target} can be reached ({reasons})"

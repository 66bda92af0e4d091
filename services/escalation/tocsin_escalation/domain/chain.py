"""The policies on which an incident runs, one after the other, when no person answers."""

from typing import Final

from tocsin_escalation.domain.policy import Directory, Policy

MOST_HAND_ONS: Final = 5
"""Policies that hand on to each other in a ring page people this many times more, and then the incident is exhausted."""


def chain(policy: Policy, directory: Directory) -> tuple[Policy, ...]:
    """This policy and those to which it is handed on. After the last policy its fallback target is paged."""
    found = [policy]
    while len(found) <= MOST_HAND_ONS and (following := directory.next_policy_of(found[-1])) is not None:
        found.append(following)
    return tuple(found)

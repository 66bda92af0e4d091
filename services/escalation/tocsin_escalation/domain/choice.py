"""Which policy an incident runs on."""

from collections.abc import Sequence
from datetime import datetime

from tocsin_escalation.domain.chain import chain
from tocsin_escalation.domain.events import Started
from tocsin_escalation.domain.gaps import comes_on
from tocsin_escalation.domain.policy import Directory, GapChoice, Level, Policy
from tocsin_escalation.domain.urgencies import deferral


def _may_page(policy: Policy, level: Level, directory: Directory, *, waits: bool) -> bool:
    """The users whom a level may page once its condition holds: its targets, the next user on call after a gap, or the target for
    gaps."""
    if directory.resolve(level.targets):
        return True
    if policy.on_gap is GapChoice.HOLD or waits:
        return comes_on(level.targets, directory) is not None
    target = policy.fallback_target
    instead = policy.on_gap is GapChoice.FALLBACK and target is not None and directory.resolve([target])
    return bool(instead and directory.gaps(level.targets))


def _why_not(policies: Sequence[Policy], severity: int, now: datetime, directory: Directory) -> str:
    """Why the first of these policies, which hand on to each other, pages no one for such an incident when it begins; empty when
    it pages someone.

    Also empty when no level is for the severity at any time: that is intended.
    """
    last = policies[-1].fallback_target
    if last is not None and directory.resolve([last]):
        return ""
    rules = policies[0].urgency_rules
    wait = deferral(rules, severity, now) if rules else None
    begins, waits = wait.until or now if wait else now, wait is not None
    levels = [(policy, level) for policy in policies for level in policy.levels]
    meant = [(policy, level) for policy, level in levels if level.condition.is_for(severity)]
    if not meant and any(_may_page(policy, level, directory, waits=waits) for policy, level in levels):
        return ""
    paging = [level for policy, level in meant if _may_page(policy, level, directory, waits=waits)]
    if any(level.condition.holds(severity, begins) for level in paging):
        return ""
    if paging:
        return "has no level that pages anybody for it at this time"
    return "names nobody who can be paged"


def choose(
    wanted: str, named: Policy | None, fallback: Policy | None, directory: Directory, severity: int, now: datetime
) -> Started:
    """The policy that routing asked for, if it can page a user or waits for one; else the tenant's fallback; else the one asked
    for; else none.

    `wanted` is the id that was asked for, empty for none. An incident that runs on another policy is never silent: its timeline
    has the cause.
    """
    why_not = _why_not(chain(named, directory), severity, now, directory) if named is not None else ""
    if named is not None and not why_not:
        return Started(named)
    if not wanted:
        cause = "no policy was asked for"
    elif named is None:
        cause = f"policies/{wanted} does not exist"
    else:
        cause = f"policies/{wanted} {why_not}"
    if fallback is not None and (named is None or fallback.id != named.id):
        return Started(fallback, f"{cause}; running on the tenant's fallback policies/{fallback.id}")
    if named is not None:
        return Started(named)
    return Started(None, f"{cause}, and the tenant has no fallback policy: nobody is paged")

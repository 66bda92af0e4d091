"""Which policy an incident runs on."""

from tocsin_escalation.domain.events import Started
from tocsin_escalation.domain.gaps import waits
from tocsin_escalation.domain.paging import MOST_HAND_ONS
from tocsin_escalation.domain.policy import Directory, Policy


def _pages_somebody(policy: Policy, directory: Directory) -> bool:
    """Now, later, or by a policy to which it hands on."""
    on: Policy | None = policy
    for _ in range(MOST_HAND_ONS + 1):
        if on is None:
            return False
        if directory.resolve(on.targets()) or waits(on, directory):
            return True
        on = directory.following(on)
    return False


def choose(wanted: str, named: Policy | None, fallback: Policy | None, directory: Directory) -> Started:
    """The policy that routing asked for if it can page anybody or waits for somebody, else the tenant's fallback, else the one
    asked for, else none.

    `wanted` is the id that was asked for, empty for none. An incident is never parked in silence: the cause is said.
    """
    if named is not None and _pages_somebody(named, directory):
        return Started(named)
    if not wanted:
        cause = "no policy was asked for"
    elif named is None:
        cause = f"policies/{wanted} does not exist"
    else:
        cause = f"policies/{wanted} names nobody who can be paged"
    if fallback is not None and (named is None or fallback.id != named.id):
        return Started(fallback, f"{cause}; running on the tenant's fallback policies/{fallback.id}")
    if named is not None:
        return Started(named)
    return Started(None, f"{cause}, and the tenant has no fallback policy: nobody is paged")

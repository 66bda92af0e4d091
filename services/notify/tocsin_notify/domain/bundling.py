"""Not too much: above so many pages in a while a person gets further ones together, as one message.

Critical pages take no part in it: they go at once, and neither use the budget nor wait for anybody's. Everything else counts.

A storm begins with the page that exceeds the budget, and lasts until none came for a whole `window`. While it lasts, pages are
collected. The first message that bundles them follows after `collect`; each further one after twice the time, up to `longest`:
short enough that a level has not timed out before its people have heard of it. A bundle that holds too many pages for one message
is sent as several, one after the other, the oldest pages first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

TOGETHER: Final = "sent together with other pages, as pages/{bundle}"
"""What a page in a bundle says of itself."""
WAITS: Final = (
    "waits for the end of quiet hours at {until:%Y-%m-%d %H:%M} UTC, then sent by itself or as pages/{bundle}"
)
"""What a page in a bundle that waits says of itself."""


@dataclass(frozen=True, slots=True)
class BundlePolicy:
    """`pages`: the budget of one person within `window`; 0: pages are never bundled. All but `pages` are seconds.

    `collect`: from the first page of a bundle to its message. `longest`: what that grows to while the storm goes on.
    """

    pages: int = 10
    window: float = 300.0
    collect: float = 30.0
    longest: float = 120.0


@dataclass(frozen=True, slots=True)
class Pace:
    """What one person got lately.

    `alone`: when the latest pages went by themselves, oldest first; at most as many as the budget. `storm_until`: until then
    further pages are collected; None: there was no storm. `bundle` is sent at `bundle_due`, and None once it was.
    `bundles`: how many the storm made.
    """

    alone: tuple[datetime, ...] = ()
    storm_until: datetime | None = None
    bundle: UUID | None = None
    bundle_due: datetime | None = None
    bundles: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one page goes: by itself, or into `bundle`."""

    pace: Pace
    bundle: UUID | None = None


def place(pace: Pace, now: datetime, policy: BundlePolicy, new_id: Callable[[], UUID]) -> Placed:
    """Where the page goes that comes now. `new_id` names a bundle, if one begins."""
    window = timedelta(seconds=policy.window)
    if pace.bundle is not None:
        # Also one that is overdue: only its sender takes it from here, and what was in it would be lost otherwise.
        return Placed(replace(pace, storm_until=now + window), pace.bundle)
    if pace.storm_until is None or now >= pace.storm_until:
        alone = tuple(at for at in pace.alone if now - at < window)
        if policy.pages <= 0 or len(alone) < policy.pages:
            return Placed(Pace((*alone, now) if policy.pages > 0 else ()))
        pace = Pace(alone)
    wait = min(policy.longest, policy.collect * 2.0 ** min(pace.bundles, 60))
    id = new_id()
    due, until = now + timedelta(seconds=wait), now + window
    return Placed(Pace(pace.alone, until, id, due, pace.bundles + 1), id)


@dataclass(frozen=True, slots=True)
class Member:
    """A page of a bundle that is still true. `severity` in words; `since`: when its level was due."""

    title: str
    severity: str
    since: datetime

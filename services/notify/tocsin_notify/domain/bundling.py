"""Limits the messages that a person gets: above a number of pages within a time, further pages are sent together as one
message.

Critical pages take no part in it: they are sent at once, use no budget and wait for no other page. All other pages
count.

A storm begins with the page that exceeds the budget, and lasts until no page arrived for a whole `window`. While it
lasts, pages are collected. The first message that bundles them follows after `collect`. The pause doubles for each
further one, up to `longest`, which is short enough that people hear of a level before it times out. A bundle that holds
too many pages for one message is sent as several, one after the other, the oldest pages first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

TOGETHER: Final = "sent together with other pages, as pages/{bundle}"
"""The text on the notification of a page in a bundle."""
WAITS: Final = (
    "waits for the end of quiet hours at {until:%Y-%m-%d %H:%M} UTC, then sent by itself or as pages/{bundle}"
)
"""The text on the notification of a page in a bundle that waits."""


@dataclass(frozen=True, slots=True)
class BundlePolicy:
    """`pages`: the budget of one person within `window`; 0: pages are never bundled. All but `pages` are seconds.

    `collect`: from the first page of a bundle to its message. `longest`: the limit of that pause while the storm goes
    on.
    """

    pages: int = 10
    window: float = 300.0
    collect: float = 30.0
    longest: float = 120.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The pages that one person got lately.

    `alone`: the times of the latest pages that were sent alone, oldest first; at most as many as the budget.
    `storm_until`: until then further pages are collected; None: there is no storm. `bundle` is sent at `bundle_due`,
    and None once it was. `bundles`: how many the storm has made.
    """

    alone: tuple[datetime, ...] = ()
    storm_until: datetime | None = None
    bundle: UUID | None = None
    bundle_due: datetime | None = None
    bundles: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """The way of one page: alone, or in `bundle`."""

    pace: Pace
    bundle: UUID | None = None


def place(pace: Pace, now: datetime, policy: BundlePolicy, new_id: Callable[[], UUID]) -> Placed:
    """Decides the way of a page that arrives now. `new_id` names a bundle, if one begins."""
    window = timedelta(seconds=policy.window)
    if pace.bundle is not None:
        # Also a bundle that is overdue: only its sender may remove it here, or the pages in it would be lost.
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
    """A page of a bundle whose incident still pages. `severity` in words; `since`: when its level was due."""

    title: str
    severity: str
    since: datetime

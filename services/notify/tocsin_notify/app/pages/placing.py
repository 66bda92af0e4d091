"""Decides which new pages are bundled with others of the same person: those above a budget, and those within quiet
hours."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin.type.v1.severity_pb2 import Severity
from tocsin_kit.db.pool import Tx
from tocsin_kit.ids import new_id

from tocsin_notify.app.pages.jobs import SEVERE
from tocsin_notify.domain.bundling import TOGETHER, WAITS, BundlePolicy, place
from tocsin_notify.domain.page import NEWS, PAGES, Urgency
from tocsin_notify.store.pages import bundles, quiet_bundles
from tocsin_notify.store.pages.bundles import Asked, Joined
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.store.pages.people import Person, User

_NEVER_WAIT: Final = frozenset({Severity.SEVERITY_UNSPECIFIED, Severity.SEVERITY_CRITICAL})
QUIET_NEWS: Final = "not sent: it came within quiet hours, and is news of an incident of low urgency"


@dataclass(frozen=True, slots=True)
class Bundled:
    """The bundle in which a page waits. `reason`: the reason that its notification shows."""

    bundle: UUID
    reason: str


def may_wait(page: NewPage) -> bool:
    """Whether it may be sent together with others. Critical pages never wait, and neither do pages that name their
    contact method."""
    of_people = page.page.kind in PAGES and page.incident is not None and not page.page.outlasts
    return of_people and page.job.severity not in _NEVER_WAIT and page.page.channel_override is None


def why_not_sent(page: NewPage, person: Person, now: datetime) -> str | None:
    """News of low urgency is of no use once quiet hours are over; None for pages that are sent."""
    if page.page.kind not in NEWS or page.job.severity in SEVERE:
        return None
    return QUIET_NEWS if person.settings.quiet_until(now) is not None else None


class Placing:
    """`default`: for people who have no budget of their own."""

    def __init__(self, default: BundlePolicy) -> None:
        self._default = default

    async def __call__(
        self, tx: Tx, able: Sequence[NewPage], known: Mapping[User, Person], now: datetime
    ) -> dict[UUID, Bundled]:
        """The bundle of each of these that is not sent alone."""
        until = {user: known[user].settings.quiet_until(now) for user in {(page.org_id, page.user_id) for page in able}}
        quiet = [page for page in able if page.page.urgency is Urgency.LOW and until[page.org_id, page.user_id]]
        waiting = {page.id for page in quiet}
        joined, together = await self._above_budget(tx, [page for page in able if page.id not in waiting], known, now)
        if quiet:
            ends = {user: end for user, end in until.items() if end is not None}
            open_ = await quiet_bundles.open_for(
                tx, {(page.org_id, page.user_id): (new_id(), ends[page.org_id, page.user_id]) for page in quiet}
            )
            for page in quiet:
                user = page.org_id, page.user_id
                joined.append(_joined(page, open_[user]))
                together[page.id] = Bundled(open_[user], WAITS.format(until=ends[user], bundle=open_[user]))
        if joined:
            await bundles.join(tx, joined)
        return together

    async def _above_budget(
        self, tx: Tx, able: Sequence[NewPage], known: Mapping[User, Person], now: datetime
    ) -> tuple[list[Joined], dict[UUID, Bundled]]:
        users = {(page.org_id, page.user_id) for page in able}
        policies = {user: known[user].settings.bundling(self._default) for user in users}
        able = [page for page in able if policies[page.org_id, page.user_id].pages > 0]
        joined: list[Joined] = []
        together: dict[UUID, Bundled] = {}
        if not able:
            return joined, together
        counts = Counter((page.org_id, page.user_id) for page in able)
        asked = {user: Asked(pages, policies[user].pages, policies[user].window) for user, pages in counts.items()}
        held = await bundles.take(tx, asked)
        for page in able:
            user = page.org_id, page.user_id
            if user not in held:
                continue  # all of this person's pages are sent alone
            placed = place(held[user], now, policies[user], new_id)
            held[user] = placed.pace
            if placed.bundle is not None:
                joined.append(_joined(page, placed.bundle))
                together[page.id] = Bundled(placed.bundle, TOGETHER.format(bundle=placed.bundle))
        if held:
            await bundles.keep(tx, held)
        return joined, together


def _joined(page: NewPage, bundle: UUID) -> Joined:
    assert page.incident is not None, "see may_wait"
    return Joined(page.org_id, bundle, page.id, page.incident, page.generation)

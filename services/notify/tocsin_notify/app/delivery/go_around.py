"""Pages go around a provider that fails for many: they go to the user's next method at once.

Their notifications are not given up. The notification for the failing provider is retried slowly, until a person
answers or the provider serves again. A notification whose page has no better method is tried like any other, so that
its person is still paged.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.circuits import Circuits, Provider, provider_of
from tocsin_notify.app.delivery.failures import replacement, still_tried
from tocsin_notify.app.delivery.hints import Hint, Hints
from tocsin_notify.app.delivery.slots import Slot
from tocsin_notify.app.pages.targets import destination_of
from tocsin_notify.domain.attempt import RetryPolicy, slow_pace
from tocsin_notify.domain.circuit import Way
from tocsin_notify.domain.failover import Add, Elsewhere, PullForward, Sibling, go_around
from tocsin_notify.domain.page import SLOW, WAKING, Channel, Page, State, is_slow, priority_of
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import candidates, failures, notifications
from tocsin_notify.store.delivery.candidates import Candidate
from tocsin_notify.store.delivery.failures import Begun, Kept
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.delivery.rows import NotificationHead
from tocsin_notify.store.pages import pages, people
from tocsin_notify.store.pages.people import Person

_log = get_logger(__name__)

_MOST: Final = 200
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)


@dataclass(slots=True)
class Detours:
    """What one transaction decided. Pass it to `GoAround.hint` after the commit."""

    pulled: list[tuple[str, UUID]] = field(default_factory=list)
    added: list[NewNotification] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    went_around: list[tuple[Kept, Provider]] = field(default_factory=list)
    """For the first time."""
    left: set[UUID] = field(default_factory=set)
    """Another session holds their pages: these were not decided."""

    @property
    def ids(self) -> set[UUID]:
        """The notifications that are not tried now; a probe is tried."""
        return {kept.id for kept in self.kept if kept.delay > 0}


class GoAround:
    """Asks the circuits, decides by `domain.failover.go_around`, and writes."""

    def __init__(
        self,
        db: Database,
        circuits: Circuits,
        hints: Hints,
        metrics: NotifyMetrics,
        policy: RetryPolicy,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._db = db
        self._circuits = circuits
        self._hints = hints
        self._metrics = metrics
        self._policy = policy
        self._chance = chance
        self._channels: Sequence[Channel] = ()
        """The notifications that wait for these channels are being checked, and the next part begins after `_after`."""
        self._after = _FIRST
        self._again: set[Channel] = set()
        """The notifications that wait for these channels are to be checked again: another session held some of their
        pages."""

    def fails(self, channel: Channel) -> bool:
        """Whether the only provider of a channel fails for many."""
        return self._circuits.is_open(Provider(channel))

    def is_open(self, slot: Slot) -> bool:
        """Whether pages go around the provider of this slot."""
        return self._circuits.is_open(provider_of(slot.org_id, slot.channel, slot.destination))

    async def __call__(self, found: Sequence[Candidate]) -> tuple[list[Candidate], int]:
        """Those of these that are to be tried where they are; and how many took another way.

        Notifications whose pages another session holds at this moment are in neither. They stay due, for a later round.
        Raises DATABASE_UNAVAILABLE, and CONFLICT when another replica decided about the same pages: then nothing is
        changed.
        """
        if not self._circuits.any_open():
            return list(found), 0
        behind = [each for each in found if self._circuits.is_open(_provider(each))]
        diverted: set[UUID] = set()
        left: set[UUID] = set()
        for start in range(0, len(behind), _MOST):
            detours = await self._detour(behind[start : start + _MOST], early=False)
            diverted |= detours.ids
            left |= detours.left
        return [each for each in found if each.id not in diverted | left], len(diverted)

    async def waiting(self) -> bool:
        """Notifications that wait for another attempt by a provider whose circuit has opened since then wait no longer.

        Checks a bounded part of them; returns whether there is more. An error is logged, and the same part is checked
        next time: due notifications are claimed meanwhile.
        """
        if not self._channels:
            self._channels, self._after = sorted({*self._circuits.take_opened(), *self._again}), _FIRST
            self._again = set()
        if not self._channels:
            return False
        try:
            last = await self._look()
        except TocsinError as error:
            _log.warning("look_around_failed", error=error.message, meaning="it is tried again with the next round")
            return False
        if last is None:
            self._channels = ()
            # Other circuits may have opened meanwhile; pages that were held are checked with the next sweep.
            return not self._again
        self._after = last
        return True

    async def _look(self) -> tuple[datetime, UUID] | None:
        async with self._db.system() as tx:
            found, last = await candidates.tried_before(tx, self._channels, *self._after, _MOST)
        behind = [each for each in found if self._circuits.is_open(_provider(each))]
        if behind:
            detours = await self._detour(behind, early=True)
            self._again |= {each.channel for each in behind if each.id in detours.left}
        return last

    async def take(self, tx: Tx, heads: Mapping[UUID, tuple[NotificationHead, Provider]], held: pages.Held) -> Detours:
        """Decide about these notifications, which wait. The caller holds their rows and, as `held`, their pages."""
        detours = Detours()
        if heads:
            await self._decide(tx, heads, held, detours, may_try=False)
        return detours

    def hint(self, detours: Detours) -> None:
        """After the commit."""
        self._hints.now([*(id for _, id in detours.pulled), *(row.id for row in detours.added)])
        self._hints.arm([Hint(kept.id, kept.delay, kept.priority) for kept in detours.kept if kept.delay > 0])
        for kept, provider in detours.went_around:
            self._metrics.went_around.labels(provider.channel).inc()
            _log.info(
                "notification_went_around", org_id=kept.org_id, notification=str(kept.id), channel=str(provider.channel)
            )

    async def _detour(self, behind: Sequence[Candidate], *, early: bool) -> Detours:
        providers = {each.id: _provider(each) for each in behind}
        detours = Detours()
        async with self._db.system() as tx:
            owners = await candidates.pages_of(tx, providers)
            locked = await pages.lock(tx, set(owners.values()), only_free=True)
            detours.left = {id for id, (_, page) in owners.items() if page not in locked}
            rows = await candidates.hold_pages(tx, providers, locked, WAKING, early=early)
            heads = {row.id: (row, providers[row.id]) for row in rows}
            await self._decide(tx, heads, locked, detours, may_try=not early)
        self.hint(detours)
        return detours

    async def _decide(
        self,
        tx: Tx,
        heads: Mapping[UUID, tuple[NotificationHead, Provider]],
        locked: pages.Held,
        detours: Detours,
        *,
        may_try: bool,
    ) -> None:
        """`may_try`: the caller tries those that take no other way, so one of them may be the probe."""
        rows: Collection[NotificationHead] = [head for head, _ in heads.values()]
        known = await people.read(tx, {(row.org_id, row.user_id) for row in rows})
        siblings = await failures.siblings(tx, {(row.org_id, row.page_id) for row in rows})
        begun = await failures.begun(tx, [(row.org_id, row.id) for row in rows])
        for head, provider in heads.values():
            (page, _), person = locked[head.page_id], known[head.org_id, head.user_id]
            family = siblings[head.page_id]
            siblings[head.page_id] = self._choose(
                head, provider, page, person, family, begun[head.id], detours, may_try
            )
        if detours.pulled:
            await failures.pull_forward(tx, detours.pulled)
        if detours.added:
            await notifications.insert(tx, detours.added)
        if detours.kept:
            await failures.keep(tx, detours.kept)

    def _choose(
        self,
        head: NotificationHead,
        provider: Provider,
        page: Page,
        person: Person,
        family: list[Sibling],
        begun: Begun,
        detours: Detours,
        may_try: bool,
    ) -> list[Sibling]:
        """The page's notifications after the decision."""
        again = is_slow(head.priority)
        failing = self._circuits.failing(head.org_id, person.targets)
        own = next(each for each in family if each.id == head.id)
        wait = slow_pace(begun.age, self._policy, self._chance())
        # The window limits how long a page is retried. It does not decide whether its user's next method has the page
        # at once.
        expired = again and begun.age >= self._policy.window
        choice = None if expired else go_around(page, own, family, person.methods, failing, again=again)
        way = self._circuits.way(provider, head.contact_method) if may_try else Way.AROUND
        if choice is None or way is Way.THROUGH:
            return family
        match choice:
            case PullForward(notification=next_one):
                detours.pulled.append((head.org_id, next_one))
                family = [replace(each, state=State.SENDING) if each.id == next_one else each for each in family]
            case Add(method=method, step=step):
                row = replacement(head, page, method, step)
                detours.added.append(row)
                family = [*family, Sibling(row.id, row.contact_method, State.SENDING)]
            case Elsewhere():
                pass
        to = choice.method.id if isinstance(choice, Add) else choice.method
        until = begun.time + timedelta(seconds=max(self._policy.window, begun.age + wait.seconds))
        kept = Kept(
            head.org_id,
            head.id,
            f"{provider.channel} fails for many at present, so contactMethods/{to} has the page too; it is tried on until "
            f"{until:%Y-%m-%d %H:%M:%S} UTC",
            SLOW[priority_of(page.kind, page.urgency)],
            0.0 if way is Way.PROBE else wait.seconds,
        )
        detours.kept.append(kept)
        if not again:
            detours.went_around.append((kept, provider))
        return still_tried(family, head.id)


def _provider(candidate: Candidate) -> Provider:
    destination = destination_of(candidate.contact_method, candidate.channel, candidate.address)
    return provider_of(candidate.org_id, candidate.channel, destination)

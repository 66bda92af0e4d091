"""Rounds over due notifications: claims (`claim`) as many as there are slots for, fairly among tenants."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final
from uuid import UUID

import grpc
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.backlog import Backlog
from tocsin_notify.app.delivery.claim import MOST_PER_CLAIM, Claim
from tocsin_notify.app.delivery.go_around import GoAround
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.delivery.slots import Slot, Slots
from tocsin_notify.app.delivery.still_wanted import StillWanted
from tocsin_notify.app.delivery.take_over import TakeOver
from tocsin_notify.app.pages.targets import destination_of
from tocsin_notify.domain.page import CRITICAL, DIGESTS, LANES, Channel
from tocsin_notify.store.delivery import candidates
from tocsin_notify.store.delivery.candidates import Candidate

_log = get_logger(__name__)

_ORGS_PER_ROUND: Final = 200
_LEAST_PER_ORG: Final = 8
"""Rows of a tenant that are read even if fewer slots are free: the first ones may wait for something else."""
_BEYOND: Final = 2
"""Rows that are read for each free slot, beside two of each tenant: some of them wait for something else."""
_MOST_DIGESTS: Final = 4
"""Of a tenant's digests in one look: their channels have few slots for them, so most of the thousands that are due must
wait."""
_LOOKS: Final = 10
"""In one round at most. Each look skips the contact methods that earlier looks found busy, and those that earlier
rounds found busy and that still are."""
FRESH_SECONDS: Final = 0.25
"""Seconds for which what a look found may be claimed without another one. A notification that became due since then
waits no longer than this."""
_LOOKS_APART: Final = 0.05
"""Seconds between two looks at a lane while notifications of the first look wait for a slot in their channel."""
_DEEP: Final = 8
"""One round in this many also looks behind busy destinations, even if a notification in front of them could leave."""


@dataclass(frozen=True, slots=True)
class _InHand:
    """Rows that a look found, and when that was."""

    rows: list[Candidate]
    time: float

    @property
    def age(self) -> float:
        """In seconds."""
        return monotonic() - self.time


@dataclass(slots=True)
class _Claims:
    """What happened to the rows that were found."""

    count: int = 0
    """Claimed."""
    busy: dict[UUID, Slot] = field(default_factory=dict)
    """The contact methods of those that wait for calls to the same destination, or by the same channel, to end."""
    left: list[Candidate] = field(default_factory=list)
    """Those that wait for a slot in their channel."""


class Deliver:
    """One object per process; its rounds run one after another."""

    def __init__(
        self,
        db: Database,
        claim: Claim,
        slots: Slots,
        backlog: Backlog,
        go_around: GoAround,
        take_over: TakeOver,
        still_wanted: StillWanted,
    ) -> None:
        self.first: Final = PeopleFirst()
        """Rounds over notifications that are not urgent give way to what holds this: new pages, and people who answer."""
        self._db = db
        self._claim = claim
        self._slots = slots
        self._backlog = backlog
        self._go_around = go_around
        self._from_others = take_over
        self._still_wanted = still_wanted
        self._cursors = dict.fromkeys(LANES, "")
        self._served = dict.fromkeys(LANES, "")
        self._busy: dict[int, dict[UUID, Slot]] = {priority: {} for priority in LANES}
        """Contact methods that the last round of each lane passed over."""
        self._in_hand: dict[int, _InHand] = {}
        """For each lane, the rows that its last look found and that had no slot in their channel."""
        self._rounds = 0
        self.stopping = False
        """If set, no more notifications are claimed."""

    async def named(self, ids: Collection[UUID]) -> None:
        """Deliver these, as far as they are due and slots are free; the sweep finds the rest."""
        if self.stopping or not ids:
            return
        async with self._db.autocommit() as tx:
            found = await candidates.named(tx, ids)
        direct, _ = await self._go_around(found)
        await self._claim_those_with_room(direct)

    async def everything(self) -> None:
        """Rounds until one finds no more."""
        try:
            while await self.due():
                pass
        except TocsinError as error:
            if error.code is not grpc.StatusCode.ABORTED:
                raise
            _log.info("claim_conflict", error=error.message)  # the rows are still due; the next round finds them

    async def due(self) -> bool:
        """One round over all due notifications, critical ones first, slow retries last; returns whether another round
        may find more."""
        if self.stopping:
            return False
        self._backlog.forget()
        self._rounds += 1
        async with self._db.autocommit() as tx:
            waiting = await candidates.look(tx, LANES)
        progress = 0
        if waiting.expired:
            progress = await self._take_over()
        for priority in LANES:
            if priority in waiting.lanes:
                if CRITICAL not in waiting.lanes:
                    await self.first.give_way()
                progress += await self._round(priority)
        more = await self._go_around.waiting()  # after the due ones: these would only have waited longer
        return more or progress > 0

    async def _take_over(self) -> int:
        expired = await self._from_others.find()
        try:
            claimed = (await self._claim_those_with_room(expired)).count
        except TocsinError as error:
            if error.code is grpc.StatusCode.UNAVAILABLE:
                self._from_others.failed()
            raise
        self._from_others.taken(claimed)
        return claimed

    async def _round(self, priority: int) -> int:
        left = self._backlog.of(priority)
        if not self._slots.free(priority):
            left.any = True
            return 0
        claimed = await self._from_hand(priority)
        if priority in self._in_hand:
            return 0
        cursor = self._cursors[priority]
        everything = False
        busy = self._still_busy(priority)
        for look in range(_LOOKS):
            free = self._slots.free(priority)
            if not free:
                left.any = True
                break
            full = self._full_channels(priority)
            left.full |= full
            per_org = min(max(free, _LEAST_PER_ORG), self._slots.per_org)
            beyond = _ORGS_PER_ROUND * per_org if everything else _BEYOND * free
            async with self._db.autocommit() as tx:
                found = await candidates.due(
                    tx,
                    priority,
                    after_org=cursor,
                    orgs=_ORGS_PER_ROUND,
                    per_org=_MOST_DIGESTS if priority == DIGESTS else per_org,
                    beyond=beyond,
                    but=busy,
                    but_channels=full,
                )
            if look == 0:
                # The next round goes on behind the tenants of this one, and begins again after the last.
                self._cursors[priority] = found.last
            found_at = monotonic()
            direct, diverted = await self._go_around(found.rows)
            claims = await self._claim_those_with_room(_in_turn(direct, self._served[priority]))
            claimed += claims.count + diverted
            busy |= claims.busy
            if look == 0:
                self._in_hand[priority] = _InHand(claims.left, found_at)
            # The tenants in front have used up their budgets: slots may be free for the tenants behind them.
            everything = claims.count < free and found.cut
            # A destination that hangs may have more due rows than one look finds: a second look goes on behind them.
            # While some of the rows leave, the next round follows at once, so most rounds need no second look.
            if not everything and (not claims.busy or (claims.count and self._rounds % _DEEP)):
                break
        self._busy[priority] = busy
        return claimed

    async def _from_hand(self, priority: int) -> int:
        """Claim rows that the last look found beyond the slots of their channel; returns how many. Without this,
        thousands of notifications that are due together would be read a dozen times each. While some are left, no look
        is needed: the end of the next call in their channel begins another round, and a look follows soon in any case.
        """
        hand = self._in_hand.pop(priority, None)
        if hand is None or not hand.rows or hand.age > FRESH_SECONDS:
            return 0
        direct, diverted = await self._go_around(hand.rows)
        claims = await self._claim_those_with_room(direct)
        claimed = claims.count + diverted
        if claims.left and (claimed or hand.age < _LOOKS_APART):
            self._in_hand[priority] = _InHand(claims.left, hand.time)
            self._backlog.look_soon(_LOOKS_APART)
        return claimed

    def _still_busy(self, priority: int) -> dict[UUID, Slot]:
        """The contact methods that the last round skipped and whose destination is still full.

        Those behind an open circuit are read again: their pages may go around it.
        """
        busy = self._busy[priority]
        still = {
            id: slot for id, slot in busy.items() if self._slots.crowded(slot) and not self._go_around.is_open(slot)
        }
        self._backlog.of(priority).crowded |= {
            (slot.org_id, key) for slot in still.values() if (key := self._slots.crowded(slot)) is not None
        }
        return still

    def _full_channels(self, priority: int) -> set[Channel]:
        """Channels whose rows are not read now: none of them could leave, and none goes around its provider."""
        return {
            channel
            for channel in Channel
            if self._slots.is_full(channel, priority) and not self._go_around.fails(channel)
        }

    async def _claim_those_with_room(self, found: Sequence[Candidate]) -> _Claims:
        await self._still_wanted(found)
        claims = _Claims()
        crowded: set[tuple[str, int, UUID | str]] = set()
        full: set[tuple[Channel, int]] = set()
        for start in range(0, len(found), MOST_PER_CLAIM):
            taken: dict[UUID, tuple[Slot, Candidate]] = {}
            for each in found[start : start + MOST_PER_CLAIM]:
                destination = destination_of(each.contact_method, each.channel, each.address)
                slot = Slot(each.org_id, each.channel, each.priority, destination)
                lane = each.org_id, each.priority
                if destination and ((*lane, destination.method) in crowded or (*lane, destination.host) in crowded):
                    claims.busy[each.contact_method] = slot
                elif (each.channel, each.priority) in full:
                    claims.busy[each.contact_method] = slot
                    claims.left.append(each)
                elif self._slots.take(slot):
                    taken[each.id] = (slot, each)
                elif (key := self._slots.crowded(slot)) is not None:
                    crowded.add((*lane, key))
                    claims.busy[each.contact_method] = slot
                elif self._slots.is_full(each.channel, each.priority):
                    full.add((each.channel, each.priority))
                    claims.busy[each.contact_method] = slot
                    claims.left.append(each)
                else:
                    self._backlog.of(each.priority).any = True
            self._served |= {each.priority: each.org_id for _, each in taken.values()}
            if taken:
                claims.count += await self._claim(taken)
        for channel, priority in full:
            self._backlog.of(priority).full.add(channel)
        for org_id, priority, key in crowded:
            self._backlog.of(priority).crowded.add((org_id, key))
        return claims


def _in_turn(found: Sequence[Candidate], served: str) -> list[Candidate]:
    """One row of every tenant before the second row of any, beginning after the tenant that was served last.

    When only one slot is free at a time, which is how hanging calls give them back, the first tenant of each round
    would take them all.
    """
    turns: Counter[str] = Counter()

    def turn(candidate: Candidate) -> tuple[int, bool]:
        turns[candidate.org_id] += 1
        return turns[candidate.org_id], candidate.org_id <= served

    return sorted(found, key=turn)

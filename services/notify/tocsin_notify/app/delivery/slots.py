"""How many provider calls may run at once, in all and for each tenant and channel."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final, NamedTuple
from uuid import UUID

from tocsin_kit.buckets import Buckets
from tocsin_kit.budgets import Budgets
from tocsin_kit.counts import Counts
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.lanes import Destination, Lanes
from tocsin_notify.app.delivery.provider_rates import ProviderRates
from tocsin_notify.domain.page import CRITICAL, DIGESTS, SLOW, Channel

_log = get_logger(__name__)

NOTIFICATIONS: Final = "notifications_per_minute"
_SLOW_SHARE: Final = 4
"""Slow retries get one slot in this many: of all that are not reserved, of each channel's, of each tenant's. They go to
providers that refuse or hang, and thousands of them may wait; however many they are, new notifications have the other
slots. Digests, of which thousands may be due in one minute, have a share of the same size for themselves."""
_APART: Final = {**dict.fromkeys(SLOW.values(), "slow"), DIGESTS: "digests"}
"""Lanes that get at most this share, and which of them use one share together."""


class Slot(NamedTuple):
    """A slot for one call."""

    org_id: str
    channel: Channel
    priority: int
    destination: Destination | None = None
    """None: only the channel limits its calls."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Per replica. `rate` is calls per second and tenant, 0: no limit; `burst` how many it may save up."""

    total: int = 200
    critical_reserve: int = 50
    """Slots that only critical pages may take: a flood of others on a slow provider never takes the last one."""
    per_org: int = 50
    """Of each priority, so that a tenant's own flood does not hold up its critical pages either."""
    rate: float = 50.0
    """For each lane except the critical one: slow retries use nothing of the rate of new notifications."""
    burst: float = 200.0


class Slots:
    """Hands out slots; never waits. Critical pages are not limited by the rate."""

    def __init__(
        self,
        limits: Limits,
        channels: Mapping[Channel, int],
        budgets: Budgets | None = None,
        failing: Callable[[Channel], bool] = lambda _: False,
        rates: ProviderRates | None = None,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`channels`: calls each channel can begin at once. `budgets`: what tenants may send, over all replicas.
        `failing`: whether the only provider of a channel fails for many: then the channel gets as many calls at once as
        slow retries do. `rates`: how many calls a second a channel's provider allows, over all replicas."""
        self._rates = rates
        self._failing = failing
        self._budgets = budgets
        self._limits = limits
        self._channels = channels
        self._clock = clock
        self._lanes = Lanes(clock)
        self._taken = 0
        self._apart: Counter[str] = Counter()
        self._by_channel: Counter[Channel] = Counter()
        self._apart_by_channel: Counter[tuple[str, Channel]] = Counter()
        self._by_org: Counts[tuple[str, int]] = Counts()
        self._buckets = Buckets(limits.rate, limits.burst) if limits.rate > 0 else None

    @property
    def taken(self) -> int:
        """Calls under way."""
        return self._taken

    def resize(self, total: int, critical_reserve: int) -> None:
        """Set the number of slots, and how many of them only critical pages may take. Calls that are under way
        continue."""
        self._limits = replace(self._limits, total=total, critical_reserve=critical_reserve)

    def free(self, priority: int) -> int:
        """How many slots a notification of this priority could take."""
        if priority == CRITICAL:
            return max(0, self._limits.total - self._taken)
        room = self._limits.total - self._limits.critical_reserve
        free = room - self._taken
        if priority in _APART:
            free = min(free, _slow_share(room) - self._apart[_APART[priority]])
        return max(0, free)

    def room(self, channel: Channel, priority: int) -> tuple[int, int]:
        """How many calls of this channel and priority could begin now, and how many there may be at once, for all
        tenants together."""
        most = min(self._limits.total - self._limits.critical_reserve, self._room_in(channel, priority))
        return max(0, min(self.free(priority), most - self._by_channel[channel])), most

    @property
    def per_org(self) -> int:
        """The most one tenant may take of one priority."""
        return self._limits.per_org

    def take(self, slot: Slot) -> bool:
        """Whether the caller owns the slot now, until `end_call` and `release`, or `give_back`."""
        if not self.free(slot.priority):
            return False
        if self.is_full(slot.channel, slot.priority):
            return False
        if self._by_org[slot.org_id, slot.priority] >= self._share(slot):
            return False
        if self.crowded(slot) is not None:
            return False
        if not self._spend(slot):
            return False
        if self._rates is not None:
            self._rates.begins(slot.channel, critical=slot.priority == CRITICAL)
        self._taken += 1
        self._by_channel[slot.channel] += 1
        self._by_org[slot.org_id, slot.priority] += 1
        if slot.destination is not None:
            self._lanes.enter(slot.org_id, slot.priority, self._share(slot), slot.destination)
        if slot.priority in _APART:
            share = _APART[slot.priority]
            self._apart[share] += 1
            self._apart_by_channel[share, slot.channel] += 1
        return True

    def is_full(self, channel: Channel, priority: int) -> bool:
        """Whether this channel can take no more calls of this priority at the moment, or within this second, of any
        tenant."""
        if priority != CRITICAL and self._rates is not None and not self._rates.has_room(channel):
            return True
        room = self._room_in(channel, priority)
        if self._by_channel[channel] >= room:
            return True
        return priority in _APART and self._apart_by_channel[_APART[priority], channel] >= _slow_share(room)

    def crowded(self, slot: Slot) -> UUID | str | None:
        """The contact method or the host that can take no more calls at the moment (`delivery.lanes`), even if other
        slots are free."""
        if slot.destination is None:
            return None
        return self._lanes.full(slot.org_id, slot.priority, self._share(slot), slot.destination)

    def learn(self, slot: Slot, *, hung: bool) -> None:
        """Its call ended; `hung`: without an answer within its time. Before `release`."""
        if slot.destination is None:
            return
        if self._lanes.learn(slot.org_id, slot.priority, self._share(slot), slot.destination, hung=hung):
            _log.warning(
                "destination_hangs",
                org_id=slot.org_id,
                contact_method=f"contactMethods/{slot.destination.method}",
                host=slot.destination.host,
                meaning="it gets few calls at once until it answers again; pages for others go on",
            )

    def end_call(self, slot: Slot) -> None:
        """Its call has ended: the channel may begin another one while the outcome is written. `release` follows."""
        self._by_channel[slot.channel] -= 1
        if slot.priority in _APART:
            self._apart_by_channel[_APART[slot.priority], slot.channel] -= 1

    def release(self, slot: Slot) -> None:
        """The outcome of its call is written, after `end_call`."""
        if slot.destination is not None:
            self._lanes.leave(slot.org_id, slot.priority, self._share(slot), slot.destination)
        self._taken -= 1
        if slot.priority in _APART:
            self._apart[_APART[slot.priority]] -= 1
        self._by_org.less((slot.org_id, slot.priority))

    def give_back(self, slot: Slot) -> None:
        """Its call does not begin."""
        self.end_call(slot)
        self.release(slot)

    def _share(self, slot: Slot) -> int:
        """The tenant's slots for this priority."""
        return _slow_share(self._limits.per_org) if slot.priority in _APART else self._limits.per_org

    def _room_in(self, channel: Channel, priority: int) -> int:
        """A channel's slots are reserved in the same proportion as all slots."""
        room = self._channels[channel]
        if self._failing(channel):
            room = _slow_share(room)
        if priority == CRITICAL:
            return room
        return max(1, room - room * self._limits.critical_reserve // self._limits.total)

    def _spend(self, slot: Slot) -> bool:
        """Whether the rates allow it. Critical pages are always allowed; their calls count and leave fewer for the
        others. Digests have a rate of their own and use nothing of the tenant's budget, which its other notifications
        need."""
        if slot.priority == CRITICAL:
            if self._budgets is not None:
                self._budgets.note(slot.org_id, NOTIFICATIONS)
            return True
        if self._buckets is not None and self._buckets.take((slot.org_id, slot.priority), self._clock()):
            return False
        return (
            slot.priority == DIGESTS or self._budgets is None or not self._budgets.try_take(slot.org_id, NOTIFICATIONS)
        )


def _slow_share(slots: int) -> int:
    return max(1, slots // _SLOW_SHARE)

"""How many of a tenant's calls one destination may have, so that a destination that hangs leaves slots to the others.

A destination is a contact method, and also the host that it leads to: when a host hangs, all methods on it do. A new
lane is narrow. Each answer makes it wider while it is well used, up to three quarters of the tenant's share; each call
that got no answer at all halves it. This is additive increase and multiplicative decrease, as in TCP (RFC 5681 §3.1). A
fast destination soon has all the slots it can use, and one that hangs keeps a few, whose calls show when it is back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

_MOST: Final = 10_000
"""Lanes that are kept. Beyond that, those without a call under way are forgotten."""
_IDLE_SECONDS: Final = 60.0
"""After this time without a call, the width of a lane says nothing any more."""
_PER_ANSWER: Final = 2


class Destination(NamedTuple):
    """Where a call goes. `host` with its port."""

    method: UUID
    host: str


@dataclass(slots=True)
class _Lane:
    width: int
    taken: int = 0
    used: float = 0.0


class Lanes:
    """Widths of the lanes of one process. Pages of different priority do not share a lane."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lanes: dict[tuple[str, int, UUID | str], _Lane] = {}

    def full(self, org_id: str, priority: int, share: int, destination: Destination) -> UUID | str | None:
        """The contact method or the host that has its maximum of calls; or None. `share`: the tenant's slots for this
        priority.
        """
        for key, narrow, _ in _keys(share, destination):
            lane = self._lanes.get((org_id, priority, key))
            if lane is None:
                continue
            if not lane.taken and self._clock() - lane.used > _IDLE_SECONDS:
                lane.width = narrow
            if lane.taken >= lane.width:
                return key
        return None

    def enter(self, org_id: str, priority: int, share: int, destination: Destination) -> None:
        """A call to this destination begins; `leave` when it is over."""
        if len(self._lanes) >= _MOST:
            self._lanes = {key: lane for key, lane in self._lanes.items() if lane.taken}
        for key, narrow, _ in _keys(share, destination):
            lane = self._lanes.setdefault((org_id, priority, key), _Lane(narrow))
            lane.taken += 1
            lane.used = self._clock()

    def leave(self, org_id: str, priority: int, share: int, destination: Destination) -> None:
        """The call has ended, or never began."""
        now = self._clock()
        for key, narrow, _ in _keys(share, destination):
            lane = self._lanes[org_id, priority, key]
            lane.taken -= 1
            lane.used = now
            if not lane.taken and lane.width == narrow:
                del self._lanes[org_id, priority, key]

    def learn(self, org_id: str, priority: int, share: int, destination: Destination, *, hung: bool) -> bool:
        """A call ended: `hung` without an answer within its time, or with one. Before `leave`.

        True when this made a lane as narrow as it can be.
        """
        closed = False
        for key, narrow, widest in _keys(share, destination):
            lane = self._lanes[org_id, priority, key]
            if not hung:
                if 2 * lane.taken >= lane.width:
                    lane.width = min(widest, lane.width + _PER_ANSWER)
                continue
            least, before = max(1, narrow // 3), lane.width
            lane.width = max(least, before // 2)
            closed |= lane.width == least < before
        return closed


def _keys(share: int, destination: Destination) -> tuple[tuple[UUID | str, int, int], ...]:
    """Key, width at first, and largest width, of each lane that leads there."""
    widest = max(1, share * 3 // 4)
    return (
        (destination.method, min(widest, max(2, share // 8)), widest),
        (destination.host, min(widest, max(4, share // 4)), widest),
    )

"""How fast one integration may send: token buckets, in the memory of each replica.

Senders repeat whole groups until each alert of them is taken. Were a repeated alert to cost as much as a new one, a group
larger than the burst would never get in: each repeat would spend the tokens on the alerts that are in already.
"""

from collections import OrderedDict
from typing import Final
from uuid import UUID

from tocsin_kit.buckets import Buckets

_ADMITTED: Final = 200_000
"""Keys that are remembered as admitted, of all integrations together."""
_REPEATS: Final = 10.0
"""Times the rate of new alerts at which known ones may be sent again."""


class RateLimit:
    """`rate` new alerts per second and `burst` at once, for each integration of each tenant; ten times that of repeats."""

    def __init__(self, rate: float, burst: float) -> None:
        self._new = Buckets(rate, burst)
        self._repeats = Buckets(rate * _REPEATS, burst * _REPEATS)
        self._admitted: OrderedDict[UUID, None] = OrderedDict()

    def cost(self, key: UUID) -> float:
        """What an alert counts for: 1, or less when it was admitted before."""
        return 1 / _REPEATS if key in self._admitted else 1.0

    def take(self, org_id: str, integration_id: str, key: UUID, now: float) -> float:
        """Takes the share of one alert with this key at monotonic second `now`; 0, or the seconds until there will be one."""
        buckets = self._repeats if key in self._admitted else self._new
        wait = buckets.take((org_id, integration_id), now)
        if not wait:
            self._admitted[key] = None
            self._admitted.move_to_end(key)
            if len(self._admitted) > _ADMITTED:
                self._admitted.popitem(last=False)
        return wait

"""How fast one integration may send: token buckets, in the memory of each replica.

Senders repeat whole groups until each alert of them is taken. Were a repeated alert to cost as much as a new one, a group
larger than the burst would never get in: each repeat would spend the tokens on the alerts that are in already.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_SIZE: Final = 10_000
_ADMITTED: Final = 200_000
"""Keys that are remembered as admitted, of all integrations together."""
_REPEATS: Final = 10.0
"""Times the rate of new alerts at which known ones may be sent again."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    time: float


class RateLimit:
    """`rate` new alerts per second and `burst` at once, for each integration of each tenant; ten times that of repeats."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[tuple[str, str, bool], _Bucket] = OrderedDict()
        self._admitted: OrderedDict[UUID, None] = OrderedDict()

    def take(self, org_id: str, integration_id: str, key: UUID, now: float) -> float:
        """Takes the share of one alert with this key at monotonic second `now`; 0, or the seconds until there will be one."""
        repeated = key in self._admitted
        factor = _REPEATS if repeated else 1.0
        wait = self._take((org_id, integration_id, repeated), self._rate * factor, self._burst * factor, now)
        if not wait:
            self._admitted[key] = None
            self._admitted.move_to_end(key)
            if len(self._admitted) > _ADMITTED:
                self._admitted.popitem(last=False)
        return wait

    def _take(self, name: tuple[str, str, bool], rate: float, burst: float, now: float) -> float:
        bucket = self._buckets.get(name)
        if bucket is None:
            # Who was not heard of for longest has a full bucket by now, so forgetting it changes nothing.
            if len(self._buckets) >= _SIZE:
                self._buckets.popitem(last=False)
            bucket = self._buckets[name] = _Bucket(burst, now)
        else:
            self._buckets.move_to_end(name)
            bucket.tokens = min(burst, bucket.tokens + (now - bucket.time) * rate)
            bucket.time = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / rate

"""How fast one integration may send: a token bucket each, in the memory of each replica."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_SIZE: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    time: float


class RateLimit:
    """`rate` alerts per second and `burst` at once, for each integration of each tenant."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def take(self, org_id: str, integration_id: str, now: float) -> float:
        """Takes one alert's share at monotonic second `now`; 0, or the seconds until there will be one."""
        key = (org_id, integration_id)
        bucket = self._buckets.get(key)
        if bucket is None:
            # Who was not heard of for longest has a full bucket by now, so forgetting it changes nothing.
            if len(self._buckets) >= _SIZE:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = _Bucket(self._burst, now)
        else:
            self._buckets.move_to_end(key)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.time) * self._rate)
            bucket.time = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / self._rate

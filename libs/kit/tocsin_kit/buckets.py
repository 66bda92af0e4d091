"""Token buckets by key, in the memory of one replica: how often something may happen, and how often at once."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

_SIZE: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    time: float


class Buckets:
    """`rate` a second and `burst` at once, for each key. With several replicas a key has that much at each of them."""

    def __init__(self, rate: float, burst: float, *, size: int = _SIZE) -> None:
        self._rate = rate
        self._burst = burst
        self._size = size
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether anybody has taken a share."""
        return bool(self._buckets)

    def wait(self, key: Hashable, now: float) -> float:
        """The seconds until there will be a share, 0 when there is one; takes none."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        return max(0.0, (1 - bucket.tokens) / self._rate - (now - bucket.time))

    def take(self, key: Hashable, now: float) -> float:
        """Takes one share at monotonic second `now`; 0, or the seconds until there will be one."""
        bucket = self._buckets.get(key)
        if bucket is None:
            # Who was not heard of for longest most likely has a full bucket by now.
            if len(self._buckets) >= self._size:
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

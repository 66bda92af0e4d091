"""Token buckets in the memory of one replica: how often something may happen, and how often at once."""

from collections.abc import Hashable
from typing import Final

from tocsin_kit.bounded import Bounded

_SIZE: Final = 10_000
_ROUNDING: Final = 1e-6
"""Tokens by which sums of fractions may be off: ten takes of a tenth are one take of 1, in any order."""


class Bucket:
    """One bucket. Its size and its rate are given with each use, so that both may change."""

    __slots__ = ("time", "tokens")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        """The number of tokens at `time`; below 0 while a large take is paid off."""
        self.time = now

    def fill(self, rate: float, burst: float, now: float) -> float:
        """How many tokens there are at monotonic second `now`."""
        self.tokens = min(burst, self.tokens + (now - self.time) * rate)
        self.time = now
        return self.tokens

    def has(self, count: float, rate: float, burst: float, now: float) -> bool:
        """Whether there are `count` tokens at monotonic second `now`."""
        return self.fill(rate, burst, now) >= count - _ROUNDING

    def take(self, count: float, rate: float, burst: float, now: float) -> float:
        """Takes `count` tokens; 0, or the seconds until there will be as many.

        A full bucket gives more than it holds, and pays it off later: otherwise a take larger than `burst` could never succeed.
        """
        wanted = min(count, burst)
        if self.has(wanted, rate, burst, now):
            self.tokens -= count
            return 0.0
        return (wanted - self.tokens) / rate


class Buckets:
    """`rate` a second and `burst` at once, for each key. With several replicas a key has that much at each of them."""

    def __init__(self, rate: float, burst: float, *, size: int = _SIZE) -> None:
        self._rate = rate
        self._burst = burst
        # A key that was not used for longest most likely has a full bucket by now.
        self._buckets: Bounded[Hashable, Bucket] = Bounded(size)

    def __bool__(self) -> bool:
        """Whether any key has used a token."""
        return bool(self._buckets)

    def wait(self, key: Hashable, now: float) -> float:
        """The seconds until there will be a share, 0 when there is one; takes none."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        return max(0.0, (1 - bucket.fill(self._rate, self._burst, now)) / self._rate)

    def tokens(self, key: Hashable, now: float) -> float:
        """How many shares there are at monotonic second `now`; takes none."""
        bucket = self._buckets.get(key)
        return self._burst if bucket is None else bucket.fill(self._rate, self._burst, now)

    def has(self, key: Hashable, now: float, count: float) -> bool:
        """Whether there are `count` shares at monotonic second `now`; takes none."""
        bucket = self._buckets.get(key)
        return count <= self._burst if bucket is None else bucket.has(count, self._rate, self._burst, now)

    def take(self, key: Hashable, now: float, count: float = 1) -> float:
        """Takes one share, or `count`, at monotonic second `now`; 0, or the seconds until there will be as many."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._burst, now)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(count, self._rate, self._burst, now)

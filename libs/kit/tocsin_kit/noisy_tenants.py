"""Noisy tenants: they have sent many items within the last seconds, so that their next items are handled apart from those of
others."""

import time
from collections.abc import Callable
from typing import Final

from tocsin_kit.buckets import Bucket

RATE: Final = 50.0
"""Items a second that a tenant may send without limit of time. A set with items that come faster takes long for everyone in it."""
BURST: Final = 100.0
"""Items beyond the rate after which a tenant is noisy. It stays so for at most as many seconds as these items take at the
rate."""
_SIZE: Final = 10_000


class NoisyTenants:
    """The noisy tenants that this process knows. Its size is limited: of more than ten thousand tenants some are taken for quiet
    ones."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def note(self, org_id: str, count: int = 1) -> None:
        """Count items of the tenant."""
        now = self._clock()
        bucket = self._buckets.get(org_id)
        if bucket is None:
            if len(self._buckets) >= _SIZE:
                self._forget_quiet(now)
            bucket = self._buckets[org_id] = Bucket(BURST, now)
        bucket.tokens = max(-BURST, bucket.fill(RATE, BURST, now) - count)

    def __contains__(self, org_id: object) -> bool:
        """Whether the tenant is noisy."""
        bucket = self._buckets.get(org_id) if isinstance(org_id, str) else None
        return bucket is not None and bucket.fill(RATE, BURST, self._clock()) < 0

    def __len__(self) -> int:
        """Tenants that are kept."""
        return len(self._buckets)

    def _forget_quiet(self, now: float) -> None:
        kept = {org_id: each for org_id, each in self._buckets.items() if each.fill(RATE, BURST, now) < 0}
        self._buckets = kept if len(kept) < _SIZE else {}

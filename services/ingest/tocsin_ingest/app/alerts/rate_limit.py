"""How fast one integration may send: token buckets, in the memory of each replica.

Senders repeat whole groups until each alert of them is taken. Were a repeated alert to cost as much as a new one, a group
larger than the burst would never get in: each repeat would spend the tokens on the alerts that are in already.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from tocsin_kit.buckets import Buckets

_ADMITTED: Final = 200_000
"""Keys that are remembered as admitted, of all integrations together."""
_REPEATS: Final = 10.0
"""Times the rate of new alerts at which known ones may be sent again."""
REPEAT: Final = 1 / _REPEATS
"""What a repeated alert counts for."""


class RateLimit:
    """`rate` new alerts per second and `burst` at once, for each integration of each tenant; ten times that of repeats."""

    def __init__(self, rate: float, burst: float) -> None:
        self._new = Buckets(rate, burst)
        self._repeats = Buckets(rate * _REPEATS, burst * _REPEATS)
        self._admitted: OrderedDict[UUID, None] = OrderedDict()

    def cost(self, key: UUID) -> float:
        """What an alert counts for: 1, or less when it was admitted before."""
        return REPEAT if key in self._admitted else 1.0

    def knows(self, key: UUID) -> bool:
        """Whether an alert with this key was admitted before."""
        return key in self._admitted

    def take(self, org_id: str, integration_id: str, key: UUID, now: float) -> float:
        """Takes the share of one alert with this key at monotonic second `now`; 0, or the seconds until there will be one."""
        buckets = self._repeats if key in self._admitted else self._new
        wait = buckets.take((org_id, integration_id), now)
        if not wait:
            self._admit(key)
        return wait

    def has(self, org_id: str, integration_id: str, new: int, repeats: int, now: float) -> bool:
        """Whether as many alerts could be taken one by one at this moment. Takes nothing."""
        of = (org_id, integration_id)
        return self._new.has(of, now, new) and self._repeats.has(of, now, repeats)

    def take_all(self, org_id: str, integration_id: str, new: int, repeats: int, now: float) -> None:
        """Takes as many, which `has` found there. Their keys are admitted by `admit`."""
        of = (org_id, integration_id)
        if new:
            self._new.take(of, now, new)
        if repeats:
            self._repeats.take(of, now, repeats)

    def admit(self, keys: Iterable[UUID]) -> None:
        """Alerts with these keys were taken in."""
        for key in keys:
            self._admit(key)

    def _admit(self, key: UUID) -> None:
        self._admitted[key] = None
        self._admitted.move_to_end(key)
        if len(self._admitted) > _ADMITTED:
            self._admitted.popitem(last=False)

"""How fast one integration may send, over all replicas. Counted as tenants' budgets are (`tocsin_kit.budgets`).

Senders repeat whole groups until each alert in them is accepted. If a repeated alert cost as much as a new one, a group larger
than the burst would never be accepted completely: each repeat would spend the tokens on alerts that are accepted already.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final
from uuid import UUID

from tocsin_kit.budgets import Budgets, Limit
from tocsin_kit.metrics import Metrics

SERVICE: Final = "ingest-integrations"
"""The name of these budgets in Redis."""
NEW: Final = "integration_new_alerts"
REPEATED: Final = "integration_repeated_alerts"
_ADMITTED: Final = 200_000
"""Keys of accepted alerts that are kept, of all integrations together."""
_REPEATS: Final = 10.0
"""Known alerts may be repeated at this multiple of the rate of new ones."""
REPEAT: Final = 1 / _REPEATS
"""The cost of a repeated alert."""


class RateLimit:
    """`rate` new alerts per second and `burst` at once, for each integration of each tenant; ten times that of repeats.

    Each replica keeps its own list of known alerts: a repeat counts as new at a replica that has not seen it.
    """

    def __init__(self, rate: float, burst: float, metrics: Metrics, *, clock: Callable[[], float] = monotonic) -> None:
        """`burst`: at least 1; a fraction of an alert could not be used. `clock`: in seconds."""
        most = int(burst)
        limits = (Limit(NEW, most, most / rate), Limit(REPEATED, int(most * _REPEATS), most / rate))
        self.budgets: Final = Budgets(limits, metrics, clock=clock)
        self._admitted: OrderedDict[UUID, None] = OrderedDict()

    def cost(self, key: UUID) -> float:
        """The cost of an alert: 1, or less when it was accepted before."""
        return REPEAT if key in self._admitted else 1.0

    def knows(self, key: UUID) -> bool:
        """Whether an alert with this key was accepted before."""
        return key in self._admitted

    def take(self, org_id: str, integration_id: str, key: UUID) -> float:
        """Takes the share of one alert with this key; 0, or the seconds until there will be one."""
        name = REPEATED if key in self._admitted else NEW
        wait = self.budgets.try_take(_holder(org_id, integration_id), name)
        if not wait:
            self._admit(key)
        return wait

    def has(self, org_id: str, integration_id: str, new: int, repeats: int) -> bool:
        """Whether as many alerts could be taken one by one at this moment. Takes nothing."""
        holder = _holder(org_id, integration_id)
        return (not new or self.budgets.has(holder, NEW, new)) and (
            not repeats or self.budgets.has(holder, REPEATED, repeats)
        )

    def take_all(self, org_id: str, integration_id: str, new: int, repeats: int) -> None:
        """Takes tokens that `has` found available. `admit` then marks their keys as accepted."""
        holder = _holder(org_id, integration_id)
        if new:
            self.budgets.try_take(holder, NEW, new)
        if repeats:
            self.budgets.try_take(holder, REPEATED, repeats)

    def admit(self, keys: Iterable[UUID]) -> None:
        """Alerts with these keys were accepted."""
        for key in keys:
            self._admit(key)

    def _admit(self, key: UUID) -> None:
        self._admitted[key] = None
        self._admitted.move_to_end(key)
        if len(self._admitted) > _ADMITTED:
            self._admitted.popitem(last=False)


def _holder(org_id: str, integration_id: str) -> str:
    return f"{org_id}/{integration_id}"

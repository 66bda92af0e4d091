"""How many calls a second the operator's account at a provider allows, over all replicas: one bot or one mail server
serves all tenants.

Counted like tenants' budgets (`tocsin_kit.budgets`): in memory, shared with the other replicas through Redis. Without
Redis each replica has an equal part.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from tocsin_kit.budgets import Budgets, Limit
from tocsin_kit.metrics import Metrics

from tocsin_notify.domain.page import Channel

SERVICE: Final = "notify-providers"
"""The name of these budgets in Redis."""
_ACCOUNT: Final = "operator"
_LEAST_SAVED: Final = 2.0
"""The least number of calls that may be saved up: due rows are read once a second, and a second without a read must
lose no call."""


class ProviderRates:
    """Channels that have a rate. Critical pages never wait; their calls count and leave fewer for the others."""

    def __init__(
        self, rates: Mapping[Channel, int], metrics: Metrics, *, clock: Callable[[], float] = monotonic
    ) -> None:
        """`rates`: calls per second. A channel without one is not limited."""
        self._names = {channel: f"{channel}_calls_per_second" for channel in rates}
        limits = [
            Limit(self._names[channel], rate, 1.0, saved=max(1.0, _LEAST_SAVED / rate))
            for channel, rate in rates.items()
        ]
        self.budgets: Final = Budgets(limits, metrics, clock=clock)

    def __bool__(self) -> bool:
        return bool(self._names)

    def has_room(self, channel: Channel) -> bool:
        """Whether one more call that is not critical may begin now."""
        name = self._names.get(channel)
        return name is None or self.budgets.has(_ACCOUNT, name, 1)

    def begins(self, channel: Channel, *, critical: bool) -> None:
        """Counts a call that begins: one that had room, or a critical one."""
        name = self._names.get(channel)
        if name is None:
            return
        if critical:
            self.budgets.note(_ACCOUNT, name)
        else:
            self.budgets.try_take(_ACCOUNT, name)

"""How many requests to subscriptions are under way in this process: for one subscription, for one tenant, and in all.

They share nothing with pages: an endpoint that hangs holds slots of this pool only, and few of them. A subscription is
in doubt if its last request failed, or if it has never accepted one. All of these together have at most a quarter of
the slots; subscriptions that work have the rest.
"""

from typing import Final
from uuid import UUID

from tocsin_kit.counts import Counts

from tocsin_notify.domain.subscription import WIDTH, SubscriptionHealth

_SHARE: Final = 4
"""A tenant has at most a quarter of all slots."""
_DOUBTFUL_SHARE: Final = 3
"""Of a tenant's slots, a third may be taken by subscriptions that are in doubt."""


class EventSlots:
    """Slots of one process."""

    def __init__(self, most: int) -> None:
        """`most`: requests at once."""
        self.share: Final = max(1, most // _SHARE)
        self._most = most
        self._of_tenant: Counts[str] = Counts()
        self._of_subscription: Counts[UUID] = Counts()
        self._doubtful_of_tenant: Counts[str] = Counts()

    @property
    def free(self) -> int:
        """Of all slots."""
        return self._most - self._of_tenant.total()

    @property
    def for_doubtful(self) -> int:
        """Slots that subscriptions in doubt may still take."""
        return max(0, self.share - self._doubtful_of_tenant.total())

    def full_tenants(self) -> list[str]:
        """Those that may take no more."""
        return [org_id for org_id, taken in self._of_tenant.items() if taken >= self.share]

    def full_subscriptions(self) -> list[UUID]:
        """Those that may take no more, in doubt or not."""
        return [id for id, taken in self._of_subscription.items() if taken >= WIDTH]

    def room(self, org_id: str, id: UUID, standing: SubscriptionHealth) -> int:
        """How many more requests this subscription may have at once."""
        room = min(standing.width - self._of_subscription[id], self.share - self._of_tenant[org_id], self.free)
        if standing.doubtful:
            of_tenant = max(1, self.share // _DOUBTFUL_SHARE) - self._doubtful_of_tenant[org_id]
            room = min(room, self.for_doubtful, of_tenant)
        return max(0, room)

    def take(self, org_id: str, id: UUID, standing: SubscriptionHealth) -> None:
        """One request begins."""
        self._of_tenant[org_id] += 1
        self._of_subscription[id] += 1
        if standing.doubtful:
            self._doubtful_of_tenant[org_id] += 1

    def leave(self, org_id: str, id: UUID, standing: SubscriptionHealth) -> None:
        """The request has ended; `standing` as it was when the request began."""
        self._of_tenant.less(org_id)
        self._of_subscription.less(id)
        if standing.doubtful:
            self._doubtful_of_tenant.less(org_id)

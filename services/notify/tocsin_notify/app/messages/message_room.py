"""How many more messages a tenant may schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.bounded import Bounded
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError

from tocsin_notify.store.messages import messages

SCHEDULED: Final = "scheduled_messages"
_COUNTED_SECONDS: Final = 60.0
_TENANTS: Final = 10_000
_RETRY_AFTER: Final = 60.0


@dataclass(slots=True)
class _Counted:
    left: int
    until: float
    allowed: int


class MessageRoom:
    """Counts the rows of a tenant with much room seldom: counting a million takes longer than storing a hundred.

    What was counted is good for half of the room that was left, divided by the replicas, each of which may count by itself: so all
    of them together stay below what the tenant may have. A tenant with little room is counted each time.
    """

    def __init__(self, budgets: Budgets, *, clock: Callable[[], float] = monotonic) -> None:
        self._budgets = budgets
        self._clock = clock
        self._counted: Bounded[str, _Counted] = Bounded(_TENANTS)

    async def left(self, tx: Tx, wanted: int) -> int:
        """How many of so many more the tenant may schedule. Calls at the same time may pass it together."""
        allowed = self._budgets.allowed(tx.org_id, SCHEDULED)
        counted = self._counted.get(tx.org_id)
        if counted is None or counted.left < wanted or counted.allowed != allowed or self._clock() >= counted.until:
            left = allowed - await messages.count_scheduled(tx, allowed)
            counted = _Counted(left // (2 * self._budgets.replicas), self._clock() + _COUNTED_SECONDS, allowed)
            if counted.left < wanted:
                self._counted.pop(tx.org_id, None)
                return min(wanted, left)
            self._counted[tx.org_id] = counted
        counted.left -= wanted
        return wanted

    def refusal(self, org_id: str) -> TocsinError:
        """LIMIT_REACHED."""
        allowed = self._budgets.allowed(org_id, SCHEDULED)
        self._budgets.note_refusal(org_id, SCHEDULED)
        return TocsinError(
            ErrorReason.ERROR_REASON_LIMIT_REACHED,
            f"the tenant has {allowed} scheduled messages, and may have no more; cancel some, or ask the operator for a higher "
            "limit",
            metadata={"limit": SCHEDULED, "allowed": str(allowed)},
            retry_after=_RETRY_AFTER,
        )

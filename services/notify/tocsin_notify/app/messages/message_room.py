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
    """Counts the rows of a tenant that is far below its limit only now and then: counting a million rows takes longer
    than storing a hundred.

    A count is used until half of the rows that were left, divided by the number of replicas, has been stored: each
    replica counts by itself, and all together stay below the limit. A tenant near its limit is counted each time.
    """

    def __init__(self, budgets: Budgets, *, clock: Callable[[], float] = monotonic) -> None:
        self._budgets = budgets
        self._clock = clock
        self._counted: Bounded[str, _Counted] = Bounded(_TENANTS)

    async def left(self, tx: Tx, wanted: int) -> int:
        """How many of the given number the tenant may still schedule. Concurrent calls may together exceed the limit."""
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

"""What the last round of deliveries left due for want of slots."""

from collections.abc import Callable
from uuid import UUID

from tocsin_notify.app.slots import Slot
from tocsin_notify.domain.page import Channel


class Backlog:
    """Written by `Deliver`, asked by `Calls` whenever a slot is free again."""

    def __init__(self, nudge: Callable[[], None]) -> None:
        """`nudge`: begins another round."""
        self._nudge = nudge
        self.left = False
        """Due rows were left for want of slots of any kind."""
        self.crowded: set[tuple[str, UUID | str]] = set()
        """Tenants' contact methods and hosts whose lanes were full."""
        self.full: set[Channel] = set()
        """Channels whose rows were passed over because as many calls were under way as they may have."""

    @property
    def waits(self) -> bool:
        """Whether something due waits for a slot of any kind."""
        return self.left or bool(self.crowded) or bool(self.full)

    def forget(self) -> None:
        """A round begins."""
        self.left = False
        self.crowded.clear()
        self.full.clear()

    def seat_freed(self, slot: Slot) -> None:
        """Begin another round if something due could leave now that this slot is free.

        What waits for a destination that hangs could not: it would be looked for after each call to any other.
        """
        crowded = slot.destination is not None and not self.crowded.isdisjoint(
            (slot.org_id, key) for key in slot.destination
        )
        if self.left or crowded or slot.channel in self.full:
            self._nudge()

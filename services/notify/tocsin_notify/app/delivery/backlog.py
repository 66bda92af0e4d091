"""What the last round of deliveries left due for want of slots."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from tocsin_notify.app.delivery.slots import Slot
from tocsin_notify.domain.page import DIGESTS, Channel

_GATHER: Final = 0.05
"""Seconds from the end of a digest's call to the round that follows it: the calls that end meanwhile have one round together."""


@dataclass(slots=True)
class Left:
    """What was left of some lanes."""

    any: bool = False
    """Due rows were left for want of slots of any kind."""
    crowded: set[tuple[str, UUID | str]] = field(default_factory=set)
    """Tenants' contact methods and hosts whose lanes were full."""
    full: set[Channel] = field(default_factory=set)
    """Channels whose rows were passed over because as many calls were under way as they may have."""

    def __bool__(self) -> bool:
        return self.any or bool(self.crowded) or bool(self.full)

    def could_use(self, slot: Slot) -> bool:
        """Whether something of it could leave now that this slot is free.

        What waits for a destination that hangs could not: it would be looked for after each call to any other.
        """
        crowded = slot.destination is not None and not self.crowded.isdisjoint(
            (slot.org_id, key) for key in slot.destination
        )
        return self.any or crowded or slot.channel in self.full


class Backlog:
    """Written by `Deliver`, asked by `Calls` whenever a slot is free again."""

    def __init__(self, nudge: Callable[[], None]) -> None:
        """`nudge`: begins another round."""
        self._nudge = nudge
        self._pages = Left()
        self._digests = Left()
        self._gathers = False

    @property
    def waits(self) -> bool:
        """Whether something due waits for a slot of any kind. Digests do not count: thousands wait for minutes, and may."""
        return bool(self._pages)

    def of(self, priority: int) -> Left:
        """What was left of this lane and those like it."""
        return self._digests if priority == DIGESTS else self._pages

    def forget(self) -> None:
        """A round begins."""
        self._pages = Left()
        self._digests = Left()

    def slot_freed(self, slot: Slot) -> None:
        """Begin another round if something due could leave now that this slot is free.

        Digests follow those that ended, a moment later: a round for each of thousands would take pages their turn at the processor.
        """
        if self._pages.could_use(slot):
            self._nudge()
        elif slot.priority == DIGESTS and self._digests.could_use(slot):
            self.look_soon(_GATHER)

    def look_soon(self, seconds: float) -> None:
        """Begin another round then, or earlier if one was asked for."""
        if not self._gathers:
            self._gathers = True
            asyncio.get_running_loop().call_later(seconds, self._gathered)

    def _gathered(self) -> None:
        self._gathers = False
        self._nudge()

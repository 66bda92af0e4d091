"""The notifications that the last round left due because no slot was free."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from tocsin_notify.app.delivery.slots import Slot
from tocsin_notify.domain.page import DIGESTS, Channel

_GATHER: Final = 0.05
"""Seconds from the end of a digest's call to the round that follows it, so that calls which end close together share
one round."""


@dataclass(slots=True)
class Left:
    """What was left in some lanes."""

    any: bool = False
    """Due rows were left because no slot was free at all."""
    crowded: set[tuple[str, UUID | str]] = field(default_factory=set)
    """Contact methods and hosts, each with its tenant, whose lanes were full."""
    full: set[Channel] = field(default_factory=set)
    """Channels whose rows were skipped because the channel had its maximum of calls under way."""

    def __bool__(self) -> bool:
        return self.any or bool(self.crowded) or bool(self.full)

    def could_use(self, slot: Slot) -> bool:
        """Whether a notification that was left could leave now that this slot is free.

        Rows that wait for a destination that hangs could not: without this check each call to another destination would
        look for them.
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
        """Whether a due notification waits for a slot of any kind. Digests do not count: thousands of them may wait for
        minutes."""
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

        Digests wait a moment and share a round: one round for each of thousands would delay pages.
        """
        if self._pages.could_use(slot):
            self._nudge()
        elif slot.priority == DIGESTS and self._digests.could_use(slot):
            self.look_soon(_GATHER)

    def look_soon(self, seconds: float) -> None:
        """Begin another round after this delay, or earlier if an earlier one was asked for."""
        if not self._gathers:
            self._gathers = True
            asyncio.get_running_loop().call_later(seconds, self._gathered)

    def _gathered(self) -> None:
        self._gathers = False
        self._nudge()

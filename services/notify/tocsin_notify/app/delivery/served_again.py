"""A provider that answers again wakes what waits for another attempt by it.

A backoff outlasts the fault that it waits for: pages that failed in its last moment would come seconds later, those of a long
fault minutes. Kept in memory only. What another process has seen fail is woken by that one, or comes when its time is over.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple
from uuid import UUID

from tocsin_kit.bounded import Bounded

from tocsin_notify.app.delivery.circuits import Provider

MOST_PROVIDERS: Final = 1000
"""Those of which something waits, that are remembered."""
MOST_WAITING: Final = 1000
"""For one of them. Further ones wait for their time."""
FIRST_REST: Final = 1.0
LONGEST_REST: Final = 60.0
"""Seconds in which a provider that was back wakes nothing more: doubled for each time that it failed again within a minute.
Otherwise one that serves every second call would use up the attempts of what it refuses."""


class Call(NamedTuple):
    """An attempt that ended. `began`: by any clock that only goes forward."""

    provider: Provider
    org_id: str
    notification: UUID
    began: float


@dataclass(slots=True)
class _Known:
    waiting: OrderedDict[UUID, Call] = field(default_factory=OrderedDict)
    rest: float = FIRST_REST
    woke: float = float("-inf")


class ServedAgain:
    """The calls of this process that wait for another attempt, by provider."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._known: Bounded[Provider, _Known] = Bounded(MOST_PROVIDERS)

    def failed(self, calls: Iterable[Call]) -> None:
        """These are tried again later."""
        for call in calls:
            known = self._known[call.provider] = self._known.get(call.provider) or _Known()
            if call.notification in known.waiting or len(known.waiting) < MOST_WAITING:
                known.waiting[call.notification] = call

    def served(self, calls: Iterable[Call]) -> list[tuple[str, UUID]]:
        """The provider took these, or refused them for good. Which ones (tenant, notification) are to be tried at once."""
        woken: list[tuple[str, UUID]] = []
        for call in calls:
            known = self._known.get(call.provider)
            if known is None:
                continue
            known.waiting.pop(call.notification, None)
            now = self._clock()
            # A call that began before it failed says how things stood before.
            wake = [each for each in known.waiting.values() if each.began < call.began]
            if not wake or now < known.woke + known.rest:
                continue
            known.rest = FIRST_REST if now - known.woke > LONGEST_REST else min(LONGEST_REST, known.rest * 2)
            known.woke = now
            for each in wake:
                del known.waiting[each.notification]
            woken += [(each.org_id, each.notification) for each in wake]
        return woken

"""When a provider answers again, the notifications that wait for another attempt by it are made due.

A backoff lasts longer than the fault: pages that failed at the end of a short fault would wait for seconds, those of a
long fault for minutes. Kept in memory only. A notification that another process saw fail is made due by that process,
or when its backoff is over.
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
"""Providers with waiting notifications that are kept."""
MOST_WAITING: Final = 1000
"""Waiting notifications of one provider. Further ones wait for their backoff."""
FIRST_REST: Final = 1.0
LONGEST_REST: Final = 60.0
"""Seconds in which a provider that was back makes nothing more due: doubled each time it fails again within a minute.
Otherwise a provider that fails every second call would use up the attempts of those it refuses."""


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
    """The attempts of this process that wait for another try, by provider."""

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
        """The provider took these, or refused them for good. Returns the notifications (tenant, notification) that are
        to be tried at once."""
        woken: list[tuple[str, UUID]] = []
        for call in calls:
            known = self._known.get(call.provider)
            if known is None:
                continue
            known.waiting.pop(call.notification, None)
            now = self._clock()
            # A call that began before the failure says nothing about the time after it.
            wake = [each for each in known.waiting.values() if each.began < call.began]
            if not wake or now < known.woke + known.rest:
                continue
            known.rest = FIRST_REST if now - known.woke > LONGEST_REST else min(LONGEST_REST, known.rest * 2)
            known.woke = now
            for each in wake:
                del known.waiting[each.notification]
            woken += [(each.org_id, each.notification) for each in wake]
        return woken

"""Which providers fail for many notifications at once, as seen by this process. Each replica finds out for itself.

The state is kept in memory only: a new process begins with every circuit closed, and learns from its first calls.
"""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Final, NamedTuple
from uuid import UUID

from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.lanes import Destination
from tocsin_notify.app.pages.targets import destination_of
from tocsin_notify.domain.attempt import Outcome, Retryable
from tocsin_notify.domain.circuit import CLOSED, Circuit, CircuitPolicy, Way, ask, hear, says_it_fails
from tocsin_notify.domain.page import Channel
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.pages.people import StoredTarget

_log = get_logger(__name__)

MOST: Final = 1000
"""Circuits that are kept: those that had a failure. Beyond that, the circuit whose last call is the oldest is
forgotten."""
_FORGET_SECONDS: Final = 3600.0
"""After this time without a page for a provider, its circuit is forgotten."""


class Provider(NamedTuple):
    """Who takes the messages of a channel. Either the operator's account, one for all tenants; or a host that a tenant
    named, counted for each tenant, so that no tenant can close a host to another one."""

    channel: Channel
    org_id: str = ""
    host: str = ""


class ProvidersFail(Exception):
    """For the health check: some circuit is open."""


def provider_of(org_id: str, channel: Channel, destination: Destination | None) -> Provider:
    """The provider that takes messages for this contact method."""
    return Provider(channel) if destination is None else Provider(channel, org_id, destination.host)


class Circuits:
    """Fed by `Calls`; asked before each page is sent."""

    def __init__(
        self,
        policy: CircuitPolicy,
        metrics: NotifyMetrics,
        opened: Callable[[], None] = lambda: None,
        *,
        clock: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`opened`: called when a circuit opens, so that pages which wait for that provider go to other contact methods
        at once."""
        self.policy: Final = policy
        self._metrics = metrics
        self._opened = opened
        self._clock = clock
        self._chance = chance
        self._known: OrderedDict[Provider, Circuit] = OrderedDict()
        self._open: set[Provider] = set()
        self._just_opened: set[Channel] = set()

    def __len__(self) -> int:
        return len(self._known)

    def any_open(self) -> bool:
        """Whether any circuit is open."""
        return bool(self._open)

    def is_open(self, provider: Provider) -> bool:
        """Whether pages go around this provider."""
        return provider in self._open

    def take_opened(self) -> list[Channel]:
        """The channels of circuits that opened since the last call of this."""
        channels, self._just_opened = sorted(self._just_opened), set()
        return channels

    def look_again(self, channels: Iterable[Channel]) -> None:
        """Have the notifications that wait for these providers checked once more: some began to wait just now."""
        before = len(self._just_opened)
        self._just_opened.update(channels)
        if len(self._just_opened) > before:
            self._opened()

    def failing(self, org_id: str, targets: Mapping[UUID, StoredTarget]) -> set[UUID]:
        """Which of these contact methods of a user lead to a provider whose circuit is open."""
        return {
            method
            for method, target in targets.items()
            if self.is_open(provider_of(org_id, target.channel, destination_of(method, target.channel, target.address)))
        }

    def way(self, provider: Provider, method: UUID) -> Way:
        """Decides whether a page that could use another method goes around its provider."""
        way, circuit = ask(self._known.get(provider, CLOSED), method, self._clock(), self.policy)
        if circuit is not CLOSED:
            self._keep(provider, circuit)
        return way

    def learn(self, provider: Provider, method: UUID, outcome: Outcome, seconds: float) -> None:
        """A call to this contact method has ended, after `seconds`."""
        failed = says_it_fails(outcome, self.policy)
        before = self._known.get(provider, CLOSED)
        if failed is None or not (failed or before is not CLOSED):
            return
        now = self._clock()
        circuit = hear(
            before,
            method,
            failed=failed,
            began=now - seconds,
            now=now,
            policy=self.policy,
            chance=self._chance(),
        )
        self._keep(provider, circuit)
        if circuit.is_open and not before.is_open:
            self._say_opened(provider, circuit, outcome)
        elif before.opened is not None and not circuit.is_open:
            self._say_closed(provider, now - before.opened)

    async def check(self) -> None:
        """Raises ProvidersFail while a circuit is open. Forgets circuits that no page has used lately."""
        now = self._clock()
        for provider in [each for each in self._open if now - self._last_asked(each) > _FORGET_SECONDS]:
            self._known.pop(provider)
            _log.info("circuit_forgotten", **_fields(provider), meaning="no page has asked for it lately")
            self._closed(provider)
        if self._open:
            raise ProvidersFail(self._words(now))

    def _last_asked(self, provider: Provider) -> float:
        circuit = self._known[provider]
        return max(circuit.probe_at, circuit.since)

    def _keep(self, provider: Provider, circuit: Circuit) -> None:
        if circuit is CLOSED:
            self._known.pop(provider, None)
            return
        self._known[provider] = circuit
        self._known.move_to_end(provider)
        if len(self._known) > MOST:
            forgotten, _ = self._known.popitem(last=False)
            if forgotten in self._open:
                self._closed(forgotten)

    def _say_opened(self, provider: Provider, circuit: Circuit, outcome: Outcome) -> None:
        reason = outcome.reason if isinstance(outcome, Retryable) else ""
        self._open.add(provider)
        self._metrics.circuits_opened.labels(provider.channel).inc()
        self._metrics.circuits_open.labels(provider.channel).inc()
        _log.error(
            "circuit_opened",
            **_fields(provider),
            reason=reason,
            meaning="it fails for many: pages take the next method of their user, and one page now and then tries it",
        )
        self.look_again([provider.channel])

    def _say_closed(self, provider: Provider, seconds: float) -> None:
        self._closed(provider)
        _log.warning("circuit_closed", **_fields(provider), seconds=round(seconds, 3), meaning="it serves again")

    def _closed(self, provider: Provider) -> None:
        self._open.discard(provider)
        self._metrics.circuits_open.labels(provider.channel).dec()

    def _words(self, now: float) -> str:
        """Providers of the operator by name; hosts of tenants only as a number, since health is public."""
        named = [
            f"{provider.channel} has failed for many for {now - self._known[provider].since:.0f} s"
            for provider in self._open
            if not provider.host
        ]
        hosts = Counter(provider.channel for provider in self._open if provider.host)
        named += [f"{many} host(s) of {channel} contact methods fail for many" for channel, many in hosts.items()]
        return "; ".join(sorted(named))


def _fields(provider: Provider) -> dict[str, str]:
    return {"channel": str(provider.channel)} | (
        {"org_id": provider.org_id, "host": provider.host} if provider.host else {}
    )

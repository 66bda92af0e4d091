"""Builds the parts that accept pages, send them, and write their outcomes. A part of `wiring`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.budgets import per_minute
from tocsin_kit.lifecycle import Sweep
from tocsin_kit.rpc.health import HealthCheck

from tocsin_notify.app.contacts.contacts import Contacts
from tocsin_notify.app.delivery.calls import Calls
from tocsin_notify.app.delivery.circuits import Circuits, Provider
from tocsin_notify.app.delivery.claim import Claim
from tocsin_notify.app.delivery.conclude import Aftermath, Conclude
from tocsin_notify.app.delivery.deliver import Deliver
from tocsin_notify.app.delivery.first_calls import FirstCalls
from tocsin_notify.app.delivery.go_around import GoAround
from tocsin_notify.app.delivery.journal_notes import begun
from tocsin_notify.app.delivery.missing_receipts import MissingReceipts
from tocsin_notify.app.delivery.outcomes import Outcomes
from tocsin_notify.app.delivery.provider_rates import SERVICE, ProviderRates
from tocsin_notify.app.delivery.send import Send
from tocsin_notify.app.delivery.sequels import Sequels
from tocsin_notify.app.delivery.slots import NOTIFICATIONS, Limits, Slots
from tocsin_notify.app.delivery.still_wanted import StillWanted
from tocsin_notify.app.delivery.take_over import TakeOver
from tocsin_notify.app.delivery.vanished import Vanished
from tocsin_notify.app.messages.release import Release
from tocsin_notify.app.messages.wordings import Wordings
from tocsin_notify.app.pages.bundles import Bundles
from tocsin_notify.app.pages.cancel import Cancel
from tocsin_notify.app.pages.intake import Intake
from tocsin_notify.app.pages.submit import Submit
from tocsin_notify.domain.circuit import CircuitPolicy
from tocsin_notify.domain.provider_rates import read_rates
from tocsin_notify.store.delivery.senders import LOOK_SECONDS, Leases
from tocsin_notify.wiring.base import Base
from tocsin_notify.work import tasks
from tocsin_notify.work.arrivals import Arrivals

_DUE_SECONDS: Final = 1.0
"""Seconds between two looks for due pages for which there was no hint."""


class Delivering:
    """One object per process."""

    def __init__(self, base: Base, contacts: Contacts, wordings: Wordings) -> None:
        self._base = base
        self._circuits = circuits = _circuits(base)
        self.slots: Final = _slots(base, circuits)
        go_around = GoAround(base.db, circuits, base.hints, base.metrics, base.policy)
        conclude = _conclude(base, circuits, go_around, contacts)
        self._outcomes = Outcomes(conclude, base.runtime.stop)
        self._calls = self._make_calls(wordings)
        leases = Leases(base.settings.lease_seconds, base.presence)
        first_calls = FirstCalls(self._calls, self.slots, base.cipher, self._circuits, leases)
        self.cancel: Final = Cancel(base.db, base.gatekeeper, base.hints, base.metrics)
        self._submit = self._make_submit(first_calls)
        self._take_over = TakeOver(base.db, base.presence, self._calls.holds, lease=base.settings.lease_seconds)
        self._deliver = self._make_deliver(go_around, leases)
        self.first: Final = self._deliver.first
        self._release = Release(base.db, first_calls, base.hints, base.metrics, self.first, base.journal)
        self._sequels = Sequels(
            base.db,
            base.channels,
            base.cipher,
            timeout=base.settings.attempt_timeout_seconds,
            first=self.first,
            more=base.wakes.sequel.set,
        )
        self.intake: Final = Intake(self._submit, self.first)
        self._arrivals = Arrivals(self.intake, self._deliver, base.wakes.message.set)
        tasks.take_with(base.broker, self._arrivals)

    def add_loops(self) -> None:
        """Loops for due pages and for the outcomes of sent ones; and the health check for failing providers."""
        base, loops, looks = self._base, self._base.runtime.loops, self._base.looks
        settings, db, wakes, hints = base.settings, base.db, base.wakes, base.hints
        base.runtime.health.add(HealthCheck("providers", self._circuits.check, critical=False))
        loops.add("due", Sweep(_DUE_SECONDS, self._deliver.everything, nudged=wakes.due))
        loops.add("messages", looks.sweep("messages", self._release.everything, nudged=wakes.message))
        bundles = Bundles(
            *(db, hints, base.metrics, base.failures, settings.bundling, self.first, base.runtime.stop),
            notes=base.journal,
        )
        loops.add("bundles", looks.sweep("bundles", bundles))
        presence = base.presence
        vanished = Vanished(db, presence, self._died, notes=base.journal)
        loops.add("vanished", Sweep(LOOK_SECONDS, vanished))
        if settings.public_url and (settings.twilio_account.sid or settings.vapid.private_key):
            receipts = MissingReceipts(db, base.failures, settings.receipt_timeout_seconds)
            loops.add("receipts", looks.sweep("receipts", receipts))
        loops.add("sequels", looks.sweep("sequels", self._sequels, nudged=wakes.sequel))

    def stop_starting(self) -> None:
        """From now on pages are stored, and other replicas send them."""
        self._deliver.stopping = self._submit.stopping = self._release.stopping = True

    async def drain_calls(self) -> None:
        """Wait for the calls that are under way."""
        await self._calls.drain(self._base.settings.shutdown_grace_seconds * 0.8)

    @property
    def drains(self) -> Sequence[Callable[[], Awaitable[object]]]:
        """Store the pages that have arrived, let their calls end, and write the outcomes: in this order.

        Calls are drained twice, since a page that was being stored at the stop has started its call since.
        """
        return self._arrivals.drain, self.drain_calls, self._outcomes.drain, self._drain_sequels

    def _died(self, ended: Mapping[UUID, datetime]) -> None:
        self._take_over.died(ended)
        self._base.wakes.due.set()

    async def _drain_sequels(self) -> None:
        await self._sequels.drain(self._base.settings.shutdown_grace_seconds * 0.2)

    def _make_calls(self, wordings: Wordings) -> Calls:
        base = self._base
        return Calls(
            Send(base.channels, base.links.of, wordings.word, timeout=base.settings.attempt_timeout_seconds),
            base.gate,
            self.slots,
            base.backlog,
            self._circuits,
            base.metrics,
            begins=lambda start: base.journal.note(begun(start)),
            finished=self._outcomes.finished,
        )

    def _make_submit(self, first_calls: FirstCalls) -> Submit:
        base = self._base
        submit = Submit(
            base.gate,
            first_calls,
            base.hints,
            base.metrics,
            nudge=base.relays.nudge,
            bundling=base.settings.bundling,
            notes=base.journal,
        )
        submit.stopping = not base.runtime.works
        return submit

    def _make_deliver(self, go_around: GoAround, leases: Leases) -> Deliver:
        base = self._base
        claim = Claim(base.gate, self._calls, self.slots, base.cipher, base.failures, base.policy, base.metrics, leases)
        return Deliver(
            base.db,
            claim,
            self.slots,
            base.backlog,
            go_around,
            self._take_over,
            StillWanted(base.db, base.escalation.stops, self.cancel, lambda: base.presence.since),
        )


def _circuits(base: Base) -> Circuits:
    settings = base.settings
    policy = CircuitPolicy(
        settings.circuit_failures,
        probe=settings.circuit_probe_seconds,
        probe_cap=max(60.0, settings.circuit_probe_seconds),
        longest=settings.attempt_timeout_seconds + 5,
    )
    return Circuits(policy, base.metrics, base.wakes.due.set)


def _slots(base: Base, circuits: Circuits) -> Slots:
    settings = base.settings
    base.budgets.add(per_minute(NOTIFICATIONS, settings.tenant_notifications_per_minute))
    rates = ProviderRates(
        {channel: rate for channel, rate in read_rates(settings.provider_rates).items() if channel not in base.missing},
        base.runtime.metrics,
    )
    if rates:
        base.share(rates.budgets, SERVICE)
    limits = Limits(
        settings.concurrency,
        settings.critical_reserve,
        settings.org_concurrency,
        settings.org_rate_per_second,
        settings.org_burst,
    )
    return Slots(
        limits,
        {name: channel.concurrency for name, channel in base.channels.items()},
        base.budgets,
        lambda channel: circuits.is_open(Provider(channel)),
        rates,
    )


def _conclude(base: Base, circuits: Circuits, go_around: GoAround, contacts: Contacts) -> Conclude:
    aftermath = Aftermath(base.failures, circuits, go_around, contacts.gone)
    return Conclude(base.db, base.hints, base.metrics, base.policy, aftermath, notes=base.journal)

"""Calls that start together with the transaction that makes their notifications: no second transaction delays them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_notify.app.delivery.calls import Calls, Start
from tocsin_notify.app.delivery.circuits import Circuits, provider_of
from tocsin_notify.app.delivery.slots import Slot, Slots
from tocsin_notify.app.pages.targets import Attempt, PageContent, destination_of, make_delivery
from tocsin_notify.domain.page import PAGES
from tocsin_notify.store.cipher import Cipher, SecretLost
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.delivery.senders import Leases
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.store.pages.people import StoredTarget


class FirstCalls:
    """One object per process, used wherever notifications are made whose calls start at once."""

    def __init__(self, calls: Calls, slots: Slots, cipher: Cipher, circuits: Circuits, leases: Leases) -> None:
        self.calls: Final = calls
        self.slots: Final = slots
        self._cipher = cipher
        self._circuits = circuits
        self._leases = leases

    def of_transaction(self) -> "TransactionCalls":
        """For one transaction; `release` it in the end."""
        return TransactionCalls(self.slots, self._cipher, self._circuits, self._leases)


class TransactionCalls:
    """The calls that one transaction starts. A notification without a slot here waits for the deliverer."""

    def __init__(self, slots: Slots, cipher: Cipher, circuits: Circuits, leases: Leases) -> None:
        self._slots = slots
        self._cipher = cipher
        self._circuits = circuits
        self._leases = leases
        self._taken: dict[UUID, Slot] = {}
        self._starts: dict[UUID, Start] = {}

    def add(
        self,
        notification: UUID,
        page: NewPage,
        method: UUID,
        target: StoredTarget,
        *,
        now: datetime,
        language: str | None,
    ) -> bool:
        """Whether its first call starts with this transaction; then it has a slot. `now`: the database's clock."""
        destination = destination_of(method, target.channel, target.address)
        if page.page.kind in PAGES and self._circuits.is_open(provider_of(page.org_id, target.channel, destination)):
            return False  # the deliverer finds another way for it
        slot = Slot(page.org_id, target.channel, page.priority, destination)
        if not self._slots.take(slot):
            return False
        self._taken[notification] = slot
        try:
            delivery = make_delivery(
                self._cipher,
                PageContent(page.org_id, page.id, page.page.kind, page.job),
                Attempt(notification, 1, 1, now),
                method,
                target,
                language,
            )
        except SecretLost:
            return False  # the deliverer meets it again, and fails over
        self._starts[notification] = Start(delivery, slot, tries=1, contact_method=method)
        return True

    async def insert(self, tx: Tx, rows: Sequence[NewNotification]) -> set[UUID]:
        """Returns those that were new. Another replica made the others before, so no call starts here."""
        made = await notifications.insert(tx, rows, self._leases.seconds, self._leases.sender)
        self._starts = {id: start for id, start in self._starts.items() if id in made}
        return made

    def take(self) -> list[Start]:
        """The calls to make once this is committed; each owns its slot from here on."""
        for id in self._starts:
            del self._taken[id]
        return list(self._starts.values())

    def release(self) -> None:
        """Give back the slots of calls that did not start."""
        for slot in self._taken.values():
            self._slots.give_back(slot)

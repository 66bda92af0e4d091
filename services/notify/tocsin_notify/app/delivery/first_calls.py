"""Calls that begin with the transaction that makes their notifications: no second transaction lies before them."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from tocsin_notify.app.delivery.calls import Start
from tocsin_notify.app.delivery.circuits import Circuits, provider_of
from tocsin_notify.app.delivery.slots import Slot, Slots
from tocsin_notify.app.pages.targets import destination_of, make_delivery
from tocsin_notify.domain.page import PAGES
from tocsin_notify.store.cipher import Cipher, SecretLost
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.store.pages.people import StoredTarget


class FirstCalls:
    """The calls that one transaction starts. What gets no slot here waits for the deliverer."""

    def __init__(self, cipher: Cipher, slots: Slots, circuits: Circuits) -> None:
        self._cipher = cipher
        self._slots = slots
        self._circuits = circuits
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
        """Whether its first call begins with this transaction; then it has a slot. `now`: the database's clock."""
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
                notification=notification,
                org_id=page.org_id,
                page_id=page.id,
                kind=page.page.kind,
                job=page.job,
                method=method,
                target=target,
                attempt=1,
                attempt_group=1,
                start_time=now,
                language=language,
            )
        except SecretLost:
            return False  # the deliverer meets it again, and fails over
        self._starts[notification] = Start(delivery, slot, tries=1, contact_method=method)
        return True

    def keep(self, made: Collection[UUID]) -> None:
        """Forget those whose rows another replica made before."""
        self._starts = {id: start for id, start in self._starts.items() if id in made}

    def take(self) -> list[Start]:
        """The calls to make once this is committed; their slots are theirs from here on."""
        for id in self._starts:
            del self._taken[id]
        return list(self._starts.values())

    def release(self) -> None:
        """Give back the slots of calls that did not begin."""
        for slot in self._taken.values():
            self._slots.release(slot)

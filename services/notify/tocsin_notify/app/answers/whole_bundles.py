"""A person answers several pages that were sent as one message."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID, uuid5

from tocsin_kit.db.pool import Database

from tocsin_notify.app.answers.answer import Escalation
from tocsin_notify.domain.action import Person
from tocsin_notify.store.pages import bundles
from tocsin_notify.store.pages.bundles import BundledPage
from tocsin_notify.store.pages.pages import NOTHING, Fence

Cancelling = Callable[[Sequence[Fence]], Awaitable[object]]
"""Returns once no provider call starts for them. Raises CANCEL_UNCONFIRMED when that is not certain."""

_MOST_PER_CALL: Final = 250


class WholeBundles:
    """Reads the pages of a bundle, and acknowledges those whose incidents are still open."""

    def __init__(self, db: Database, escalation: Escalation, cancel: Cancelling) -> None:
        self._db = db
        self._escalation = escalation
        self._cancel = cancel

    async def pages(self, org_id: str, bundle: UUID) -> Sequence[BundledPage]:
        """The latest page of each incident in it, the oldest first."""
        async with self._db.reading(org_id) as tx:
            held = await bundles.members(tx, [(org_id, bundle)])
        return list({page.incident: page for page in held[bundle]}.values())

    async def acknowledge(self, org_id: str, user: str, bundle: UUID, via: str) -> None:
        """Acknowledge for this person. Idempotent: a repeat acknowledges only incidents that are still paging. An
        incident that is resolved is left as it is. Once it has returned, no call starts for any page of the bundle.

        Raises the errors of escalation, and CANCEL_UNCONFIRMED.
        """
        pages = await self.pages(org_id, bundle)
        true = sorted(f"incidents/{page.incident}" for page in pages if page.stopped is None)
        for start in range(0, len(true), _MOST_PER_CALL):
            names = true[start : start + _MOST_PER_CALL]
            # The id is computed from the incidents' names: a repeat that finds fewer incidents is another request.
            request_id = uuid5(bundle, f"{user} acknowledge {' '.join(names)}")
            await self._escalation.acknowledge_all(Person(org_id, user, ""), names, request_id, via)
        # A fence that was set does not say that its cancel was confirmed: this may be the repeat of one that was not.
        stopped = [
            Fence(org_id, page.incident, page.generation, page.stopped, NOTHING)
            for page in pages
            if page.stopped is not None
        ]
        if stopped:
            await self._cancel(stopped)

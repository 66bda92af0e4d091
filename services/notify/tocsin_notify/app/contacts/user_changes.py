"""Users are enabled, disabled or deleted. Escalation owns users and tells notify, which holds the pages that would
still go to them.

A page may wait here for hours after escalation handed it over, and names its user only by id. Without this, a person
who has left would still be paged, and a new user of the same id would get the contact methods of the former one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.pages.move_pages import move_pages
from tocsin_notify.domain.page import WAKING
from tocsin_notify.store.contacts import contacts, notification_settings, rules
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.messages import digests, messages, recurring
from tocsin_notify.store.pages import bundles, quiet_bundles

_log = get_logger(__name__)

_DELETED: Final = "its user was deleted"


class UserEvent(Enum):
    """What happened to a user."""

    ENABLED = auto()
    DISABLED = auto()
    DELETED = auto()


@dataclass(frozen=True, slots=True)
class UserChange:
    """`user` is `users/{user}`."""

    org_id: str
    user: str
    standing: UserEvent
    time: datetime


class UserChanges:
    """Applies the changes in their order, each in a transaction of its own. Applying one twice changes nothing."""

    def __init__(self, db: Database, failures: Failures, hints: Hints) -> None:
        self._db = db
        self._failures = failures
        self._hints = hints

    async def __call__(self, changes: Sequence[UserChange]) -> None:
        """Committed when it returns. Raises DATABASE_UNAVAILABLE."""
        for change in changes:
            await self._db.run(change.org_id, lambda tx, change=change: self._apply(tx, change))  # type: ignore[misc]

    async def _apply(self, tx: Tx, change: UserChange) -> None:
        fields = {"org_id": change.org_id, "user": change.user, "standing": change.standing.name.lower()}
        if change.standing is UserEvent.DELETED:
            methods = await self._delete(tx, change)
        else:
            disabled = change.standing is UserEvent.DISABLED
            changed = await contacts.change_user(tx, change.user, change.time, disabled=disabled)
            methods = len(changed)
            if disabled:
                await self._end_bundles(tx, change.user)
                waiting = await notifications.waiting_for(tx, [(tx.org_id, id) for id in changed], WAKING)
                await self._failures.tell_hopeless(tx, waiting, "the user is disabled")
        tx.after_commit(lambda: _log.info("user_changed", contact_methods=methods, **fields))

    async def _delete(self, tx: Tx, change: UserChange) -> int:
        await messages.forget(tx, change.user, change.time, _DELETED)
        await recurring.forget(tx, change.user, change.time, _DELETED)
        deleted = await contacts.delete_user(tx, change.user, change.time)
        if not deleted:
            return 0  # applied before, or about a former user of this id
        await rules.forget_user(tx, change.user)
        await notification_settings.forget(tx, change.user)
        await digests.forget(tx, change.user)
        for method in deleted:
            moved = await move_pages(tx, method, self._failures)
            tx.after_commit(lambda moved=moved: self._hints.now(moved))  # type: ignore[misc]
        await self._end_bundles(tx, change.user)
        return len(deleted)

    async def _end_bundles(self, tx: Tx, user: str) -> None:
        """Pages of a bundle that waits have no contact method yet. The bundle is made due now, and then escalation is
        told that its pages reach no one."""
        await bundles.end(tx, user)
        await quiet_bundles.look_anew(tx, user)

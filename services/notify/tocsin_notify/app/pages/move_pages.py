"""A contact method is deleted: the notifications that wait for it move to the user's other methods, each at its own
time."""

from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_notify.app.delivery.failures import Failed, Failures
from tocsin_notify.domain.failover import GONE, Add, PullForward, fail_over
from tocsin_notify.domain.page import DeathReason, State
from tocsin_notify.store.contacts.contacts import Contact
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.failures import siblings as siblings_of
from tocsin_notify.store.pages import pages, people

_DELETED: Final = "its contact method was deleted"


async def move_pages(tx: Tx, gone: Contact, failures: Failures) -> list[UUID]:
    """Re-point each pending notification to a method its page does not use yet; returns what is due now.

    When the page has other notifications under way or waiting, a step without a new method is cancelled; when it has
    none, it is given up as NO_CONTACT_METHOD.
    """
    waiting = await notifications.pending_of_method(tx, gone.id)
    if not waiting:
        return []
    owned = {(tx.org_id, row.page_id) for row in waiting}
    locked = await pages.lock(tx, owned)
    siblings = await siblings_of(tx, owned)
    person = (await people.read(tx, [(tx.org_id, gone.user_id)]))[tx.org_id, gone.user_id]
    moved: dict[UUID, UUID] = {}
    cancelled: dict[UUID, str] = {}
    lost: list[Failed] = []
    for row in waiting:
        page, _ = locked[row.page_id]
        family = [each for each in siblings[row.page_id] if each.id != row.id]
        alive = any(
            each.state in (State.PENDING, State.SENDING, State.SENT) and each.method != gone.id for each in family
        )
        taken = {moved[each.id] for each in family if each.id in moved}
        methods = [method for method in person.methods if method.id not in taken]
        match fail_over(page, gone.id, [each for each in family if each.id not in moved], methods):
            case Add(method=method):
                moved[row.id] = method.id
            case PullForward():
                cancelled[row.id] = GONE
            case None if alive or taken:
                cancelled[row.id] = GONE
            case None:
                lost.append(Failed.of(row, DeathReason.NO_CONTACT_METHOD, _DELETED))
    await notifications.repoint(tx, moved)
    await notifications.cancel(tx, cancelled)
    followed = await failures.follow(tx, lost, locked)
    if followed.told:
        tx.after_commit(failures.nudge)
    # The page's other notifications may wait for methods that cannot be used either.
    await failures.tell_hopeless(tx, [row for row in waiting if row.id in cancelled], _DELETED)
    return [*moved, *followed.now]

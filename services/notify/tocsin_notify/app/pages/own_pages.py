"""Pages that this service makes by itself (tests, verification codes, change notices) or plans once more (redriven dead
letters).

They are stored as due in the caller's transaction and sent right after its commit, so that the answer to the caller
always matches what is sent.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import new_id

from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.domain.page import NORMAL, Kind, Page, State
from tocsin_notify.domain.planning import Planned, plan
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.pages import people
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.store.pages.people import Person

_TYPES: Final = {
    Kind.TEST: pb.NOTIFICATION_TYPE_TEST,
    Kind.VERIFICATION: pb.NOTIFICATION_TYPE_VERIFICATION,
    Kind.CONTACT_CHANGED: pb.NOTIFICATION_TYPE_CONTACT_CHANGED,
}


def own_page(
    org_id: str, user: str, page: Page, *, id: UUID | None = None, title: str = "", actor: str = ""
) -> NewPage:
    """A page about no incident."""
    id = id or new_id()
    job = pb.NotificationJob(
        page=f"pages/{id}", org_id=org_id, type=_TYPES[page.kind], user=user, title=title, actor=actor
    )
    return NewPage(id, org_id, user, None, page, NORMAL, 0, None, job)


async def plan_for(tx: Tx, user: str, page: Page) -> list[Planned]:
    """The steps of a page for a user, at least one. Raises CONTACT_METHOD_NOT_FOUND, NOT_VERIFIED."""
    return plan_of((await people.read(tx, [(tx.org_id, user)]))[tx.org_id, user], user, page)


def plan_of(person: Person, user: str, page: Page) -> list[Planned]:
    """The same for a user who was read before."""
    planned = plan(page, person.methods, person.rules)
    if planned:
        return planned
    if person.methods:
        raise TocsinError(
            ErrorReason.ERROR_REASON_NOT_VERIFIED,
            f"{user} has no contact method for it that is verified and enabled",
            metadata={"name": user},
        )
    raise TocsinError(
        ErrorReason.ERROR_REASON_CONTACT_METHOD_NOT_FOUND,
        f"{user} has no contact method",
        metadata={"name": user},
    )


async def store_planned(
    tx: Tx, page: NewPage, planned: Sequence[Planned], hints: Hints, fence: str | None
) -> list[UUID]:
    """The notifications of a stored page, each waiting for its time, or stopped by `fence`; returns their ids."""
    rows = [
        NewNotification(
            id=new_id(),
            org_id=page.org_id,
            page_id=page.id,
            user_id=page.user_id,
            incident=page.incident,
            generation=page.generation,
            priority=page.priority,
            contact_method=step.method.id,
            channel=step.method.channel,
            step=step.step,
            state=State.PENDING if fence is None else State.CANCELLED,
            reason=fence or "",
            delay=step.delay,
            outlasts=page.page.outlasts,
        )
        for step in planned
    ]
    await notifications.insert(tx, rows)
    if fence is None:
        due = [row.id for row in rows if row.delay <= 0]
        tx.after_commit(lambda: hints.now(due))
    return [row.id for row in rows]

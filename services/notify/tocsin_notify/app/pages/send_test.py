"""A user tests whether pages reach them."""

from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import not_found

from tocsin_notify.app.contacts.contacts import find, not_verified
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.pages.own_pages import own_page, plan_for, store_planned
from tocsin_notify.domain.page import Kind, Page, Urgency
from tocsin_notify.store.pages import pages


async def send_test(tx: Tx, user: str, method: UUID | None, urgency: Urgency, hints: Hints) -> list[UUID]:
    """Through this method, or by the rules for the urgency; returns the notifications made.

    Raises CONTACT_METHOD_NOT_FOUND, NOT_VERIFIED.
    """
    if method is not None:
        contact = await find(tx, method)
        if contact.user_id != user:
            raise not_found(ErrorReason.ERROR_REASON_CONTACT_METHOD_NOT_FOUND, f"contactMethods/{method}")
        if not contact.verified:
            raise not_verified(contact)
    page = own_page(tx.org_id, user, Page(Kind.TEST, urgency, only_method=method))
    planned = await plan_for(tx, user, page.page)
    await pages.insert(tx, [page])
    return await store_planned(tx, page, planned, hints, fence=None)

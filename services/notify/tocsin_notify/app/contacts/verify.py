"""Prove that a contact method reaches its owner: send a code, and check it."""

from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import new_id

from tocsin_notify.app.contacts.code_limits import CodeLimits
from tocsin_notify.app.contacts.contacts import Owners, find
from tocsin_notify.app.contacts.owner_notices import OwnerNotices
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.pages.own_pages import own_page, store_planned
from tocsin_notify.domain.page import Kind, Method, Page, Urgency
from tocsin_notify.domain.planning import Planned
from tocsin_notify.domain.verification import MAX_CODES_PER_HOUR, is_right
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.contacts import contacts, verifications
from tocsin_notify.store.contacts.contacts import Contact
from tocsin_notify.store.pages import pages

_OVER: Final = "there is no code to check, or it is over: ask for a new one"


async def send_code(tx: Tx, id: UUID, hints: Hints, limits: CodeLimits, may: Owners) -> datetime:
    """Send a new code through the method at once; returns until when it is valid. Earlier codes are no longer valid.

    `may` raises when the caller may not change the contact methods of this user. Raises CONTACT_METHOD_NOT_FOUND,
    RATE_LIMITED.
    """
    contact = await find(tx, id, lock=True)
    may(contact.user_id)
    many, wait = await verifications.recent(tx, id, MAX_CODES_PER_HOUR)
    if many >= MAX_CODES_PER_HOUR:
        raise TocsinError(
            ErrorReason.ERROR_REASON_RATE_LIMITED,
            f"{MAX_CODES_PER_HOUR} codes were sent within an hour",
            retry_after=max(1.0, wait),
        )
    limits.take(tx.org_id, contact.channel, contact.address)
    verification = new_id()
    until = await verifications.begin(tx, verification, id)
    page = own_page(
        tx.org_id,
        contact.user_id,
        Page(Kind.VERIFICATION, Urgency.HIGH, only_method=id),
        id=verification,  # the code is computed from it
    )
    await pages.insert(tx, [page])
    method = Method(contact.id, contact.channel, contact.verified, contact.disabled)
    await store_planned(tx, page, [Planned(method, 0, 0.0)], hints, fence=None)
    return until


async def take_code(
    tx: Tx, id: UUID, code: str, cipher: Cipher, notices: OwnerNotices, may: Owners, by: str
) -> Contact | TocsinError:
    """The verified method; or the error to raise after the commit of this transaction: a wrong try must be counted.

    `may`: as for `send_code`. Raises CONTACT_METHOD_NOT_FOUND, VERIFICATION_EXPIRED, RATE_LIMITED.
    """
    contact = await find(tx, id, lock=True)
    may(contact.user_id)
    if contact.verified:
        return contact
    newest = await verifications.newest(tx, id)
    if newest is None or newest.over or newest.attempts_left <= 0:
        raise TocsinError(ErrorReason.ERROR_REASON_VERIFICATION_EXPIRED, _OVER)
    if not is_right(cipher.code_key, newest.id, code):
        await verifications.note_wrong_try(tx, newest.id)
        left = newest.attempts_left - 1
        return TocsinError(
            ErrorReason.ERROR_REASON_VERIFICATION_CODE_WRONG,
            f"the code is wrong; {left} more tries",
            metadata={"attempts_left": str(left)},
        )
    await verifications.finish(tx, id)
    verified = await contacts.verify(tx, contact)
    await notices.verified(tx, by, contact, verified)
    return verified

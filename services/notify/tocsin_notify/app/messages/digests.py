"""Digests: chosen by their users, ended and previewed. `make_digests` makes the due ones."""

from dataclasses import dataclass
from datetime import datetime

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1 import digest_pb2
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.errors import invalid, not_found
from tocsin_kit.rpc.masks import require_etag

from tocsin_notify.app.contacts.notification_settings import language_for
from tocsin_notify.channels.digests import TO_FREQUENCIES, content_of
from tocsin_notify.clients.escalation import QUARTER, Escalation, quarter_of
from tocsin_notify.domain.digest import Frequency, Rhythm
from tocsin_notify.domain.digest_content import Content
from tocsin_notify.domain.page import RINGING
from tocsin_notify.domain.wall_time import BadTime
from tocsin_notify.store.contacts import contacts
from tocsin_notify.store.messages import digests
from tocsin_notify.store.messages.digests import Choice, Digest


@dataclass(frozen=True, slots=True)
class Shown:
    """A digest as it would be sent."""

    figures: digest_pb2.DigestContent
    content: Content
    language: str


async def require_user(db: Database, escalation: Escalation, org_id: str, choice: Choice) -> None:
    """Asked before the transaction that stores a new digest. For a stored digest it is not needed: escalation tells
    notify when its user is deleted.

    Raises USER_NOT_FOUND, also for a disabled user, and SERVICE_UNAVAILABLE when escalation does not answer.
    """
    async with db.transaction(org_id) as tx:
        if await digests.read(tx, choice.user_id, choice.frequency) is not None:
            return
        now = await tx.now()
    if not await escalation.has_user(org_id, choice.user_id, now):
        raise not_found(ErrorReason.ERROR_REASON_USER_NOT_FOUND, choice.user_id)


async def choose(tx: Tx, choice: Choice, etag: str, budgets: Budgets) -> tuple[Digest | None, Digest]:
    """What was chosen before, and the digest as it is now.

    Raises INVALID_FIELD, CONTACT_METHOD_NOT_FOUND, ETAG_MISMATCH, LIMIT_REACHED.
    """
    before = await digests.read(tx, choice.user_id, choice.frequency, lock=True)
    require_etag(etag, before.version if before is not None else 0)
    if before is None:
        await require_room(tx, "digests", budgets)
    await _require_method(tx, choice)
    try:
        next_time = choice.rhythm.next_after(await tx.now())
    except BadTime as error:
        raise invalid(f"digest.{error.field}", str(error)) from error
    return before, await digests.write(tx, choice, next_time)


async def end(tx: Tx, user: str, frequency: Frequency) -> Digest:
    """The digest as it was; none is made any more. Raises DIGEST_NOT_FOUND."""
    before = await find(tx, user, frequency, lock=True)
    await digests.delete(tx, user, frequency)
    return before


async def find(tx: Tx, user: str, frequency: Frequency, *, lock: bool = False) -> Digest:
    """One of the tenant. Raises DIGEST_NOT_FOUND."""
    found = await digests.read(tx, user, frequency, lock=lock)
    if found is None:
        raise not_found(ErrorReason.ERROR_REASON_DIGEST_NOT_FOUND, f"{user}/digests/{frequency}")
    return found


class Preview:
    """Shows a digest as it would be sent."""

    def __init__(self, db: Database, escalation: Escalation) -> None:
        self._db = db
        self._escalation = escalation

    async def __call__(self, org_id: str, user: str, frequency: Frequency) -> Shown:
        """The content that the next digest would have if it were sent now. Raises DIGEST_NOT_FOUND, USER_NOT_FOUND,
        SERVICE_UNAVAILABLE."""
        async with self._db.transaction(org_id) as tx:
            digest = await find(tx, user, frequency)
            now = await tx.now()
            language = await language_for(tx, user)
        rhythm = digest.rhythm
        # Includes the current quarter of an hour, which is not over yet.
        end = quarter_of(now) + QUARTER
        start = rhythm.start_of(end)
        asked = await self._escalation.summarize(org_id, [user], start, end)
        if not asked.people:
            raise not_found(ErrorReason.ERROR_REASON_USER_NOT_FOUND, user)
        figures = figures_of(rhythm, start, end, asked.figures, asked.people[0])
        return Shown(figures, content_of(figures), language)


def figures_of(
    rhythm: Rhythm,
    start: datetime,
    end: datetime,
    common: digest_pb2.DigestFigures,
    person: digest_pb2.DigestPerson,
) -> digest_pb2.DigestContent:
    """The content of a digest of [start, end) for one user."""
    found = digest_pb2.DigestContent(
        frequency=TO_FREQUENCIES[rhythm.frequency], time_zone=rhythm.time_zone, figures=common, person=person
    )
    found.start_time.FromDatetime(start)
    found.end_time.FromDatetime(end)
    return found


async def _require_method(tx: Tx, choice: Choice) -> None:
    if choice.contact_method is None:
        return
    contact = await contacts.read(tx, choice.contact_method)
    if contact is None:
        raise not_found(ErrorReason.ERROR_REASON_CONTACT_METHOD_NOT_FOUND, f"contactMethods/{choice.contact_method}")
    if contact.user_id != choice.user_id:
        raise invalid("digest.contact_method", f"must be one of {choice.user_id}'s own")
    if contact.channel in RINGING:
        raise invalid("digest.contact_method", "must not be a call: digests are not read out")

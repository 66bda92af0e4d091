"""A person adds their browser as a contact method from the answer page, without a login or an administrator."""

from dataclasses import dataclass
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.logging import get_logger

from tocsin_notify.app.contacts.code_limits import CodeLimits
from tocsin_notify.app.contacts.contacts import KEPT, ContactInput, Contacts
from tocsin_notify.app.contacts.owner_notices import OwnerNotices
from tocsin_notify.app.contacts.verify import send_code, take_code
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.domain.answer_link import AnswerLink
from tocsin_notify.domain.page import Channel
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.store.answers import link_uses
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.words import Words

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose browser it is."""

    org_id: str
    user: str
    words: Words


class Devices:
    """Adds and proves browsers as contact methods.

    A link acts as its person for one incident; here it would add a way for all their pages. So the link must have come
    through a channel that only the person reads (`AnswerLink.personal`), and the person is told through every method
    they had before.
    """

    def __init__(
        self,
        db: Database,
        contacts: Contacts,
        notices: OwnerNotices,
        cipher: Cipher,
        hints: Hints,
        budgets: Budgets,
        limits: CodeLimits,
    ) -> None:
        self._db = db
        self._contacts = contacts
        self._notices = notices
        self._cipher = cipher
        self._hints = hints
        self._budgets = budgets
        self._limits = limits

    async def owner(self, link: AnswerLink) -> Owner | None:
        """None for a link that may add nothing: its page was deleted, it is too old, or other people may have read it."""
        async with self._db.transaction(link.org_id) as tx:
            row = await link_uses.page(tx, link.page)
        if row is None or not link.personal or row.now.timestamp() >= link.expire:
            return None
        return Owner(link.org_id, row.user_id, words_of(row.language or LANGUAGES[0]))

    async def add(self, owner: Owner, subscription: str, name: str) -> UUID:
        """The contact method; a verification code is on its way to it. For a browser that was added before, it is the method
        of that time: its code may have been lost. Raises ALREADY_EXISTS if that one is disabled, INVALID_FIELD,
        RATE_LIMITED, LIMIT_REACHED."""

        async def work(tx: Tx) -> UUID:
            given = ContactInput(owner.user, name, Channel.WEB_PUSH, subscription, disabled=False)
            method = await self._contacts.find_same(tx, given)
            if method is None or method.disabled:
                await require_room(tx, "contact_methods", self._budgets, where=KEPT)
                method = await self._contacts.create(tx, given, owner.user)
            await send_code(tx, method.id, self._hints, self._limits, _anybody)
            return method.id

        return await self._db.run(owner.org_id, work)

    async def prove(self, owner: Owner, method: UUID, code: str) -> None:
        """From now on pages go to this browser; its owner is told through every other method.

        Raises CONTACT_METHOD_NOT_FOUND, VERIFICATION_CODE_WRONG, VERIFICATION_EXPIRED, RATE_LIMITED.
        """

        def may(user: str) -> None:
            if user != owner.user:
                raise not_found(ErrorReason.ERROR_REASON_CONTACT_METHOD_NOT_FOUND, f"contactMethods/{method}")

        async def work(tx: Tx) -> TocsinError | None:
            by = f"{owner.user} (by a link)"
            taken = await take_code(tx, method, code, self._cipher, self._notices, may, by)
            return taken if isinstance(taken, TocsinError) else None

        wrong = await self._db.run(owner.org_id, work)
        if wrong is not None:
            raise wrong
        _log.info("device_added", org_id=owner.org_id, user=owner.user, contact_method=str(method))


def _anybody(_user: str) -> None:
    """No check: the method was made or found in this transaction, for its owner."""

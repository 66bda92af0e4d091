"""Tells users when another user changes their contact methods, rules or settings, or when a provider ends one of them.
The notice goes to the methods they had before.

Otherwise a caller who may change contact methods could take over or silence a user's pages unnoticed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Tx
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger

from tocsin_notify.app.contacts.notification_settings import language_for
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.slots import NOTIFICATIONS
from tocsin_notify.app.pages.own_pages import own_page, store_planned
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.page import RINGING, Channel, Kind, Method, Page, Urgency
from tocsin_notify.domain.planning import Planned
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.store.cipher import Cipher, SecretLost
from tocsin_notify.store.contacts import contacts
from tocsin_notify.store.contacts.contacts import Contact
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.pages import pages
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.words import Words

_log = get_logger(__name__)

_NOBODY: Final = ""
_ITSELF: Final = "Tocsin"


class OwnerNotices:
    """Each method runs in the transaction of the change, after it."""

    def __init__(self, cipher: Cipher, hints: Hints, budgets: Budgets) -> None:
        self._cipher = cipher
        self._hints = hints
        self._budgets = budgets

    async def added(self, tx: Tx, by: str, contact: Contact) -> None:
        """A method is new. Raises RATE_LIMITED."""
        await self._tell(tx, contact.user_id, by, "added", contact, contact)

    async def verified(self, tx: Tx, by: str, before: Contact, after: Contact) -> None:
        """A method was verified, so pages go there. Raises RATE_LIMITED."""
        if not before.verified:
            await self._tell(tx, before.user_id, by, "verified", before, after)

    async def changed(self, tx: Tx, by: str, before: Contact, after: Contact) -> None:
        """A method was changed. Raises RATE_LIMITED."""
        what = "changed"
        if not _leads_alike(before, after):
            what = "elsewhere"
        elif after.disabled and not before.disabled:
            what = "disabled"
        await self._tell(tx, before.user_id, by, what, before, after)

    async def deleted(self, tx: Tx, by: str, before: Contact) -> None:
        """A method was deleted. Call it before the notifications that wait for the method are moved. Raises
        RATE_LIMITED."""
        await self._tell(tx, before.user_id, by, "deleted", before, None)

    async def rules_replaced(self, tx: Tx, by: str, user: str) -> None:
        """The rules were replaced. Raises RATE_LIMITED."""
        await self._tell(tx, user, by, "rules", None, None)

    async def settings_replaced(self, tx: Tx, by: str, user: str) -> None:
        """The user's notification settings were replaced. Raises RATE_LIMITED."""
        await self._tell(tx, user, by, "settings", None, None)

    async def gone(self, tx: Tx, before: Contact, reason: str) -> None:
        """The provider says that a method's address does not exist. The notice is sent even if the tenant has used up
        its budget."""
        receivers = _not_called([each for each in await contacts.usable(tx, before.user_id) if each.id != before.id])
        await self._send(tx, before.user_id, _ITSELF, "gone", before, receivers, self._budgets.note)
        fields = {"org_id": tx.org_id, "user": before.user_id, "contact_method": f"contactMethods/{before.id}"}
        count, meaning = len(receivers), "no page goes there until its owner adds it again"
        tx.after_commit(
            lambda: _log.warning("contact_method_gone", **fields, reason=reason, told=count, meaning=meaning)
        )

    async def _tell(self, tx: Tx, user: str, by: str, what: str, before: Contact | None, after: Contact | None) -> None:
        """`what`: selects the text `change_…`.

        No notice for users who change their own. A user without a verified method cannot be told; the change is logged.
        """
        if by == user:
            return
        receivers = [each for each in await contacts.usable(tx, user) if before is None or each.id != before.id]
        if before is not None and before.verified and not before.disabled:
            same = after is not None and _leads_alike(before, after)
            receivers.append(before if same else await self._former(tx, before))
        receivers = _not_called(receivers)
        await self._send(tx, user, by, what, before, receivers, self._budgets.take)
        count, change = len(receivers), _change(words_of(LANGUAGES[0]), what, before)
        tx.after_commit(lambda: _log.warning("contact_changed_by_another", user=user, by=by, change=change, told=count))

    async def _send(
        self,
        tx: Tx,
        user: str,
        by: str,
        what: str,
        before: Contact | None,
        receivers: Sequence[Contact],
        spend: Callable[[str, str], None],
    ) -> None:
        title = _change(words_of(await language_for(tx, user)), what, before)
        for contact in receivers:
            spend(tx.org_id, NOTIFICATIONS)
            wanted = Page(Kind.CONTACT_CHANGED, Urgency.LOW, only_method=contact.id)
            page = own_page(tx.org_id, user, wanted, title=title, actor=by)
            await pages.insert(tx, [page])
            method = Method(contact.id, contact.channel, contact.verified, contact.disabled)
            await store_planned(tx, page, [Planned(method, 0, 0.0)], self._hints, fence=None)

    async def _former(self, tx: Tx, before: Contact) -> Contact:
        """A row with the address of `before`, for notices alone; notices that still wait for `before` go there as well."""
        id = new_id()
        former = replace(before, id=id, user_id=_NOBODY, secret=self._closed_for(tx.org_id, before, id))
        kept = await contacts.insert(tx, former)
        waiting = await notifications.pending_of_kind(tx, before.id, Kind.CONTACT_CHANGED)
        await notifications.repoint(tx, dict.fromkeys(waiting, kept.id))
        return kept

    def _closed_for(self, org_id: str, before: Contact, id: UUID) -> bytes | None:
        """A secret is bound to the row it is kept in. If it cannot be decrypted any more, the notice fails, and the
        change does not."""
        if before.secret is None:
            return None
        try:
            return self._cipher.close(org_id, id, self._cipher.open(org_id, before.id, before.secret))
        except SecretLost:
            return before.secret


def _not_called(receivers: list[Contact]) -> list[Contact]:
    """No phone call to a user who can be told in another way."""
    return [each for each in receivers if each.channel not in RINGING] or receivers


def _leads_alike(before: Contact, after: Contact) -> bool:
    return (before.channel, before.address, before.secret) == (after.channel, after.address, after.secret)


def _change(words: Words, what: str, contact: Contact | None) -> str:
    return str(getattr(words, f"change_{what}")).format(method=_named(words, contact) if contact is not None else "")


def channel_in(words: Words, channel: Channel) -> str:
    """The channel as people say it. Names of products are the same in every language."""
    return str(getattr(words, f"channel_{channel}", TYPES[channel].word))


def _named(words: Words, contact: Contact) -> str:
    """The name on one line: the reader is another user than the author of the name."""
    name = " ".join(contact.display_name.split())
    channel = channel_in(words, contact.channel)
    return (
        words.method_named.format(name=name, channel=channel) if name else words.method_unnamed.format(channel=channel)
    )

"""Contact methods: created, changed, deleted."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.ids import new_id
from tocsin_kit.rpc.masks import require_etag

from tocsin_notify.app.contacts.owner_notices import OwnerNotices
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.pages.move_pages import move_pages
from tocsin_notify.channels.base import BadAddress, Vetting
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.page import WAKING, Channel
from tocsin_notify.store.cipher import Cipher, SecretLost
from tocsin_notify.store.contacts import contacts, rules, verifications
from tocsin_notify.store.contacts.contacts import Contact
from tocsin_notify.store.delivery import notifications

MOST_PER_USER: Final = 50
KEPT: Final = "user_id <> '' AND delete_time IS NULL"
"""The rows that count against the limit: neither addresses of messages, which belong to no user, nor deleted rows."""
Owners = Callable[[str], None]
"""Raises SCOPE_MISSING when the caller may not change the contact methods of this user."""
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]*")
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class ContactInput:
    """What a caller asks a contact method to be. An empty `secret` or `key_id`: keep it, or make one."""

    user_id: str
    display_name: str
    channel: Channel
    address: str
    disabled: bool
    secret: str = ""
    key_id: str = ""

    def __repr__(self) -> str:
        return f"ContactInput({self.channel})"


class Contacts:
    """Use cases on contact methods; all but `gone` run in the caller's transaction."""

    def __init__(
        self,
        db: Database,
        cipher: Cipher,
        hints: Hints,
        failures: Failures,
        notices: OwnerNotices,
        *,
        allow_private_webhooks: bool,
        missing: Mapping[Channel, str],
        vetting: Mapping[Channel, Vetting],
    ) -> None:
        """`missing`: why methods of a channel cannot be made here, for those that cannot. `vetting`: channels that
        check an address over the network."""
        self._db = db
        self._cipher = cipher
        self._hints = hints
        self._failures = failures
        self._notices = notices
        self._allow_private = allow_private_webhooks
        self._missing = missing
        self._vetting = vetting

    async def vet(self, org_id: str, given: ContactInput) -> None:
        """Check the address; before the transaction of `create` or `update`, since it may take a while. Raises
        INVALID_FIELD, OVERLOADED."""
        type_, vetting = TYPES[given.channel], self._vetting.get(given.channel)
        if vetting is None or given.channel in self._missing:
            return
        if type_.mask is not None and given.address == type_.mask(given.address):
            return  # sent back as it was shown
        try:
            await vetting.vet(org_id, given.address)
        except BadAddress as error:
            raise invalid(f"contact_method.{given.channel}.{type_.address_field}", str(error)) from error

    async def create(self, tx: Tx, given: ContactInput, by: str) -> Contact:
        """A new contact method, unverified, made by the subject `by`. Raises ALREADY_EXISTS, INVALID_FIELD, RATE_LIMITED."""
        given = self._checked(given, before=None)
        await contacts.lock_user(tx, given.user_id)
        same = await self._same(tx, given)
        if same is not None:
            raise _exists(same)
        if await contacts.count(tx, given.user_id) >= MOST_PER_USER:
            raise invalid("contact_method.user", f"has {MOST_PER_USER} contact methods already; delete one first")
        id = new_id()
        blank = Contact(id, given.user_id, "", given.channel, "", None, "", False)
        made = await contacts.insert(tx, self._changed(tx.org_id, blank, given))
        await self._notices.added(tx, by, made)
        return made

    async def update(
        self, tx: Tx, id: UUID, etag: str, change: Callable[[Contact], ContactInput], may: Owners, by: str
    ) -> Contact:
        """The contact method after `change`. A new address makes it unverified, and earlier codes are no longer valid.

        `may` raises when the caller may not change the contact methods of this user. Raises ALREADY_EXISTS,
        CONTACT_METHOD_NOT_FOUND, ETAG_MISMATCH, INVALID_FIELD, RATE_LIMITED.
        """
        owner = (await find(tx, id)).user_id
        may(owner)
        await contacts.lock_user(tx, owner)
        before = await find(tx, id, lock=True)
        require_etag(etag, before.version)
        given = self._checked(change(before), before=before)
        after = self._changed(tx.org_id, before, given)
        if (after.channel, given.address) != (before.channel, before.address):
            same = await self._same(tx, given, but=id)
            if same is not None:
                raise _exists(same)
            after = replace(after, verified=False)
            await verifications.finish(tx, id)
        updated = await contacts.update(tx, after)
        await self._notices.changed(tx, by, before, updated)
        if not updated.usable:
            await self._tell_hopeless(tx, id, "is disabled" if updated.disabled else "is not verified any more")
        return updated

    async def find_same(self, tx: Tx, given: ContactInput) -> Contact | None:
        """The user's method that `create` would refuse to make again; the user's methods stay locked. Raises INVALID_FIELD."""
        given = self._checked(given, before=None)
        await contacts.lock_user(tx, given.user_id)
        return await self._same(tx, given)

    async def gone(self, org_id: str, id: UUID, since: datetime, reason: str) -> None:
        """The provider says that the address does not exist: the method counts as unverified, and its owner is told
        through the other methods.

        `since`: when the provider was called. A method that was changed or verified after that is left as it is. Raises
        DATABASE_UNAVAILABLE.
        """

        async def work(tx: Tx) -> None:
            before = await contacts.read(tx, id, lock=True)
            if before is None or not before.verified or (before.update_time is not None and before.update_time > since):
                return
            await contacts.update(tx, replace(before, verified=False))
            await self._notices.gone(tx, before, reason)
            await self._tell_hopeless(tx, id, "is gone")

        await self._db.run(org_id, work)

    async def delete(self, tx: Tx, id: UUID, etag: str, may: Owners, by: str) -> Contact:
        """Returns the method as it was. Its rules are deleted with it, and its pending notifications move to the user's
        other methods.

        `may`: as for `update`.

        Raises CONTACT_METHOD_NOT_FOUND, ETAG_MISMATCH, RATE_LIMITED.
        """
        before = await find(tx, id, lock=True)
        may(before.user_id)
        require_etag(etag, before.version)
        await contacts.delete(tx, id)
        await self._notices.deleted(tx, by, before)
        await rules.forget_method(tx, id)
        moved = await move_pages(tx, before, self._failures)
        tx.after_commit(lambda: self._hints.now(moved))
        return before

    async def _tell_hopeless(self, tx: Tx, id: UUID, why: str) -> None:
        waiting = await notifications.waiting_for(tx, [(tx.org_id, id)], WAKING)
        await self._failures.tell_hopeless(tx, waiting, f"its contact method {why}")

    def reveal(self, org_id: str, contact: Contact) -> str:
        """The signing secret, for the response of create; empty for channels that sign nothing. Raises SecretLost."""
        if contact.secret is None or not TYPES[contact.channel].signs:
            return ""
        return self._cipher.open(org_id, contact.id, contact.secret).decode()

    async def _same(self, tx: Tx, given: ContactInput, *, but: UUID | None = None) -> Contact | None:
        """The oldest method of the user, other than `but`, that leads to this address in its one form."""
        mask = TYPES[given.channel].mask
        shown = given.address if mask is None else mask(given.address)
        for each in await contacts.at(tx, given.user_id, given.channel, shown):
            if each.id != but and (mask is None or self._hidden_address(tx.org_id, each) == given.address):
                return each
        return None

    def _hidden_address(self, org_id: str, contact: Contact) -> str | None:
        """None if no key opens it any more: then nothing is known of it."""
        if contact.secret is None:
            return None
        try:
            return self._cipher.open(org_id, contact.id, contact.secret).decode()
        except SecretLost:
            return None

    def _changed(self, org_id: str, before: Contact, given: ContactInput) -> Contact:
        secret, key_id = self._secret(org_id, before, given)
        return replace(
            before,
            display_name=given.display_name,
            channel=given.channel,
            address=self._shown(before, given),
            secret=secret,
            key_id=key_id,
            disabled=given.disabled,
        )

    def _secret(self, org_id: str, before: Contact, given: ContactInput) -> tuple[bytes | None, str]:
        """The encrypted secret, and its key id where messages are signed."""
        type_ = TYPES[given.channel]
        if type_.mask is not None:
            if _unmoved(before, given):
                return before.secret, ""
            return self._cipher.close(org_id, before.id, given.address.encode()), ""
        # The login for one server is never sent to another one.
        stays = given.channel is before.channel and (type_.signs or given.address == before.address)
        kept = before.secret if stays else None
        if not type_.hidden_field or (not given.secret and (kept is not None or not type_.signs)):
            return kept, (given.key_id or before.key_id) if type_.signs else ""
        text = given.secret or secrets.token_urlsafe(_SECRET_BYTES)
        closed = self._cipher.close(org_id, before.id, text.encode())
        return closed, (given.key_id or f"k{secrets.token_hex(4)}") if type_.signs else ""

    @staticmethod
    def _shown(before: Contact, given: ContactInput) -> str:
        mask = TYPES[given.channel].mask
        return given.address if mask is None or _unmoved(before, given) else mask(given.address)

    def _checked(self, given: ContactInput, *, before: Contact | None) -> ContactInput:
        """Checks that annotations cannot express; returns it with the address in its one form."""
        type_, field = TYPES[given.channel], f"contact_method.{given.channel}"
        if (before is None or given.channel is not before.channel) and given.channel in self._missing:
            raise invalid(field, self._missing[given.channel])
        if "\0" in given.display_name:
            raise invalid("contact_method.display_name", "must not hold a NUL character")
        if not _KEY_ID.fullmatch(given.key_id):
            raise invalid(f"{field}.key_id", "may hold letters, digits, dot, hyphen and underscore")
        if type_.mask is not None and before is not None and _unmoved(before, given):
            return given
        try:
            return replace(given, address=type_.check(given.address, self._allow_private))
        except BadAddress as error:
            raise invalid(f"{field}.{type_.address_field}", str(error)) from error


def _unmoved(before: Contact, given: ContactInput) -> bool:
    """Whether the address is the same: a caller may send back the masked address that it was shown."""
    return (given.channel, given.address) == (before.channel, before.address)


async def find(tx: Tx, id: UUID, *, lock: bool = False) -> Contact:
    """Raises CONTACT_METHOD_NOT_FOUND."""
    contact = await contacts.read(tx, id, lock=lock)
    if contact is None:
        raise not_found(ErrorReason.ERROR_REASON_CONTACT_METHOD_NOT_FOUND, f"contactMethods/{id}")
    return contact


def _exists(same: Contact) -> TocsinError:
    reason = ErrorReason.ERROR_REASON_ALREADY_EXISTS
    return _about(same, reason, "exists already, and leads to the same address of the same user")


def not_verified(contact: Contact) -> TocsinError:
    """NOT_VERIFIED."""
    return _about(contact, ErrorReason.ERROR_REASON_NOT_VERIFIED, "is not verified: send a code through it first")


def _about(contact: Contact, reason: ErrorReason.ValueType, words: str) -> TocsinError:
    name = f"contactMethods/{contact.id}"
    return TocsinError(reason, f"{name} {words}", metadata={"name": name})

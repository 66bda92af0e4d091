"""Contact methods: rows and back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Filtered, Statement, columns_of, constant, param, params_of

from tocsin_notify.domain.page import Channel
from tocsin_notify.store.tables import contact_methods


@dataclass(frozen=True, slots=True)
class Contact:
    """A stored contact method. `secret` is encrypted; times are set by the database."""

    id: UUID
    user_id: str
    display_name: str
    channel: Channel
    address: str
    secret: bytes | None
    key_id: str
    disabled: bool
    verified: bool = False
    version: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None

    def __repr__(self) -> str:
        return f"Contact({self.id}, {self.channel})"

    @property
    def usable(self) -> bool:
        """Whether it may carry pages."""
        return self.verified and not self.disabled


_C: Final = contact_methods.c
_COLUMNS: Final = columns_of(contact_methods, Contact, verified=_C.verify_time.is_not(None))
_MINE: Final = _C.org_id == param("org_id")
_ONE: Final = sa.and_(_MINE, _C.id == param("id"))
_EXISTS: Final = _C.delete_time.is_(None)
# A row with an empty user holds the address that a method had before another user changed it. Notices about that change
# are sent to it, and it is never shown.
_OWNED: Final = _C.user_id != constant("")
_SELECT: Final = sa.select(*_COLUMNS).where(_EXISTS)
_READ: Final = _SELECT.where(_ONE, _OWNED)
_GET: Final = Statement(_READ)
_LOCK: Final = Statement(_READ.with_for_update())
_USABLE: Final = Statement(
    _SELECT.where(_MINE, _C.user_id == param("user_id"), _C.verify_time.is_not(None), sa.not_(_C.disabled)).order_by(
        _C.create_time, _C.id
    )
)
_PAGE: Final = Filtered(
    _SELECT.where(_MINE, _OWNED, sa.tuple_(_C.create_time, _C.id) > sa.tuple_(param("after_time"), param("after_id")))
    .order_by(_C.create_time, _C.id)
    .limit(param("limit")),
    _C.user_id == param("user_id"),
)
_COUNT: Final = Statement(
    sa.select(sa.func.count()).select_from(contact_methods).where(_MINE, _C.user_id == param("user_id"), _EXISTS)
)
_WRITABLE: Final = params_of(contact_methods, ("display_name", "channel", "address", "secret", "key_id", "disabled"))
_INSERT: Final = Statement(
    sa.insert(contact_methods)
    .values(params_of(contact_methods, ("org_id", "id", "user_id")) | _WRITABLE)
    .returning(*_COLUMNS)
)
_CHANGED: Final = {"version": _C.version + constant(1), "update_time": sa.func.app_now()}
_VERIFY_TIME: Final = sa.case(
    (param("verified", sa.Boolean), sa.func.coalesce(_C.verify_time, sa.func.app_now())), else_=sa.null()
)
# If the user changes a method that STOP switched off, its state is the user's own choice, and START leaves it alone.
_STOP_TIME: Final = sa.case(
    (sa.and_(_WRITABLE["disabled"], _C.address == _WRITABLE["address"]), _C.stop_time), else_=sa.null()
)
_UPDATE: Final = Statement(
    sa.update(contact_methods)
    .where(_ONE)
    .values(_WRITABLE | _CHANGED | {"verify_time": _VERIFY_TIME, "stop_time": _STOP_TIME})
    .returning(*_COLUMNS)
)
_DELETE: Final = Statement(
    sa.update(contact_methods)
    .where(_ONE)
    .values(
        _CHANGED
        | {"delete_time": sa.func.app_now(), "address": constant(""), "key_id": constant("")}
        | {"secret": sa.null(), "verify_time": sa.null(), "stop_time": sa.null()}
    )
)
_OF: Final = sa.and_(_MINE, _EXISTS, _C.user_id == param("user_id"))
# A user has no row here, so it is a lock on their name; for a moment it may keep waiting who locks another user's.
_LOCK_USER: Final = "SELECT pg_advisory_xact_lock(hashtextextended('contact methods of ' || $1 || ' ' || $2, 0))"
_AT: Final = Statement(
    _SELECT.where(_OF, _C.channel == param("channel"), _C.address == param("address")).order_by(_C.create_time, _C.id)
)
_CHANGE_USER: Final = Statement(
    sa.update(contact_methods)
    .where(_OF, sa.or_(_C.user_change_time.is_(None), _C.user_change_time < param("time")))
    .values(user_disabled=param("disabled", sa.Boolean), user_change_time=param("time"))
    .returning(_C.id)
)
_OF_USER: Final = Statement(
    _SELECT.where(_OF, _C.create_time <= param("time")).order_by(_C.create_time, _C.id).with_for_update()
)
_OWNERS: Final = Statement(
    sa.select(_C.id, _C.user_id)
    .where(_MINE, _EXISTS, _C.id == sa.any_(param("ids", sa.ARRAY(sa.UUID))))
    .order_by(_C.id)
    .with_for_update(read=True)
)
_OWNER_OF: Final = Statement(
    sa.select(_C.user_id)
    .where(_MINE, _EXISTS, _OWNED, _C.channel == param("channel"), _C.address == param("address"))
    .where(_C.verify_time.is_not(None), sa.not_(_C.user_disabled))
    .order_by(_C.verify_time, _C.id)
    .limit(constant(1))
)
# In a transaction of all tenants: a Slack account names no tenant.
_OWNERS_OF_SLACK: Final = Statement(
    sa.select(_C.org_id, _C.user_id)
    .distinct()
    .where(_EXISTS, _OWNED, _C.channel == constant("slack"), _C.address == param("address"))
    .where(_C.verify_time.is_not(None), sa.not_(_C.user_disabled))
    .order_by(_C.org_id, _C.user_id)
    .limit(param("limit"))
)

_ACCOUNTS: Final = Statement(
    sa.select(_C.user_id, sa.func.min(_C.address).label("address"))
    .where(_MINE, _EXISTS, _C.user_id == sa.any_(param("users", sa.ARRAY(sa.Text))))
    .where(_C.channel == constant("slack"), _C.verify_time.is_not(None), sa.text("address ~ '^[UW]'"))
    .group_by(_C.user_id)
)


def _contact(row: asyncpg.Record) -> Contact:
    fields = dict(row)
    return Contact(**{**fields, "channel": Channel(fields["channel"])})


async def read(tx: Tx, id: UUID, *, lock: bool = False) -> Contact | None:
    """A method that was not deleted."""
    row = await tx.fetchrow(*(_LOCK if lock else _GET)(org_id=tx.org_id, id=id))
    return None if row is None else _contact(row)


async def page(tx: Tx, user: str, after: tuple[datetime, UUID], limit: int) -> list[Contact]:
    """Oldest first, after `after`; of one user, or of all if `user` is empty."""
    after_time, after_id = after
    page = _PAGE(org_id=tx.org_id, user_id=user or None, after_time=after_time, after_id=after_id, limit=limit)
    return [_contact(row) for row in await tx.fetch(*page)]


async def usable(tx: Tx, user: str) -> list[Contact]:
    """The user's methods that may carry pages, oldest first."""
    return [_contact(row) for row in await tx.fetch(*_USABLE(org_id=tx.org_id, user_id=user))]


async def count(tx: Tx, user: str) -> int:
    """How many the user has."""
    found: int = await tx.fetchval(*_COUNT(org_id=tx.org_id, user_id=user))
    return found


async def lock_user(tx: Tx, user: str) -> None:
    """Until the transaction ends, no other one that locks the user goes on. Lock no row of theirs before. Raises CONFLICT."""
    await tx.execute(_LOCK_USER, tx.org_id, user)


async def at(tx: Tx, user: str, channel: Channel, address: str) -> list[Contact]:
    """The user's methods with this stored address, oldest first."""
    rows = await tx.fetch(*_AT(org_id=tx.org_id, user_id=user, channel=channel, address=address))
    return [_contact(row) for row in rows]


async def insert(tx: Tx, contact: Contact) -> Contact:
    """A new one."""
    row = await tx.fetchrow(*_INSERT(org_id=tx.org_id, user_id=contact.user_id, **_written(contact)))
    assert row is not None
    return _contact(row)


async def update(tx: Tx, contact: Contact) -> Contact:
    """The new values of a locked one."""
    row = await tx.fetchrow(*_UPDATE(org_id=tx.org_id, verified=contact.verified, **_written(contact)))
    assert row is not None, "the row is locked by this transaction"
    return _contact(row)


def _written(contact: Contact) -> dict[str, object]:
    return {"id": contact.id, **{name: getattr(contact, name) for name in _WRITABLE}}


async def verify(tx: Tx, contact: Contact) -> Contact:
    """Mark a locked one as verified."""
    return await update(tx, replace(contact, verified=True))


async def delete(tx: Tx, id: UUID) -> None:
    """Delete a locked one: its address is erased; its row stays for the notifications that name it."""
    await tx.execute(*_DELETE(org_id=tx.org_id, id=id))


async def change_user(tx: Tx, user: str, time: datetime, *, disabled: bool) -> list[UUID]:
    """Change those of the user's methods for which no newer change is known; returns them."""
    rows = await tx.fetch(*_CHANGE_USER(org_id=tx.org_id, user_id=user, disabled=disabled, time=time))
    return [row["id"] for row in rows]


async def delete_user(tx: Tx, user: str, time: datetime) -> list[Contact]:
    """Delete the user's methods that were made until then; returns them as they were."""
    found = [_contact(row) for row in await tx.fetch(*_OF_USER(org_id=tx.org_id, user_id=user, time=time))]
    for each in found:
        await delete(tx, each.id)
    return found


async def owners(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The users of these methods, without those that do not exist. The rows are locked until the transaction ends."""
    rows = await tx.fetch(*_OWNERS(org_id=tx.org_id, ids=list(ids)))
    return {row["id"]: row["user_id"] for row in rows}


async def owners_of_slack(tx: Tx, member: str, limit: int) -> list[tuple[str, str]]:
    """Tenant and user of every user who has verified this Slack member; without disabled users."""
    rows = await tx.fetch(*_OWNERS_OF_SLACK(address=member, limit=limit))
    return [(row["org_id"], row["user_id"]) for row in rows]


async def accounts_at_slack(tx: Tx, users: Sequence[str]) -> dict[str, str]:
    """The verified Slack member of each of these users, if any; of several the first by name."""
    rows = await tx.fetch(*_ACCOUNTS(org_id=tx.org_id, users=list(users)))
    return {row["user_id"]: row["address"] for row in rows}


async def owner_of(tx: Tx, channel: Channel, address: str) -> str | None:
    """The user who has verified this address and is not disabled: the first, if several have."""
    found: str | None = await tx.fetchval(*_OWNER_OF(org_id=tx.org_id, channel=channel, address=address))
    return found

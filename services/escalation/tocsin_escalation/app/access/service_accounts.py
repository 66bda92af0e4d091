"""Service accounts and their API keys."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.ids import new_id
from tocsin_kit.keys.api_keys import KNOWN_SECONDS, PREFIX
from tocsin_kit.keys.secret import SHOWN, key_hash, new_key
from tocsin_kit.roles import ROLES
from tocsin_kit.rpc.call import scope_missing
from tocsin_kit.rpc.masks import require_etag

from tocsin_escalation.store.access import api_keys, revocations, service_accounts
from tocsin_escalation.store.access.api_keys import ApiKeyRow
from tocsin_escalation.store.access.revocations import RevocationRow
from tocsin_escalation.store.access.service_accounts import ServiceAccountRow

_GRANTABLE: Final = ROLES["owner"]
_REMEMBERED: Final = timedelta(seconds=2 * KNOWN_SECONDS)
"""How long the end of a key is reported: longer than any replica accepts a key without asking the record again."""


async def create(tx: Tx, row: ServiceAccountRow) -> ServiceAccountRow:
    """A new one. Raises ALREADY_EXISTS."""
    created = await service_accounts.insert(tx, row)
    if created is None:
        name = f"serviceAccounts/{row.id}"
        raise TocsinError(reasons.ERROR_REASON_ALREADY_EXISTS, f"{name} exists already", metadata={"name": name})
    return created


async def get(tx: Tx, id: str, *, lock: bool = False) -> ServiceAccountRow:
    """One. Raises SERVICE_ACCOUNT_NOT_FOUND."""
    row = await service_accounts.get(tx, id, lock=lock)
    if row is None:
        raise not_found(reasons.ERROR_REASON_SERVICE_ACCOUNT_NOT_FOUND, f"serviceAccounts/{id}")
    return row


async def update(
    tx: Tx, id: str, etag: str, change: Callable[[ServiceAccountRow], ServiceAccountRow]
) -> ServiceAccountRow:
    """The account after `change`. Raises SERVICE_ACCOUNT_NOT_FOUND, ETAG_MISMATCH."""
    row = await get(tx, id, lock=True)
    require_etag(etag, row.version)
    return await service_accounts.update(tx, change(row))


async def delete(tx: Tx, id: str, etag: str, author: str) -> ServiceAccountRow:
    """Delete the account and its keys; returns the account as it was. Raises SERVICE_ACCOUNT_NOT_FOUND, ETAG_MISMATCH."""
    row = await get(tx, id, lock=True)
    require_etag(etag, row.version)
    await service_accounts.delete(tx, id)
    now = await tx.now()
    ended = RevocationRow(
        tx.org_id, new_id(), "", f"serviceAccounts/{id}", now, now + _REMEMBERED, author, "deleted", of_key=True
    )
    await revocations.insert(tx, ended)
    return row


async def create_key(
    tx: Tx, wanted: ApiKeyRow, lifetime: timedelta | None, held: frozenset[str]
) -> tuple[ApiKeyRow, str]:
    """A new key, and its text. `held`: the scopes of the caller who makes it.

    Raises INVALID_FIELD, SERVICE_ACCOUNT_NOT_FOUND, SCOPE_MISSING.
    """
    if not wanted.role and not wanted.scopes:
        raise invalid(
            "api_key.scopes", "must hold at least one scope, or set a role: a key that may do nothing is of no use"
        )
    for position, scope in enumerate(wanted.scopes):
        if scope not in _GRANTABLE:
            known = ", ".join(sorted(_GRANTABLE))
            raise invalid(f"api_key.scopes[{position}]", f"is no scope that a key may have; those are {known}")
    beyond = granted(wanted) - held
    if beyond:
        raise scope_missing(min(beyond))
    # Locked: an account that is being deleted gets no key that would outlive it.
    await get(tx, wanted.service_account, lock=True)
    key = new_key(PREFIX)
    return await api_keys.insert(tx, replace(wanted, prefix=key[:SHOWN]), key_hash(key), lifetime), key


async def revoke_key(tx: Tx, id: UUID, author: str) -> ApiKeyRow:
    """The key, which is revoked now. Raises API_KEY_NOT_FOUND."""
    row = await api_keys.revoke(tx, id)
    if row is None:
        raise not_found(reasons.ERROR_REASON_API_KEY_NOT_FOUND, f"apiKeys/{id}")
    now = await tx.now()
    if row.revoke_time == now:
        await revocations.insert(
            tx, RevocationRow(tx.org_id, new_id(), str(id), "", now, now + _REMEMBERED, author, of_key=True)
        )
    return row


def granted(row: ApiKeyRow) -> frozenset[str]:
    """The scopes of a key."""
    return frozenset(row.scopes) | ROLES.get(row.role, frozenset())

"""Refuse credentials that have not expired."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from tocsin_kit.auth import ALL_ORGS, LEEWAY
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import invalid

from tocsin_escalation.store.access import revocations
from tocsin_escalation.store.access.revocations import RevocationRow

_SERVICES: Final = "services/"


async def revoke_tokens(
    tx: Tx, wanted: RevocationRow, issued_before: datetime | None, expire: datetime | None, longest: float
) -> RevocationRow:
    """The revocation. `longest`: seconds that a token may live. Raises INVALID_FIELD."""
    now = await tx.now()
    latest = now + timedelta(seconds=longest + LEEWAY)
    if wanted.subject:
        if wanted.subject.startswith(_SERVICES):
            raise invalid(
                "subject", "is one of Tocsin's own services; shut out who has its key by another AUTH_SIGNING_KEYS"
            )
        if expire is not None:
            raise invalid(
                "expire_time", "goes with token_id only; a subject's tokens are refused for as long as they may live"
            )
        if issued_before is not None and issued_before > now:
            raise invalid("issued_before", "must not lie in the future: tokens that are yet to be made cannot be lost")
        return await _keep(tx, wanted, issued_before or now, latest)
    if issued_before is not None:
        raise invalid("issued_before", "goes with subject only; a token is named by its jti")
    if expire is not None and expire + timedelta(seconds=LEEWAY) <= now:
        raise invalid("expire_time", "has passed: the token is refused already")
    return await _keep(tx, wanted, now, latest if expire is None else min(latest, expire + timedelta(seconds=LEEWAY)))


def owner_of(org_id: str, given: str, *, of_subject: bool) -> str:
    """The tenant whose credentials a caller of tenant `org_id` may revoke. Raises INVALID_FIELD."""
    if org_id != ALL_ORGS:
        if given not in ("", org_id):
            raise invalid("org_id", "must be empty or the credential's own tenant")
        return org_id
    if of_subject and not given:
        raise invalid("org_id", "must say whose subject it is: a tenant, or * for operators")
    return given or ALL_ORGS


async def _keep(tx: Tx, wanted: RevocationRow, issued_before: datetime, expire: datetime) -> RevocationRow:
    return await revocations.insert(tx, replace(wanted, issued_before=issued_before, expire_time=expire))

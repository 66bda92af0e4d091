"""What responders look at."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import not_found

from tocsin_escalation.store import escalations, timeline
from tocsin_escalation.store.escalations import EscalationRow, Filters
from tocsin_escalation.store.timeline import Entry


async def incident(db: Database, org_id: str, id_: UUID) -> EscalationRow:
    """One incident. Raises INCIDENT_NOT_FOUND."""
    async with db.transaction(org_id) as tx:
        row = await escalations.get(tx, id_)
    if row is None:
        raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{id_}")
    return row


async def incidents(
    db: Database, org_id: str, filters: Filters, cursor: Sequence[object] | None, limit: int
) -> list[EscalationRow]:
    """Incidents that fit, newest first; the cursor is the last one's creation time and id."""
    before = None
    if cursor is not None:
        created, id_ = cursor
        assert isinstance(created, datetime), "a page token holds what was put into it"
        assert isinstance(id_, UUID), "a page token holds what was put into it"
        before = (created, id_)
    async with db.transaction(org_id) as tx:
        return await escalations.page(tx, filters, before, limit)


async def known(db: Database, org_id: str, ids: Sequence[UUID]) -> set[UUID]:
    """Those of `ids` that this tenant has."""
    async with db.transaction(org_id) as tx:
        return set(await escalations.get_many(tx, ids))


async def timeline_of(db: Database, org_id: str, id_: UUID, cursor: Sequence[object] | None, limit: int) -> list[Entry]:
    """One incident's timeline, oldest first. Raises INCIDENT_NOT_FOUND."""
    async with db.transaction(org_id) as tx:
        if await escalations.get(tx, id_) is None:
            raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{id_}")
        after = cursor[0] if cursor else 0
        assert isinstance(after, int), "a page token holds what was put into it"
        return await timeline.page(tx, id_, after, limit)

"""Reads for responders."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import not_found

from tocsin_escalation.store.incidents import escalations, finding, timeline
from tocsin_escalation.store.incidents.escalations import EscalationRow
from tocsin_escalation.store.incidents.finding import Count, Filters, FoundPage
from tocsin_escalation.store.incidents.timeline import Entry


async def incident(db: Database, org_id: str, id: UUID) -> EscalationRow:
    """One incident. Matching incidents, newest first; the cursor is the place after which to continue."""
    async with db.reading(org_id) as tx:
        row = await escalations.get(tx, id)
    if row is None:
        raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{id}")
    return row


async def newest(db: Database, org_id: str, filters: Filters, cursor: Sequence[object] | None, limit: int) -> FoundPage:
    """Incidents that fit, newest first; the cursor is the place behind which to go on."""
    async with db.transaction(org_id) as tx:
        return await finding.newest(tx, filters, place(cursor), limit)


async def worst(
    db: Database, org_id: str, filters: Filters, cursor: Sequence[object] | None, limit: int
) -> list[EscalationRow]:
    """Unresolved matching incidents, critical ones first; the cursor is the last one's severity and place."""
    behind = None
    if cursor is not None:
        severity, *behind_it = cursor
        found = place(behind_it)
        assert isinstance(severity, int), "a page token holds what was put into it"
        assert found is not None, "a page token holds what was put into it"
        behind = (severity, *found)
    async with db.transaction(org_id) as tx:
        return await finding.worst(tx, filters, behind, limit)


def place(cursor: Sequence[object] | None) -> tuple[datetime, UUID] | None:
    """The place in a list after which a page token continues."""
    if cursor is None:
        return None
    created, id = cursor
    assert isinstance(created, datetime), "a page token holds what was put into it"
    assert isinstance(id, UUID), "a page token holds what was put into it"
    return created, id


async def counts(db: Database, org_id: str, policy: str, team: str) -> list[Count]:
    """How many incidents are unresolved, by state and severity."""
    async with db.transaction(org_id) as tx:
        return await finding.counts(tx, policy, team)


async def known(db: Database, org_id: str, ids: Sequence[UUID]) -> set[UUID]:
    """Those of `ids` that this tenant has."""
    async with db.transaction(org_id) as tx:
        return set(await escalations.get_many(tx, ids))


async def timeline_of(db: Database, org_id: str, id: UUID, cursor: Sequence[object] | None, limit: int) -> list[Entry]:
    """One incident's timeline, oldest first. Raises INCIDENT_NOT_FOUND."""
    async with db.transaction(org_id) as tx:
        if await escalations.get(tx, id) is None:
            raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{id}")
        after = cursor[0] if cursor else 0
        assert isinstance(after, int), "a page token holds what was put into it"
        return await timeline.page(tx, id, after, limit)

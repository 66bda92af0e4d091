"""Resolve incidents for a person: closing belongs to ingest, because ingest owns the keys that closing frees."""

from collections.abc import Callable, Sequence
from uuid import UUID

from tocsin.ingest.v1.internal_service_pb2 import ResolvedIncident
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import format_name

from tocsin_ingest.store.alerts.snapshot import lock_integrations
from tocsin_ingest.store.incidents import resolving


async def resolve_incidents(
    database: Database, nudge: Callable[[], None], org_id: str, actor: str, incident_ids: Sequence[UUID]
) -> list[ResolvedIncident]:
    """One answer per incident, in their order. Resolving twice is the same as once; `nudge` is called after commit."""

    async def work(tx: Tx) -> tuple[dict[UUID, resolving.KnownIncident], dict[UUID, int]]:
        known = await resolving.find(tx, incident_ids)
        # An incident never changes its integration, so that may be read before the lock; its state may not.
        await lock_integrations(tx, {each.integration_id for each in known.values()})
        closed = await resolving.resolve(tx, list(known), actor)
        tx.after_commit(nudge)
        return (await resolving.find(tx, incident_ids)) if len(closed) < len(known) else known, closed

    known, closed = await database.run(org_id, work)
    return [
        ResolvedIncident(
            incident=format_name("incidents", each),
            found=each in known,
            already_resolved=each in known and each not in closed,
            sequence=closed.get(each) or (known[each].sequence if each in known else 0),
        )
        for each in incident_ids
    ]

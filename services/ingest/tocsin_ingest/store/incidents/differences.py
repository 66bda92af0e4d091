"""What the comparison with escalation reads and writes, in sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.domain.differences import Standing
from tocsin_ingest.domain.events import Resolved
from tocsin_ingest.store.alerts.events import INCIDENT_EVENT, encode, opened_anew
from tocsin_ingest.store.incidents.records import COLUMNS, IncidentRecord

# Events in the outbox will be delivered; an incident with any is left to the relay.
_WAITING: Final = outbox.on_its_way("incidents.id::text", "incidents.org_id")
# By group key, because an index of the open incidents in that order is there already. An incident whose group goes on in
# another one gets another key, and may come twice in a round or not at all; the next round has it.
_OPEN_AFTER: Final = f"""
SELECT group_key, org_id, id, event_sequence, {_WAITING} AS waiting FROM incidents
WHERE state = 'open' AND ($1::uuid IS NULL OR group_key > $1) ORDER BY group_key LIMIT $2
"""
_STANDINGS: Final = f"""
SELECT incidents.org_id, incidents.id, state = 'resolved' AS resolved, event_sequence, {_WAITING} AS waiting
FROM unnest($1::text[], $2::uuid[]) AS asked (org_id, id)
JOIN incidents ON incidents.id = asked.id AND incidents.org_id IS NOT DISTINCT FROM asked.org_id
"""
_STILL_OPEN: Final = f"""
SELECT {COLUMNS} FROM incidents
JOIN unnest($2::uuid[], $3::bigint[]) AS seen (id, sequence) ON seen.id = incidents.id
WHERE incidents.org_id IS NOT DISTINCT FROM $1 AND state = 'open' AND event_sequence = seen.sequence AND NOT {_WAITING}
"""
_COUNT_ON: Final = """
UPDATE incidents SET event_sequence = ahead.sequence
FROM unnest($2::uuid[], $3::bigint[]) AS ahead (id, sequence)
WHERE incidents.id = ahead.id AND incidents.org_id IS NOT DISTINCT FROM $1 AND state = 'open'
  AND event_sequence < ahead.sequence
RETURNING incidents.id
"""


@dataclass(frozen=True, slots=True)
class OpenHere:
    """An incident that is open in ingest. `waiting`: some of its events are not delivered yet."""

    group_key: UUID
    org_id: str
    id: UUID
    sequence: int
    waiting: bool


async def open_after(tx: Tx, after: UUID | None, limit: int) -> list[OpenHere]:
    """Up to `limit` open incidents of all tenants in the order of their group keys, behind `after`."""
    return [OpenHere(*row) for row in await tx.fetch(_OPEN_AFTER, after, limit)]


async def standings(tx: Tx, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], tuple[Standing, bool]]:
    """Those of the incidents (tenant, id) that ingest has, and whether events of theirs are not delivered yet."""
    rows = await tx.fetch(_STANDINGS, [org_id for org_id, _ in wanted], [incident_id for _, incident_id in wanted])
    return {
        (row["org_id"], row["id"]): (Standing(row["resolved"], row["event_sequence"]), row["waiting"]) for row in rows
    }


async def open_anew(tx: Tx, seen: Sequence[tuple[UUID, int]], because: str) -> set[UUID]:
    """Sends those of these incidents (id, sequence) that are unchanged to escalation, in their present state; returns which.

    Their integrations must be locked, as an incident's events must be appended in their order.
    """
    rows = await tx.fetch(_STILL_OPEN, tx.org_id, [each for each, _ in seen], [sequence for _, sequence in seen])
    records = [IncidentRecord.of(row) for row in rows]
    messages = [(str(each.id), opened_anew(each, each.sequence, because).SerializeToString()) for each in records]
    await outbox.append_many(tx, INCIDENT_EVENT, messages)
    return {each.id for each in records}


async def count_on(tx: Tx, ahead: Sequence[tuple[UUID, int]]) -> set[UUID]:
    """Gives the next event of open incidents (id, number) a number that escalation has not seen; which incidents."""
    rows = await tx.fetch(_COUNT_ON, tx.org_id, [each for each, _ in ahead], [number for _, number in ahead])
    return {row["id"] for row in rows}


async def close_there(tx: Tx, incidents: Sequence[tuple[UUID, int, str]]) -> None:
    """Tells escalation that incidents (id, number of the event, why) are over."""
    messages = [
        (str(each), encode(tx.org_id, each, number, Resolved(INGEST, because))) for each, number, because in incidents
    ]
    await outbox.append_many(tx, INCIDENT_EVENT, messages)

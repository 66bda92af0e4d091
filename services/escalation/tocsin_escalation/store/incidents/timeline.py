"""The timeline in PostgreSQL: what happened, with enough detail to say later why a page was or was not sent."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.row_arrays import RowArrays
from tocsin_kit.db.rows import columns

from tocsin_escalation.domain.decision import Note
from tocsin_escalation.domain.escalation import Run
from tocsin_escalation.domain.events import PageForgotten
from tocsin_escalation.store.incidents.escalations import people_json


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a timeline, as kept."""

    id: int
    create_time: datetime
    kind: str
    actor: str
    message: str
    level: int
    repeat: int
    generation: int
    state: str
    paged_users: tuple[str, ...]
    pages: tuple[UUID, ...]
    lateness_ms: int


COLUMNS: Final = columns(Entry)


def _entry(record: Record) -> Entry:
    values = dict(record)
    return Entry(**{**values, "paged_users": tuple(values["paged_users"]), "pages": tuple(values["pages"])})


_NEW: Final = RowArrays(
    1,
    "position int, org_id text, incident_id uuid, kind text, actor text, message text, level int, repeat int, generation int,"
    "state text, paged jsonb, pages jsonb, lateness_ms bigint, outcome text",
)
_APPEND: Final = f"""INSERT INTO timeline (org_id, incident_id, create_time, kind, actor, message, level, repeat, generation, state,
    paged_users, pages, lateness_ms, outcome)
  SELECT org_id, incident_id, app_now(), kind, actor, message, level, repeat, generation, state,
    ARRAY(SELECT jsonb_array_elements_text(paged)), ARRAY(SELECT jsonb_array_elements_text(pages)::uuid),
    lateness_ms, outcome
  FROM {_NEW.sql} AS n ORDER BY position"""
_APPEND_RETURNING: Final = f"{_APPEND} RETURNING {COLUMNS}"


async def append(tx: Tx, notes: Sequence[tuple[Run, Note]]) -> list[Entry]:
    """Write notes, each with the escalation as it is after it; returns the entries."""
    if not notes:
        return []
    return [_entry(record) for record in await tx.fetch(_APPEND_RETURNING, *_columns(notes))]


async def write(tx: Tx, notes: Sequence[tuple[Run, Note]]) -> None:
    """`append` for batches whose entries are not read: returning them costs more than writing them."""
    if notes:
        await tx.execute(_APPEND, *_columns(notes))


def _columns(notes: Sequence[tuple[Run, Note]]) -> Sequence[Sequence[object]]:
    return _NEW.parameters(
        [
            (
                position,
                run.org_id,
                run.incident_id,
                note.kind.value,
                note.actor or "services/escalation",
                note.message,
                note.level,
                run.repeat,
                run.generation,
                run.state.value,
                people_json(tuple(page.user for page in note.pages)) if note.pages else "[]",
                json.dumps([str(id) for id in ids]) if (ids := _pages(note)) else "[]",
                note.lateness_ms,
                note.outcome,
            )
            for position, (run, note) in enumerate(notes)
        ]
    )


def _pages(note: Note) -> list[UUID]:
    return [page.id for page in note.pages] if note.page is None else [note.page]


async def outcomes_recorded(tx: Tx, keys: Sequence[tuple[str, UUID, str]]) -> set[str]:
    """Those of the page outcomes (tenant, incident, key) that the timeline holds already. The incidents are locked."""
    records = await tx.fetch(
        """SELECT t.outcome FROM unnest($1::text[], $2::uuid[], $3::text[]) AS g(org_id, incident_id, outcome)
           JOIN timeline t ON t.incident_id = g.incident_id AND t.org_id IS NOT DISTINCT FROM g.org_id
             AND t.outcome = g.outcome AND t.outcome <> ''""",
        [org_id for org_id, _, _ in keys],
        [incident_id for _, incident_id, _ in keys],
        [key for _, _, key in keys],
    )
    return {record["outcome"] for record in records}


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A page to be sent again, as its incident's escalation needs it."""

    org_id: str
    incident_id: UUID
    event: PageForgotten


# The entry that made a page names its user. An entry about an outcome of the page, or about sending it again, names no user.
# `user` alone would be the login of the session, so the columns are named with their table. Who asks for a user stands in the same
# entry, or in one of the same moment: that of the act by which a person had the level paged, unless the page is their own.
_PAGINGS: Final = f"""
WITH paging AS (
  SELECT t.id, t.org_id, t.incident_id, g.page, t.paged_users[array_position(t.pages, g.page)] AS user,
    t.level, t.repeat, t.generation, t.create_time - make_interval(secs => t.lateness_ms / 1000.0) AS planned_time,
    coalesce((SELECT a.actor FROM timeline a WHERE a.incident_id = t.incident_id AND a.org_id IS NOT DISTINCT FROM t.org_id
                AND (a.id = t.id AND a.kind = 'responders_added' OR a.id < t.id AND t.kind <> 'responders_added'
                  AND a.kind IN ('escalated', 'reassigned', 'restarted', 'unacknowledged')
                  AND a.generation = t.generation AND a.create_time = t.create_time)
                AND a.actor <> 'users/' || t.paged_users[array_position(t.pages, g.page)]
              ORDER BY a.id DESC LIMIT 1), '') AS actor,
    NOT EXISTS (SELECT FROM timeline b WHERE b.incident_id = t.incident_id AND b.org_id IS NOT DISTINCT FROM t.org_id
                  AND b.id < t.id AND cardinality(b.paged_users) > 0) AS first
  FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS g(org_id, incident_id, page)
  JOIN timeline t ON t.incident_id = g.incident_id AND t.org_id IS NOT DISTINCT FROM g.org_id
    AND g.page = ANY(t.pages) AND cardinality(t.paged_users) > 0 AND t.create_time > app_now() - make_interval(secs => $4)
  WHERE NOT EXISTS (
    SELECT FROM timeline s WHERE s.incident_id = t.incident_id AND s.org_id IS NOT DISTINCT FROM t.org_id
      AND s.kind = 'note' AND g.page = ANY(s.pages) AND s.create_time > app_now() - make_interval(secs => $5))
  AND NOT EXISTS (
    SELECT FROM timeline p WHERE p.incident_id = t.incident_id AND p.org_id IS NOT DISTINCT FROM t.org_id
      AND p.id > t.id AND p.kind = 'escalated' AND p.actor = 'users/' || t.paged_users[array_position(t.pages, g.page)]))
SELECT org_id, incident_id, {columns(PageForgotten, of="paging")} FROM paging ORDER BY id
"""


async def forgotten(
    tx: Tx, named: Sequence[tuple[str, UUID, UUID]], *, younger: float, unless_noted: float
) -> list[Forgotten]:
    """How these pages (tenant, incident, page) were made, for pages of the last `younger` seconds.

    Without those that were sent again according to an entry of the last `unless_noted` seconds, and those of users who have passed
    the incident on since: they were stopped.
    """
    records = await tx.fetch(
        _PAGINGS,
        [org_id for org_id, _, _ in named],
        [incident_id for _, incident_id, _ in named],
        [page for _, _, page in named],
        younger,
        unless_noted,
    )
    return [Forgotten(org_id, incident_id, PageForgotten(*made)) for org_id, incident_id, *made in records]


async def page(tx: Tx, incident_id: UUID, after: int, limit: int) -> list[Entry]:
    """One incident's entries, oldest first, behind `after`."""
    query = f"SELECT {COLUMNS} FROM timeline WHERE org_id = $1 AND incident_id = $2 AND id > $3 ORDER BY id LIMIT $4"
    return [_entry(record) for record in await tx.fetch(query, tx.org_id, incident_id, after, limit)]

"""The states of pages of escalations, in PostgreSQL: read and written without the rest of their rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx

from tocsin_escalation.domain.escalation import PagedRun, PageState, Reached, Run, State

_OPEN_AFTER: Final = """SELECT org_id, incident_id, pages, generation FROM escalations
  WHERE state <> 'resolved' AND ($1::uuid IS NULL OR incident_id > $1) ORDER BY incident_id LIMIT $2"""
_NOBODYS: Final = UUID(int=0)
"""Stands in rows that are older than the states of pages."""
_COLUMNS: Final = "org_id, incident_id, state, level, repeat, generation, assignees, pages, reached"
_LOCK: Final = f"""SELECT {_COLUMNS} FROM escalations
  WHERE incident_id = ANY($1::uuid[]) AND ($2 = '*' OR org_id = $2) ORDER BY incident_id FOR UPDATE"""
# Both conditions on the state: the second one is that of the index of assignees.
_WAITING_FOR: Final = f"""SELECT {_COLUMNS} FROM escalations
  WHERE org_id = $1 AND state = 'triggered' AND state <> 'resolved' AND assignees @> ARRAY[$2::text] AND incident_id > $3
  ORDER BY incident_id LIMIT $4"""


@dataclass(frozen=True, slots=True)
class OpenPage:
    """A page without an outcome."""

    org_id: str
    incident_id: UUID
    page: UUID
    generation: int = field(default=0, compare=False)
    """The present one of the incident."""


async def open_after(tx: Tx, after: UUID | None, limit: int) -> tuple[list[OpenPage], UUID | None]:
    """The open pages of up to `limit` unresolved incidents, by their ids, after `after`; and where to continue, None at the end."""
    records = await tx.fetch(_OPEN_AFTER, after, limit)
    found = [
        OpenPage(org_id, incident_id, page, generation)
        for org_id, incident_id, text, generation in records
        for page, state in from_json(text).items()
        if state is PageState.OPEN and page != _NOBODYS
    ]
    return found, records[-1]["incident_id"] if len(records) == limit else None


async def lock(tx: Tx, incident_ids: Sequence[UUID]) -> dict[UUID, PagedRun]:
    """Lock escalations as `incidents.escalations.lock` does, and read the columns that their pages need. One statement: it joins
    nothing."""
    return {run.incident_id: run for run in map(_paged_run, await tx.fetch(_LOCK, list(incident_ids), tx.org_id))}


async def waiting_for(tx: Tx, user: str, after: UUID, limit: int) -> list[PagedRun]:
    """This tenant's escalations whose present level has paged the user and waits for an answer, by their ids, after `after`."""
    return list(map(_paged_run, await tx.fetch(_WAITING_FOR, tx.org_id, user, after, limit)))


async def save(tx: Tx, runs: Sequence[Run]) -> None:
    """Write the states of pages of locked escalations that have no other change.

    Every sent page needs this write: no indexed column is touched, and no policy is sent.
    """
    if not runs:
        return
    await tx.execute(
        """UPDATE escalations e SET pages = n.pages, reached = n.reached, update_time = app_now()
           FROM unnest($1::text[], $2::uuid[], $3::jsonb[], $4::text[]) AS n(org_id, incident_id, pages, reached)
           WHERE e.incident_id = n.incident_id AND e.org_id IS NOT DISTINCT FROM n.org_id""",
        [run.org_id for run in runs],
        [run.incident_id for run in runs],
        [to_json(run) for run in runs],
        [run.reached.value for run in runs],
    )


def to_json(run: Run) -> str:
    """The form in escalations.pages."""
    return json.dumps({str(page): state for page, state in run.pages.items()})


def from_json(text: str) -> dict[UUID, PageState]:
    """What `to_json` wrote."""
    return {UUID(page): PageState(state) for page, state in json.loads(text).items()}


def _paged_run(record: Record) -> PagedRun:
    org_id, id, state, level, repeat, generation, assignees, pages, reached = record
    return PagedRun(
        org_id, id, State(state), level, repeat, generation, tuple(assignees), from_json(pages), Reached(reached)
    )

"""Users who follow incidents, in the rows of these."""

import json
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Statement, param

from tocsin_escalation.domain.escalation import State
from tocsin_escalation.store import tables

_C: Final = tables.escalations.c
_ONE: Final = sa.and_(_C.org_id == param("org_id"), _C.incident_id == param("id"))
_SELECT: Final = sa.select(_C.state, _C.followers).where(_ONE)
_GET: Final = Statement(_SELECT)
_LOCK: Final = Statement(_SELECT.with_for_update())
_SAVE: Final = Statement(
    sa.update(tables.escalations).where(_ONE).values(followers=param("followers", _C.followers.type))
)


async def get(tx: Tx, incident_id: UUID, *, lock: bool = False) -> tuple[State, dict[str, str]] | None:
    """The state of an incident, and the channels of those who follow it, by user; locked for a change if asked."""
    record = await tx.fetchrow(*(_LOCK if lock else _GET)(org_id=tx.org_id, id=incident_id))
    return None if record is None else (State(record["state"]), json.loads(record["followers"]))


async def save(tx: Tx, incident_id: UUID, followers: Mapping[str, str]) -> None:
    """Write the followers of a locked incident."""
    await tx.execute(*_SAVE(org_id=tx.org_id, id=incident_id, followers=json.dumps(followers, sort_keys=True)))

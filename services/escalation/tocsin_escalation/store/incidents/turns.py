"""Whose turn it is at levels that page one person after the other, in PostgreSQL."""

import json
from collections.abc import Collection, Mapping
from typing import Final

from tocsin_kit.db.pool import Tx

Key = tuple[str, str]
"""The tenant and the policy's id."""

_WANTED: Final = "JOIN unnest($1::text[], $2::text[]) AS w(org_id, policy_id) USING (org_id, policy_id)"
_KNOWN: Final = f"SELECT t.org_id, t.policy_id, t.users FROM policy_turns t {_WANTED}"
_LOCK: Final = f"{_KNOWN} ORDER BY t.org_id, t.policy_id FOR UPDATE OF t"
_AWAY: Final = """SELECT DISTINCT a.org_id, a.user_id FROM absences a
           JOIN unnest($1::text[], $2::text[]) AS w(org_id, user_id) USING (org_id, user_id)
           WHERE a.start_time <= app_now() AND a.end_time > app_now()"""

# unnest flattens arrays of arrays, so lists of people travel as JSON.
_SAVE: Final = """UPDATE policy_turns t SET users = ARRAY(SELECT jsonb_array_elements_text(n.users))
           FROM unnest($1::text[], $2::text[], $3::jsonb[]) AS n(org_id, policy_id, users)
           WHERE t.org_id = n.org_id AND t.policy_id = n.policy_id"""


async def read(tx: Tx, keys: Collection[Key]) -> dict[Key, tuple[str, ...]]:
    """The existing rows: of each the users who have had a turn, the one of longest ago first."""
    records = await tx.fetch(_KNOWN, [org for org, _ in keys], [id for _, id in keys])
    return {(r["org_id"], r["policy_id"]): tuple(r["users"]) for r in records}


async def lock(tx: Tx, keys: Collection[Key], *, wait: bool = True) -> dict[Key, tuple[str, ...]]:
    """As `read`; no other transaction takes a turn before this one ends. `wait` False leaves out those that another transaction
    holds.

    In the order of their keys, and after the escalations, so that two transactions that share some cannot deadlock.
    """
    query = _LOCK if wait else f"{_LOCK} SKIP LOCKED"
    records = await tx.fetch(query, [org for org, _ in keys], [id for _, id in keys])
    return {(r["org_id"], r["policy_id"]): tuple(r["users"]) for r in records}


async def save(tx: Tx, turns: Mapping[Key, tuple[str, ...]]) -> None:
    """Write locked ones. A deleted policy has no row any more: its incidents go on, and no turn is stored."""
    if turns:
        users = [json.dumps(had) for had in turns.values()]
        await tx.execute(_SAVE, [org for org, _ in turns], [id for _, id in turns], users)


async def away(tx: Tx, people: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the (tenant, user) pairs who are absent now."""
    records = await tx.fetch(_AWAY, [org for org, _ in people], [user for _, user in people])
    return {(record["org_id"], record["user_id"]) for record in records}
